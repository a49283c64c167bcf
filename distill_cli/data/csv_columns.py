"""Selection of the feature columns of a table.

By name where both table and model have names, else in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distill_cli.data.csv_reader import CsvReader, typed_columns
from distill_cli.errors import UserError, did_you_mean

IN_ORDER = "The model does not know its features by name: columns are taken in their order."
MOST_NAMES = 5  # in a message


@dataclass(frozen=True)
class ColumnSpec:
    """Description of the columns that a table should have.

    Attributes:
        shape: shape of one sample; a row holds the values in order.
        features: names of the values in the model or in the first table, or empty.
        metadata: names of further columns of that table (label, group, dropped ones), which are left out.
        drop: names, or numbers from 1, of columns to leave out.
        header: True, False or ``auto``.
        owner: owner of the features in messages.
    """

    shape: tuple[int, ...]
    features: Sequence[str] = ()
    metadata: Sequence[str] = ()
    drop: Sequence[str] = ()
    header: bool | str = "auto"
    owner: str = "this model"

    @property
    def width(self) -> int:
        """Number of values of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names that a header may hold."""
        return (*self.features, *self.metadata)


def match_columns(reader: CsvReader, spec: ColumnSpec, ignored: Iterable[int] = ()) -> tuple[int, ...]:
    """Return the positions of the features, in the model's order.

    Args:
        reader: reader of the table.
        spec: description of the columns.
        ignored: positions of columns that are no features, such as the label's.

    Raises:
        UserError: a column is missing, occurs twice, or is no feature of the model.
    """
    names = reader.columns
    where = f"{reader.where}: line {reader.first_line}"
    ignored = {*ignored, *dropped_columns(reader, spec.drop)}
    if reader.has_header and spec.features:
        return _by_name(reader, where, ignored, spec)
    positions = tuple(i for i in range(len(names)) if i not in ignored)
    if len(positions) != spec.width:
        have = f"{len(names)} columns" + (f", {len(positions)} without label and drop" if ignored else "")
        last = f"; leave a label's column out{_with_drop(reader, positions[-1:])}"
        hint = last if len(positions) == spec.width + 1 else ""
        raise UserError(f"{where}: {have}; a sample of {spec.owner} has {spec.width} features{hint}")
    return positions


def dropped_columns(reader: CsvReader, drop: Iterable[str]) -> set[int]:
    """Return the positions of columns given by name, or by number from 1.

    Raises:
        UserError: there is no such column.
    """
    positions, names = set(), reader.columns
    for name in map(str, drop):
        if name in names:
            positions |= {i for i, column in enumerate(names) if column == name}
        elif name.isdecimal() and 1 <= int(name) <= len(names):
            positions.add(int(name) - 1)
        else:
            known = f"{did_you_mean(name, names)} (name it, or give its number, 1 to {len(names)})"
            raise UserError(f"{reader.where}: line {reader.first_line}: {reader.option}drop={name}: no such column{known}")
    return positions


def column_position(reader: CsvReader, name: str, role: str) -> int:
    """Return the position of a column.

    Raises:
        UserError: there is no column of this name.
    """
    names = reader.columns
    if name in names:
        return names.index(name)
    where = f"columns: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    where = where if reader.has_header else f"no header: columns are 1 to {len(names)}"
    raise UserError(f"{reader.where}: no {role} column '{name}'{did_you_mean(name, names)} ({where})")


def _by_name(reader: CsvReader, where: str, ignored: set[int], spec: ColumnSpec) -> tuple[int, ...]:
    names, known = reader.columns, set(spec.features)
    positions: dict[str, int] = {}
    for i, name in enumerate(names):
        if i in ignored or (name not in known and name in spec.metadata):
            continue
        if name in positions:
            raise UserError(f"{where}, column {i + 1}: column name '{name}' occurs twice; rename one")
        positions[name] = i
    extra = [i for name, i in positions.items() if name not in known]
    missing = [name for name in spec.features if name not in positions]
    if extra:
        hint = did_you_mean(names[extra[0]], missing) if len(extra) == 1 else ""
        lacking = f", and {_quoted(missing)} {'is' if len(missing) == 1 else 'are'} missing" if missing and not hint else ""
        column_text = f", column {extra[0] + 1}" if len(extra) == 1 else ""
        are = "is no feature" if len(extra) == 1 else "are no features"
        remedy = "if it is none, leave it out" if len(extra) == 1 else "leave out those that are none"
        raise UserError(
            f"{where}{column_text}: {_quoted([names[i] for i in extra])} {are} of {spec.owner}{lacking}{hint}; "
            f"{remedy}{_with_drop(reader, extra)}"
        )
    if missing:
        are, them = ("a feature", "it") if len(missing) == 1 else ("features", "them")
        columns = f"no column{'s' * (len(missing) > 1)} {_quoted(missing)}, {are} of {spec.owner}"
        raise UserError(f"{where}: {columns}; add {them}{', or set header=false' if reader.option == '' else ''}")
    return tuple(positions[name] for name in spec.features)


def _with_drop(reader: CsvReader, positions: Sequence[int]) -> str:
    return "" if reader.option is None else f" with {reader.option}drop=[{typed_columns(reader.columns, positions)}]"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
