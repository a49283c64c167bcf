"""Data sets built from arrays in memory.

For the loaders of this folder and for a user's own data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_cli.data.csv_reader import number_of
from distill_cli.data.splits import Rows
from distill_cli.errors import UserError
from distill_cli.types import Columns, Dataset, Pool, Source
from distill_cli.utils.files import hash_bytes, hash_json

Labelled = tuple[Any, Any]
"""Features ``[N, *shape]`` and ``[N]`` labels of one split."""


def array_fingerprint(*arrays: np.ndarray) -> str:
    """Return a hash of the arrays' types, shapes and content."""
    parts: list[bytes] = []
    for a in arrays:
        parts += [f"{a.dtype.str}{a.shape}".encode(), np.ascontiguousarray(a).tobytes()]
    return hash_bytes(*parts)


def is_whole(name: str) -> bool:
    """Return whether a class is named by a whole number."""
    return re.fullmatch(r"-?\d+", name) is not None


def number_name(text: str) -> str | None:
    """Return the canonical name of a number in text, or None for other text.

    >>> number_name("1.0"), number_name(" 007"), number_name("0.50"), number_name("ham")
    ('1', '7', '0.5', None)
    """
    text = text.strip()
    if is_whole(text):
        return str(int(text))  # not through float, which would merge long numbers
    number = number_of(text)
    if number is None or not np.isfinite(number):
        return None
    return str(int(number)) if number == int(number) else repr(number)


def named_class(text: str, class_names: Sequence[str]) -> str | None:
    """Return the class with a name, as written or as a number, or None."""
    return next((name for name in (text, number_name(text)) if name in class_names), None)


def compared_as_numbers(texts: np.ndarray) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Return names under which equal numbers are equal.

    Where any text is no number, the texts are returned unchanged.

    All labels, groups and row ids are compared by this rule, whatever file they come from.

    Args:
        texts: ``[N]`` labels or ids in text.

    Returns:
        names ``[N]``, and for each name that is written in several ways the tuple of its texts.

    >>> compared_as_numbers(np.array(["1", "2.0", "1.0"]))
    (array(['1', '2', '1'], dtype='<U1'), [('1', '1.0')])
    """
    distinct, codes = np.unique(texts, return_inverse=True)
    ways: dict[str, list[str]] = {}
    for text in distinct.tolist():
        if (name := number_name(text)) is None:
            return texts, []
        ways.setdefault(name, []).append(text)
    names = np.array([number_name(text) for text in distinct.tolist()], dtype=str)
    return names[codes], [tuple(texts) for texts in ways.values() if len(texts) > 1]


def merged_note(kind: str, merged: Sequence[tuple[str, ...]]) -> str:
    """Return the note that names in text were compared as numbers."""
    some = "; ".join(" = ".join(f"'{text}'" for text in texts) for texts in merged[:3])
    return f"Numbers in text are compared as numbers: {kind} that are one: {some}{'; ...' if len(merged) > 3 else '.'}"


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct class names in class order.

    By value when all are whole numbers, else as text.

    >>> class_order(["10", "9"]), class_order(["b", "10", "a"])
    (('9', '10'), ('10', 'a', 'b'))
    """
    distinct = set(names)
    if all(is_whole(n) for n in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def from_source(
    name: str,
    x: Source,
    y: np.ndarray,
    rows: Rows,
    *,
    class_names: Sequence[str],
    source_fingerprint: str,
    settings: Mapping[str, Any] | None = None,
    index: np.ndarray | None = None,
    group: np.ndarray | None = None,
    averaged: Sequence[int] | None = None,
    grouped: bool = False,
    split: str = "random",
    preprocessing: str = "none",
    notes: Sequence[str] = (),
    columns: Columns | None = None,
    display_shape: tuple[int, ...] | None = None,
    files: Sequence[tuple[str, int]] = (),
    task: str = "classification",
) -> Dataset:
    """Build a data set whose pools are views of one source.

    Args:
        name: name of the data set in reports.
        x: ``[M, *shape]`` float32 features; may be memory-mapped, or decode its rows.
        y: ``[M]`` classes 0..C-1, or other targets of the task.
        rows: positions by pool name: train, val, test; further ones are scored only.
        class_names: C names in class order.
        source_fingerprint: hash of the source's content, before any split.
        settings: further content of the fingerprint.
        index: ``[M]`` sample ids; by default the positions.
        group: ``[M]`` names of the groups that must not straddle splits, or None.
        averaged: classes that macro F1 averages; by default all.
        grouped: whether no group straddles the splits.
        split: name of the split.
        preprocessing: ``none``, ``standardize`` or ``standardize_per_element``.
        notes: sentences that a reader of the report must know.
        columns: column names of the table that was read, or None where the columns have none.
        display_shape: shape in which a sample is drawn where it differs from the sample's, or None.
        files: name and number of rows of each file, where `index` counts the files' rows in turn.
        task: what is learned.
    """
    index = np.arange(len(x), dtype=np.int64) if index is None else np.asarray(index, dtype=np.int64)
    y = np.asarray(y, dtype=np.int64)
    group = None if group is None else np.asarray(group)
    pools = {k: Pool(x, r, y[r], index[r], None if group is None else group[r]) for k, r in rows.items()}
    cut = {k: array_fingerprint(p.index, p.y) for k, p in pools.items()}
    identity = [source_fingerprint, dict(settings or {}), list(class_names), list(x.shape[1:]), split, cut]
    return Dataset(
        name=name,
        train=pools.pop("train"),
        val=pools.pop("val"),
        test=pools.pop("test"),
        extra_test_sets=pools,
        class_names=tuple(class_names),
        source_fingerprint=source_fingerprint,
        fingerprint=hash_json(identity),
        macro_classes=tuple(range(len(class_names)) if averaged is None else averaged),
        grouped=grouped,
        split=split,
        default_preprocessing=preprocessing,
        notes=tuple(notes),
        columns=columns,
        display_shape=display_shape,
        files=tuple(files),
        task=task,
    )


def from_arrays(
    name: str,
    train: Labelled,
    val: Labelled,
    test: Labelled,
    *,
    groups: tuple[Any, Any, Any] | None = None,
    preprocessing: str = "none",
    notes: Sequence[str] = (),
) -> Dataset:
    """Build a data set from a user's arrays, already cut into three splits.

    Args:
        name: name of the data set in reports.
        train, val, test: ``(x, labels)`` each: features ``[N, *shape]``, and N class names or whole numbers.
        groups: N names of the groups that must not straddle splits (such as patients) for train, val and test, or None.
        preprocessing: input preparation a model gets by default: ``none``, ``standardize`` or ``standardize_per_element``.
        notes: sentences that a reader of the report must know.

    Raises:
        UserError: lengths or shapes that do not match, a group in two splits.

    >>> import numpy as np
    >>> part = np.zeros((2, 3)), ["no", "yes"]
    >>> from_arrays("toy", part, part, part).class_names
    ('no', 'yes')
    """
    parts = {"train": train, "val": val, "test": test}
    features = {k: np.asarray(p[0], dtype=np.float32) for k, p in parts.items()}
    labels = {k: _class_names_of(name, k, np.asarray(p[1])) for k, p in parts.items()}
    for k, x in features.items():
        if len(x) != len(labels[k]):
            raise UserError(f"{name}: {k} has {len(x)} rows of features and {len(labels[k])} labels")
        if x.shape[1:] != features["train"].shape[1:]:
            raise UserError(f"{name}: a sample of {k} has shape {x.shape[1:]}, one of train {features['train'].shape[1:]}")
    group = None
    if groups is not None:
        names = {k: np.asarray(g).astype(str) for k, g in zip(parts, groups, strict=True)}
        for k, g in names.items():
            if len(g) != len(labels[k]):
                raise UserError(f"{name}: {k} has {len(labels[k])} rows and {len(g)} group names")
        names, merged = _merged(names)
        notes = [*notes, *([merged_note("groups", merged)] if merged else [])]
        check_groups_apart(name, names)
        group = np.concatenate(list(names.values()))
    labels, merged = _merged(labels)
    notes = [*notes, *([merged_note("labels", merged)] if merged else [])]
    class_names = class_order(np.concatenate(list(labels.values())).tolist())
    code = {c: i for i, c in enumerate(class_names)}
    x = np.concatenate(list(features.values()))
    y = np.array([code[c] for part in labels.values() for c in part], dtype=np.int64)
    ends = np.cumsum([len(f) for f in features.values()])
    rows = {k: np.arange(end - len(f), end) for (k, f), end in zip(features.items(), ends, strict=True)}
    content = (x, y) if group is None else (x, y, group)
    return from_source(
        name,
        x,
        y,
        rows,
        class_names=class_names,
        source_fingerprint=array_fingerprint(*content),
        group=group,
        grouped=group is not None,
        split="given",
        preprocessing=preprocessing,
        notes=notes,
    )


def _merged(parts: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[tuple[str, ...]]]:
    """Return the names of each split, and the texts that name one number.

    A number that is written in several ways gets one name.
    """
    names, merged = compared_as_numbers(np.concatenate(list(parts.values())))
    if not merged:
        return dict(parts), []
    return dict(zip(parts, np.split(names, np.cumsum([len(part) for part in parts.values()])[:-1]), strict=True)), merged


def _class_names_of(name: str, split: str, labels: np.ndarray) -> np.ndarray:
    """Return labels as class names.

    Whole numbers may come as floats.
    """
    if labels.dtype.kind == "f":
        wrong = np.flatnonzero(labels != np.round(labels))
        if len(wrong):
            raise UserError(
                f"{name}: label {labels[wrong[0]]} at position {wrong[0]} of {split} is not a class; give whole numbers or names"
            )
        labels = labels.astype(np.int64)
    return labels.astype(str)


def check_groups_apart(name: str, groups: Mapping[str, np.ndarray]) -> None:
    """Check that no group is in two splits.

    Raises:
        UserError: names the group and both splits.
    """
    home: dict[str, str] = {}
    for split, names in groups.items():
        for g in np.unique(names).tolist():
            if g in home:
                raise UserError(
                    f"{name}: group '{g}' is in {home[g]} and in {split}; keep each group in one split, or give no groups"
                )
            home[g] = split
