"""Data sets from CSV tables.

Features in columns and one label column, in one file or in train, validation and test files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import (
    array_fingerprint,
    check_groups_apart,
    class_order,
    compared_as_numbers,
    from_source,
    merged_note,
    number_name,
)
from distill_cli.data.splits import check_fraction, cut_validation, grouped_rows, stratified_rows
from distill_cli.data.table import Table, check_not_numbered, read_table
from distill_cli.errors import UserError
from distill_cli.tasks.registry import CLASSIFICATION, find_task
from distill_cli.types import Columns, Dataset
from distill_cli.utils.files import hash_file

MOST_RARE_CLASSES = 10
MULTILABEL = "multilabel"


def csv_table(
    path: str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    label: str | int | list[str | int] | None = None,
    header: bool | str = "auto",
    group: str | int | None = None,
    split_seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    delimiter: str = "auto",
    drop: list[str | int] | None = None,
    columns: Columns | None = None,
) -> Dataset:
    """Load a CSV table as a data set with samples of shape [F].

    The model standardizes the features with the statistics of its training rows.

    Labels may be text or whole numbers (``1.0`` is the class ``1``).

    Args:
        path: one file (.csv, .tsv, or compressed by gzip), which is then split; or null with
        train, val, test: one file each, whose columns are matched by name; without `val`, validation is cut from train.
        label: name of the label column (its number in a file without a header); null is the last column. A list names columns
            of 0 and 1: labels that do not exclude each other.
        header: ``auto``, true or false.
        group: column of the groups that must not straddle splits (such as patients), or null.
        split_seed: seed of the split, 0 or more.
        val_fraction: share of validation in the rows that are not test, 0..1 exclusive.
        test_fraction: share of test in all rows of `path`, 0..1 exclusive.
        delimiter: one character, or ``auto``.
        drop: columns to leave out, by name or by number from 1.
        columns: columns of a finished model, by whose names the features are matched.

    Raises:
        UserError: the files are no such tables; names file, line and column.
    """
    check_fraction("val_fraction", val_fraction)
    check_fraction("test_fraction", test_fraction)
    files = _files(path, train, val, test)
    several = _label_names(label) if isinstance(label, list) else None
    options = (several or (None if label is None else str(label)), None if group is None else str(group), header, delimiter)
    tables = _tables(files, options, [str(name) for name in drop or ()], columns)
    _check_files_differ(files)
    task = CLASSIFICATION if several is None else MULTILABEL
    labels = np.concatenate([t.labels for t in tables.values()])
    merged_labels: list[tuple[str, ...]] = []
    if several is None:
        labels, merged_labels = compared_as_numbers(labels)
        class_names, y = _classes(tables, labels)
    else:
        first = next(iter(tables.values()))
        class_names, y = tuple(first.reader.columns[i] for i in first.label_columns), labels
    x = np.concatenate([t.x for t in tables.values()])
    names, merged_groups = _groups(tables)
    rows = _rows(tables, find_task(task).strata(y), names, val_fraction, test_fraction, split_seed)
    content = (x, labels) if names is None else (x, labels, names)
    merged = {"labels": merged_labels, "groups": merged_groups}
    return from_source(
        Path(path or train or "").stem.removesuffix(".csv").removesuffix(".tsv"),
        x,
        y,
        rows,
        class_names=class_names,
        source_fingerprint=array_fingerprint(*content),
        group=names,
        grouped=names is not None,
        split="random" if path else "files",
        preprocessing="standardize",
        notes=[merged_note(kind, texts) for kind, texts in merged.items() if texts],
        columns=next(iter(tables.values())).named,
        files=[(Path(file).name, len(table.x)) for file, table in tables.items()],
        task=task,
    )


def _label_names(label: list[str | int]) -> list[str]:
    """Return the names of several label columns, each once."""
    names = [str(name) for name in label]
    if not names or len(set(names)) < len(names):
        typed = f"dataset.label=[{','.join(names)}]"
        raise UserError(f"{typed}: name each column of 0 and 1 once, such as [sea,sky], or one column of classes")
    return names


def _classes(tables: Mapping[str, Table], labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the class names, and of each row ``[N]`` the number of its class."""
    class_names = class_order(labels.tolist())
    ends = np.cumsum([len(t.labels) for t in tables.values()])
    _check_classes(tables, dict(zip(tables, np.split(labels, ends[:-1]), strict=True)), class_names)
    y = np.searchsorted(np.sort(class_names), labels)
    return class_names, np.array([class_names.index(c) for c in np.sort(class_names)])[y]


def _tables(
    files: Mapping[str, str],
    options: tuple[str | list[str] | None, str | None, bool | str, str],
    drop: Sequence[str],
    columns: Columns | None,
) -> dict[str, Table]:
    """Read the files by part.

    The first with a finished model's columns or with its own, the others with those of the first.
    """
    tables: dict[str, Table] = {}
    for part, file in files.items():
        first = next(iter(tables.values()), None)
        if first is None:
            table = read_table(file, *options, drop, columns)
            if columns is None:
                check_not_numbered(table)
        else:
            table = read_table(file, *options, drop, first.named, str(first.path))
            _check_same_columns(table, first)
        tables[part] = table
    return tables


def _groups(tables: Mapping[str, Table]) -> tuple[np.ndarray | None, list[tuple[str, ...]]]:
    """Return the groups of all rows, one name for each.

    Numbers that are written in one way keep their text.
    """
    groups = [t.group for t in tables.values() if t.group is not None]
    if not groups:
        return None, []
    texts = np.concatenate(groups)
    names, merged = compared_as_numbers(texts)
    return (names if merged else texts), merged


def _files(path: str | None, train: str | None, val: str | None, test: str | None) -> dict[str, str]:
    """Return the files by part, ``all`` or train, val, test."""
    if path is not None and not (train or val or test):
        return {"all": path}
    if path is None and train is not None and test is not None:
        return {k: v for k, v in (("train", train), ("val", val), ("test", test)) if v is not None}
    raise UserError("csv: set dataset.path to one file, or dataset.train and dataset.test (and dataset.val) to one each")


def _check_files_differ(files: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for part, file in files.items():
        same_part = seen.setdefault(hash_file(file), part)
        if same_part != part:
            raise UserError(
                f"{file}: {part} and {same_part} are the same table; a score on rows that were trained on says nothing"
            )


def _check_same_columns(table: Table, first: Table) -> None:
    """Check that a table has the columns of the first table.

    As many features, and names where the first has names.
    """
    if table.reader.has_header != first.reader.has_header:
        a, b = (table, first) if first.reader.has_header else (first, table)
        raise UserError(f"{a.path}: no header, but {b.path} has one; give both one, or set dataset.header=true or false")
    if len(table.features) != len(first.features):
        counts = f"{len(table.reader.columns)} columns, but {first.path} has {len(first.reader.columns)}"
        raise UserError(f"{table.path}: {counts}; make them equal")


def _check_classes(tables: Mapping[str, Table], labels: Mapping[str, np.ndarray], class_names: tuple[str, ...]) -> None:
    """Check that every class can be learned and split.

    The message names the file and the line.
    """
    part, first = next(iter(tables.items()))
    known, counts = np.unique(labels[part], return_counts=True)
    where = f"column '{first.reader.columns[first.label_columns[0]]}'"
    if len(known) < 2:
        raise UserError(f"{first.path}: {where} holds one class only ('{known[0]}'); a classifier needs at least two")
    if (counts == 1).sum() * 2 > len(known) > MOST_RARE_CLASSES and all(number_name(name) is not None for name in class_names):
        raise UserError(
            f"{first.path}: {where} holds {len(known)} different numbers in {counts.sum()} rows: an amount, no class; "
            "name the column of classes with dataset.label"
        )
    for split, table in tables.items():
        strange = np.flatnonzero(~np.isin(labels[split], known))
        if len(strange):
            c, line = labels[split][strange[0]], table.reader.line_of(int(strange[0]))
            raise UserError(f"{table.path}: line {line}: class '{c}' is not in {first.path}; give train rows of it")
    needed = 3 if part == "all" else 1 if "val" in tables else 2
    if counts.min() < needed:
        c, n = known[counts.argmin()], counts.min()
        raise UserError(
            f"{first.path}: class '{c}' has {n} row{'s' if n > 1 else ''}; "
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
        check_groups_apart(str(tables["train"].path), {k: group[r] for k, r in rows.items()})
    if "val" in tables:
        return rows
    if group is None:
        return {**cut_validation(y, rows["train"], val_fraction, split_seed), "test": rows["test"]}
    cut = grouped_rows(y[rows["train"]], group[rows["train"]], {"train": 1 - val_fraction, "val": val_fraction}, split_seed)
    return {**{k: rows["train"][r] for k, r in cut.items()}, "test": rows["test"]}
