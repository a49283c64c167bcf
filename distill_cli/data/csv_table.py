"""Any table: features in columns, one label column, one file or train, validation and test files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import array_fingerprint, check_groups_apart, class_order, from_source
from distill_cli.data.splits import check_fraction, cut_validation, grouped_rows, stratified_rows
from distill_cli.data.table import Table, line_of, read_table
from distill_cli.errors import UserError
from distill_cli.files import hash_file
from distill_cli.types import Dataset


def csv_table(
    path: str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    label: str | int | None = None,
    header: bool | str = "auto",
    group: str | int | None = None,
    split_seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    delimiter: str = ",",
) -> Dataset:
    """A CSV table: samples of shape [F], standardised by the model with the statistics of its training rows.

    Labels may be text or whole numbers (``1.0`` is the class ``1``); their names are kept.

    Args:
        path: one file, which is then split; or else
        train, val, test: a file each; without `val`, validation is cut from train.
        label: name of the label column (its number in a file without a header); null is the last column.
        header: ``auto``, true or false.
        group: column of what must not straddle splits (a patient), or null.
        split_seed: moves the split; 0 or more.
        val_fraction: share of the rows that are not test.
        test_fraction: share of all rows of `path`.
        delimiter: one character.

    Raises:
        UserError: with file, line and column, for whatever is not such a table.
    """
    check_fraction("val_fraction", val_fraction)
    check_fraction("test_fraction", test_fraction)
    files = _files(path, train, val, test)
    options = (None if label is None else str(label), None if group is None else str(group), header, delimiter)
    tables = {part: read_table(file, *options) for part, file in files.items()}
    _check_files_differ(files)
    _check_same_columns(tables)
    labels = np.concatenate([t.labels for t in tables.values()])
    class_names = class_order(labels.tolist())
    _check_classes(tables, class_names)
    x = np.concatenate([t.x for t in tables.values()])
    y = np.searchsorted(np.sort(class_names), labels)
    y = np.array([class_names.index(c) for c in np.sort(class_names)])[y]
    groups = [t.group for t in tables.values() if t.group is not None]
    names = np.concatenate(groups) if groups else None
    rows = _rows(tables, y, names, val_fraction, test_fraction, split_seed)
    content = (x, labels) if names is None else (x, labels, names)
    return from_source(
        Path(path or train or "").stem,
        x,
        y,
        rows,
        class_names=class_names,
        source_fingerprint=array_fingerprint(*content),
        group=names,
        grouped=names is not None,
        split="random" if path else "files",
        prepare="standardise",
        columns=next(iter(tables.values())).layout.named,
        files=[(t.layout.path.name, len(t.x)) for t in tables.values()],
    )


def _files(path: str | None, train: str | None, val: str | None, test: str | None) -> dict[str, str]:
    """Return the files by part: ``all``, or train, val, test."""
    if path is not None and not (train or val or test):
        return {"all": path}
    if path is None and train is not None and test is not None:
        return {k: v for k, v in (("train", train), ("val", val), ("test", test)) if v is not None}
    raise UserError("csv: set dataset.path to one file, or dataset.train and dataset.test (and dataset.val) to one each")


def _check_files_differ(files: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for part, file in files.items():
        other = seen.setdefault(hash_file(file), part)
        if other != part:
            raise UserError(f"{file}: {part} and {other} are the same table; a score on rows that were trained on says nothing")


def _check_same_columns(tables: Mapping[str, Table]) -> None:
    first = next(iter(tables.values())).layout
    for table in tables.values():
        here = table.layout
        if len(here.columns) != len(first.columns):
            raise UserError(
                f"{here.path}: {len(here.columns)} columns, but {first.path} has {len(first.columns)}; make them equal"
            )
        for i, (a, b) in enumerate(zip(here.columns, first.columns, strict=True)):
            if a != b:
                raise UserError(f"{here.path}: column {i + 1} is '{a}', but '{b}' in {first.path}; make the columns equal")


def _check_classes(tables: Mapping[str, Table], class_names: tuple[str, ...]) -> None:
    """Say which file and line holds a class that cannot be learned or split."""
    part, first = next(iter(tables.items()))
    known, counts = np.unique(first.labels, return_counts=True)
    where = f"column '{first.layout.columns[first.layout.label]}'"
    if len(known) < 2:
        raise UserError(f"{first.layout.path}: {where} holds one class only ('{known[0]}'); a classifier needs at least two")
    for table in tables.values():
        strange = np.flatnonzero(~np.isin(table.labels, known))
        if len(strange):
            c, line = table.labels[strange[0]], line_of(table, int(strange[0]))
            raise UserError(f"{table.layout.path}: line {line}: class '{c}' is not in {first.layout.path}; give train rows of it")
    needed = 3 if part == "all" else 1 if "val" in tables else 2
    if counts.min() < needed:
        c, n = known[counts.argmin()], counts.min()
        raise UserError(
            f"{first.layout.path}: class '{c}' has {n} row{'s' if n > 1 else ''}; "
            f"splitting needs {needed} of each class: add rows, or leave the class out"
        )


def _rows(
    tables: Mapping[str, Table],
    y: np.ndarray,
    group: np.ndarray | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
) -> dict[str, np.ndarray]:
    """Return positions of each pool's rows in the concatenated tables."""
    if "all" in tables:
        if group is None:
            return stratified_rows(y, test_fraction, val_fraction, split_seed)
        val = val_fraction * (1 - test_fraction)
        return grouped_rows(y, group, {"train": 1 - test_fraction - val, "val": val, "test": test_fraction}, split_seed)
    ends = np.cumsum([len(t.labels) for t in tables.values()])
    rows = {k: np.arange(end - len(t.labels), end) for (k, t), end in zip(tables.items(), ends, strict=True)}
    if group is not None:
        check_groups_apart(str(tables["train"].layout.path), {k: group[r] for k, r in rows.items()})
    if "val" in tables:
        return rows
    if group is None:
        return {**cut_validation(y, rows["train"], val_fraction, split_seed), "test": rows["test"]}
    cut = grouped_rows(y[rows["train"]], group[rows["train"]], {"train": 1 - val_fraction, "val": val_fraction}, split_seed)
    return {**{k: rows["train"][r] for k, r in cut.items()}, "test": rows["test"]}
