"""Which columns of a table are a model's features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from distill_cli.data.table import number_of
from distill_cli.errors import UserError, near


@dataclass(frozen=True)
class Wanted:
    """What is known of a table's columns.

    Attributes:
        shape: of one sample; a row holds its values in order.
        features: names of these values as the model knows them, or empty.
        beside: names of further columns of its training table (label, group), which are left out.
        drop: names, or numbers from 1, of columns to leave out.
        header: True, False or ``auto``: a first line without a number is one, and one that names a feature.
    """

    shape: tuple[int, ...]
    features: Sequence[str] = ()
    beside: Sequence[str] = ()
    drop: Sequence[str] = ()
    header: bool | str = "auto"

    @property
    def width(self) -> int:
        """Values of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Chosen:
    """What was found.

    Attributes:
        names: of all columns; of a table without a header "1", "2", ...
        features: positions of the features, in the model's order.
        headed: whether the first row holds names.
        notes: what a reader of the output should know.
    """

    names: tuple[str, ...]
    features: tuple[int, ...]
    headed: bool
    notes: list[str] = field(default_factory=list)

    @cached_property
    def whole(self) -> bool:
        """Whether the features are all columns, in their order."""
        return self.features == tuple(range(len(self.names)))


def choose(path: Path, line: int, cells: Sequence[str], wanted: Wanted) -> Chosen:
    """Find the features among a table's columns.

    Args:
        path: the table, for messages.
        line: 1-based, of its first row.
        cells: of its first row.
        wanted: what is known of its columns.

    Raises:
        UserError: a column is missing, occurs twice, or is none of the model's.
    """
    first = [cell.strip() for cell in cells]
    headed = _headed(first, wanted) if wanted.header == "auto" else bool(wanted.header)
    names = tuple(first) if headed else tuple(str(n + 1) for n in range(len(first)))
    where = f"{path}: line {line}"
    dropped = {_dropped(where, names, str(name)) for name in wanted.drop}
    if headed and wanted.features:
        return Chosen(names, _by_name(where, names, dropped, wanted), headed)
    kept = tuple(i for i in range(len(names)) if i not in dropped)
    if len(kept) != wanted.width:
        have = f"{len(names)} columns" + (f", {len(kept)} without drop" if dropped else "")
        hint = f"; leave a label's column out with drop=[{_typed(names, kept[-1])}]" if len(kept) == wanted.width + 1 else ""
        raise UserError(f"{where}: {have}; a sample of this model has {wanted.width} features{hint}")
    notes = ["The model does not know its features by name: columns are taken in their order."] if headed else []
    return Chosen(names, kept, headed, notes)


def _headed(first: Sequence[str], wanted: Wanted) -> bool:
    named = {name for name in wanted.features if number_of(name) is None}
    return bool(named & set(first)) or all(number_of(cell) is None for cell in first)


def _dropped(where: str, names: Sequence[str], name: str) -> int:
    if name in names:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise UserError(f"{where}: drop={name}: no such column{near(name, names)} (name it, or give its number, 1 to {len(names)})")


def _typed(names: Sequence[str], i: int) -> str:
    """Return a column's name as it can be typed in a list, or its number."""
    return names[i] if re.fullmatch(r"[A-Za-z_][\w-]*", names[i], re.ASCII) else str(i + 1)


def _by_name(where: str, names: Sequence[str], dropped: set[int], wanted: Wanted) -> tuple[int, ...]:
    known = set(wanted.features)
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if i in dropped or (name not in known and name in wanted.beside):
            continue
        if name not in known:
            raise UserError(
                f"{where}, column {i + 1}: '{name}' is no feature of this model{near(name, known - set(names))}; "
                f"if it is none, leave it out with drop=[{_typed(names, i)}]"
            )
        if name in seen:
            raise UserError(f"{where}, column {i + 1}: column name '{name}' occurs twice; rename one")
        seen[name] = i
    for name in wanted.features:
        if name not in seen:
            raise UserError(f"{where}: no column '{name}', a feature of this model; add it, or set header=false")
    return tuple(seen[name] for name in wanted.features)
