"""One CSV file -> numbers and labels, or the exact line and column that is wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import is_whole
from distill_cli.errors import UserError, near
from distill_cli.types import Columns


@dataclass(frozen=True)
class Layout:
    """How a file is read.

    Attributes:
        path: the file.
        delimiter: one character.
        columns: names; of a file without a header "1", "2", ...
        header_line: 1-based line of the header, 0 without one.
        label, group: positions of these columns; group may be None.
        guessed: whether the header was looked for (``auto``).
    """

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    header_line: int
    label: int
    group: int | None
    guessed: bool

    @property
    def features(self) -> list[int]:
        """Positions of the feature columns."""
        return [i for i in range(len(self.columns)) if i not in (self.label, self.group)]

    @property
    def named(self) -> Columns | None:
        """Names of the columns, where there is a header."""
        if not self.header_line:
            return None
        beside = [i for i in (self.label, self.group) if i is not None]
        return Columns(tuple(self.columns[i] for i in self.features), tuple(self.columns[i] for i in beside))


@dataclass(frozen=True)
class Table:
    """A file's content: ``x [N, F]`` float32, ``labels [N]`` class names, ``group [N]`` names or None."""

    layout: Layout
    x: np.ndarray
    labels: np.ndarray
    group: np.ndarray | None


def read_table(path: str | Path, label: str | None, group: str | None, header: bool | str, delimiter: str) -> Table:
    """Read a CSV file of numeric features and one label column.

    Args:
        path: the file.
        label: name of the label column, or None for the last; a column of a file without a header is named by its number.
        group: name of the column whose rows belong together, or None.
        header: True, False or ``auto``: a header's cells are text where the next row has numbers.
        delimiter: one character; ``\\t`` is a tab.

    Raises:
        UserError: with line and column, for everything that is not such a table.
    """
    layout = _layout(Path(path), label, group, header, "\t" if delimiter == "\\t" else delimiter)
    try:
        x, labels, groups = _read_fast(layout)
    except ValueError as e:
        find_fault(layout)
        raise UserError(f"{path}: cannot read this table ({' '.join(str(e).split())})") from None
    values, codes = np.unique(labels, return_inverse=True)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    sound = bool(np.isfinite(x).all()) and not any(label_fault(v) for v in values.tolist())
    if not sound or (groups is not None and (groups == "").any()):
        find_fault(layout)
    names = np.array([class_name(v) for v in values.tolist()])
    return Table(layout, x, names[codes], groups)


def _read_fast(layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return features float64, labels and groups as pandas reads them, or raise ValueError; `find_fault` then says where."""
    import pandas as pd

    text = {i: str for i in (layout.label, layout.group) if i is not None}
    frame = pd.read_csv(
        layout.path,
        sep=layout.delimiter,
        header=None,
        skiprows=layout.header_line,
        dtype={**dict.fromkeys(layout.features, np.float64), **text},
        na_filter=False,
        encoding="utf-8-sig",
    )
    if frame.shape[1] != len(layout.columns):
        raise ValueError(f"{frame.shape[1]} columns under a header of {len(layout.columns)}")
    words = {i: np.char.strip(frame[i].to_numpy(dtype=object).astype(str)) for i in text}
    return frame[layout.features].to_numpy(), words[layout.label], None if layout.group is None else words[layout.group]


def read_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the 1-based line number and the cells of each row; blank lines are no rows."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f, delimiter=delimiter)
            start = 1
            for row in reader:
                if row:
                    yield start, row
                start = reader.line_num + 1
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; set dataset.path, or dataset.train and dataset.test, to CSV files") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 text (byte 0x{e.object[e.start]:02x}); save the file as UTF-8") from None
    except (OSError, csv.Error) as e:
        raise UserError(f"{path}: cannot read this file ({e})") from None


def number_of(cell: str) -> float | None:
    """Return a cell's number, NaN and infinities included, or None for text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _has_header(rows: list[list[str]], label: str | None) -> bool:
    """Guess: the label's name is there, or text stands where the next row has numbers: everywhere, or over the label alone."""
    first = [c.strip() for c in rows[0]]
    if label is not None and label in first and not is_whole(label):
        return True
    if len(rows) == 1:
        return all(number_of(c) is None for c in first)
    over_numbers = [i for i, (_, c) in enumerate(zip(first, rows[1], strict=False)) if number_of(c) is not None]
    text = [i for i in over_numbers if first[i] and number_of(first[i]) is None]
    return bool(text) and (text == over_numbers or text == [len(first) - 1])


def _layout(path: Path, label: str | None, group: str | None, header: bool | str, delimiter: str) -> Layout:
    if len(delimiter) != 1:
        raise UserError(f"delimiter must be one character, got '{delimiter}'")
    if header not in (True, False, "auto"):
        raise UserError(f"header must be auto, true or false, got '{header}'")
    head = [row for row, _ in zip(read_rows(path, delimiter), range(2), strict=False)]
    if not head:
        raise UserError(f"{path}: the file is empty; it needs one row a sample")
    first = [c.strip() for c in head[0][1]]
    if len(first) < 2:
        raise UserError(f"{path}: line {head[0][0]} has one column only; is '{delimiter}' the delimiter? (dataset.delimiter=';')")
    named = header is True or (header == "auto" and _has_header([cells for _, cells in head], label))
    if named and len(head) == 1:
        raise UserError(f"{path}: no row after the header; it needs one row a sample")
    columns = first if named else [str(i + 1) for i in range(len(first))]
    for i, name in enumerate(columns):
        if name in columns[:i]:
            raise UserError(f"{path}: line {head[0][0]}: column name '{name}' occurs twice; rename one")
    position = len(columns) - 1 if label is None else _position(path, columns, label, "label", named)
    group_position = None if group is None else _position(path, columns, group, "group", named)
    if position == group_position:
        raise UserError(f"{path}: column '{columns[position]}' cannot be label and group at once")
    if len(columns) == 1 + (group is not None):
        raise UserError(f"{path}: no feature columns beside '{columns[position]}'")
    line = head[1][0] - 1 if named else 0
    return Layout(path, delimiter, tuple(columns), line, position, group_position, header == "auto")


def _position(path: Path, columns: list[str], name: str, role: str, named: bool) -> int:
    if str(name) in columns:
        return columns.index(str(name))
    where = (
        f"columns: {', '.join(columns[:8])}{', ...' if len(columns) > 8 else ''}"
        if named
        else f"no header: columns are 1 to {len(columns)}"
    )
    raise UserError(f"{path}: no {role} column '{name}'{near(name, columns)} ({where})")


def label_fault(cell: str) -> str | None:
    """Say what is wrong with a label, or return None."""
    number = number_of(cell.strip())
    if not cell.strip():
        return "the label is empty; fill it or leave the row out"
    if number is None or (np.isfinite(number) and number == int(number)):
        return None
    return f"label {cell.strip()} is not a class; classes are whole numbers or text"


def class_name(cell: str) -> str:
    """Return the class a label names: ``1.0`` and ``1`` are the same.

    >>> class_name("1.0"), class_name(" flower ")
    ('1', 'flower')
    """
    cell = cell.strip()
    if is_whole(cell):
        return str(int(cell))  # not through float, which would merge long numbers
    number = number_of(cell)
    return cell if number is None else str(int(number))


def feature_fault(cell: str) -> str | None:
    """Say what is wrong with a feature, or return None."""
    if not cell.strip():
        return "empty cell; fill it or leave the row out"
    number = number_of(cell)
    if number is None:
        return f"'{cell.strip()}' is not a number; features must be numeric"
    if number != number:
        return "NaN; fill it or leave the row out"
    with np.errstate(over="ignore"):
        fits = np.isfinite(np.float32(number))
    return None if fits else f"{cell.strip()} is infinite in 32-bit numbers; scale it or leave the row out"


def find_fault(layout: Layout) -> None:
    """Raise UserError for the first cell, in reading order, that does not fit; return when all do."""
    for line, cells in read_rows(layout.path, layout.delimiter):
        if line <= layout.header_line:
            continue
        if len(cells) != len(layout.columns):
            raise UserError(
                f"{layout.path}: line {line} has {len(cells)} cells, the first row has {len(layout.columns)}; make them equal"
            )
        for i, cell in enumerate(cells):
            if i == layout.group:
                fault = None if cell.strip() else "the group is empty; fill it or leave the row out"
            else:
                fault = label_fault(cell) if i == layout.label else feature_fault(cell)
            if fault:
                hint = (
                    "; if line 1 holds column names, set dataset.header=true"
                    if layout.guessed and line == 1 and "number;" in fault
                    else ""
                )
                raise UserError(f"{layout.path}: line {line}, column '{layout.columns[i]}': {fault}{hint}")


def line_of(table: Table, row: int) -> int:
    """Return the 1-based line on which a row, counted from 0, begins."""
    lines = (line for line, _ in read_rows(table.layout.path, table.layout.delimiter) if line > table.layout.header_line)
    return next(line for i, line in enumerate(lines) if i == row)
