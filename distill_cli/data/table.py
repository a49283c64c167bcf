"""One CSV file as numbers and labels, with errors by line and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill_cli.data.csv_columns import ColumnSpec, column_position, dropped_columns, match_columns
from distill_cli.data.csv_reader import CellCheck, CsvReader, number_of, typed_columns
from distill_cli.errors import UserError
from distill_cli.types import Columns

FEWEST_NUMBERED_ROWS = 5  # fewer rows may count up by chance


@dataclass(frozen=True)
class Table:
    """Content of a CSV file.

    Attributes:
        reader: reader of the file.
        x: ``[N, F]`` float32 features.
        labels: ``[N]`` class names as written in the file; of several label columns ``[N, L]`` int64 of 0 and 1.
        group: ``[N]`` group names as written in the file, or None.
        features: positions of the feature columns, in the order of `x`.
        label_columns: positions of the label columns.
        metadata: positions of all columns that are no features: label, group, dropped ones.
    """

    reader: CsvReader
    x: np.ndarray
    labels: np.ndarray
    group: np.ndarray | None
    features: tuple[int, ...]
    label_columns: tuple[int, ...]
    metadata: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.reader.path

    @property
    def named(self) -> Columns | None:
        """Names of the columns, where there is a header."""
        if not self.reader.has_header:
            return None
        names = self.reader.columns
        return Columns(tuple(names[i] for i in self.features), tuple(names[i] for i in self.metadata))


def read_table(
    path: str | Path,
    label: str | Sequence[str] | None = None,
    group: str | None = None,
    header: bool | str = "auto",
    delimiter: str = "auto",
    drop: Sequence[str] = (),
    columns: Columns | None = None,
    owner: str = "this model",
) -> Table:
    """Read a CSV file of numeric features and one label column, or several of 0 and 1.

    Args:
        path: path of the file.
        label: name of the label column, or None for the one in `columns`, else the last; a column of a file without a
            header is named by its number. A list names several columns.
        group: name of the column whose rows belong together, or None.
        header: True, False or ``auto``.
        delimiter: one character, or ``auto``.
        drop: names, or numbers from 1, of columns to leave out.
        columns: columns of a finished model, or of the first of several tables, by whose names the features are matched.
        owner: owner of these columns in messages.

    Raises:
        UserError: the file is no such table; names line and column.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; set dataset.path, or dataset.train and dataset.test, to CSV files")
    labels = [] if label is None else [label] if isinstance(label, str) else list(label)
    known = ColumnSpec((0,), columns.features, columns.metadata, drop, header, owner) if columns else ColumnSpec((0,), drop=drop)
    names = (*known.known_names, *labels, *drop, *([] if group is None else [group]))
    reader = CsvReader(path, option="dataset.", delimiter=delimiter, header=header, known_names=names, label_last=True)
    if error := reader.delimiter_error():
        raise UserError(error)
    if not labels and columns and columns.metadata and reader.has_header:
        labels = [columns.metadata[0]]
    label_columns = tuple(column_position(reader, name, "label") for name in labels) or (len(reader.columns) - 1,)
    group_columns: tuple[int, ...] = () if group is None else (column_position(reader, group, "group"),)
    if set(group_columns) & set(label_columns):
        raise UserError(f"{path}: column '{reader.columns[group_columns[0]]}' cannot be label and group at once")
    features, dropped = _features(reader, {*label_columns, *group_columns}, known)
    several = label is not None and not isinstance(label, str)
    texts: dict[int, CellCheck] = dict.fromkeys(label_columns, binary_error if several else label_error)
    texts.update(dict.fromkeys(group_columns, group_error))
    chunks = list(reader.chunks(features, texts))
    cells = {i: np.concatenate([chunk.texts[i] for chunk in chunks]) for i in texts}
    values = cells[label_columns[0]]
    if several:
        values = np.stack([cells[i].astype(np.float64).astype(np.int64) for i in label_columns], axis=1)
    x = np.concatenate([chunk.numbers for chunk in chunks])
    groups = cells[group_columns[0]] if group_columns else None
    return Table(reader, x, values, groups, features, label_columns, (*label_columns, *group_columns, *dropped))


def _features(reader: CsvReader, taken: set[int], known: ColumnSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the features and of the dropped columns."""
    names, where = reader.columns, f"{reader.where}: line {reader.first_line}"
    if known.features and reader.has_header:
        left_out = {i for i, name in enumerate(names) if name not in known.features and {name, str(i + 1)} & set(known.drop)}
        features = match_columns(reader, replace(known, drop=()), taken | left_out)
    else:
        dropped = dropped_columns(reader, known.drop)
        features = tuple(i for i in range(len(names)) if i not in taken | dropped)
        for i in features:
            if reader.has_header and not names[i]:
                raise UserError(
                    f"{where}, column {i + 1}: it has no name, as the row numbers of a data frame; leave it out with "
                    f"dataset.drop=[{i + 1}], or give it a name"
                )
            if names[i] in names[:i]:
                raise UserError(f"{where}: column name '{names[i]}' occurs twice; rename one")
    if not features:
        raise UserError(f"{reader.where}: no feature columns beside {', '.join(repr(names[i]) for i in sorted(taken))}")
    _check_no_text(reader, features)
    return features, tuple(i for i in range(len(names)) if i not in taken and i not in features)


def _check_no_text(reader: CsvReader, features: Sequence[int]) -> None:
    """Check that no feature column holds text.

    All text columns are reported at once.
    """
    rows = [cells for cells in reader.rows_of_sample() if len(cells) == len(reader.columns)]
    text = [i for i in features if len(rows) > 1 and all(number_of(cells[i]) is None and cells[i].strip() for cells in rows)]
    if not text or any("," in cells[text[0]] and number_of(cells[text[0]].replace(",", ".")) is not None for cells in rows):
        return
    names = ", ".join(f"'{reader.columns[i]}'" for i in text[:5]) + (", ..." if len(text) > 5 else "")
    holds = f"column {names} holds" if len(text) == 1 else f"columns {names} hold"
    drop = typed_columns(reader.columns, text)
    raise UserError(
        f"{reader.where}: {holds} text ('{rows[0][text[0]].strip()}'), and features must be numeric; leave text out with "
        f"dataset.drop=[{drop}], or write it as numbers"
    )


def check_not_numbered(table: Table) -> None:
    """Check that no feature numbers the rows.

    Sorted data could be learned from such a column alone.

    Raises:
        UserError: names the column.
    """
    if len(table.x) < FEWEST_NUMBERED_ROWS:
        return
    numbers = table.x.astype(np.float64)
    steps = np.diff(numbers[:FEWEST_NUMBERED_ROWS], axis=0)
    for i in np.flatnonzero((steps == 1).all(axis=0) & (numbers[0] == np.round(numbers[0]))).tolist():
        if (np.diff(numbers[:, i]) == 1).all():
            names, position = table.reader.columns, table.features[i]
            raise UserError(
                f"{table.path}: column '{names[position]}' numbers the rows, {numbers[0, i]:.0f} to {numbers[-1, i]:.0f}; "
                f"leave it out with dataset.drop=[{typed_columns(names, [position])}]"
            )


def label_error(cell: str) -> str | None:
    """Return the problem of a label's cell, or None."""
    cell = cell.strip()
    if not cell:
        return "the label is empty; fill it or leave the row out"
    number = number_of(cell)
    if number is None or (np.isfinite(number) and number == int(number)):
        return None
    return f"label {cell} is not a class; classes are whole numbers or text (dataset.label names their column)"


def binary_error(cell: str) -> str | None:
    """Return the problem of a cell of one of several label columns, or None."""
    return (
        None if number_of(cell) in (0, 1) else f"label '{cell.strip()}' is neither 0 nor 1; write 1 where the label holds, else 0"
    )


def group_error(cell: str) -> str | None:
    """Return the problem of a group's cell, or None."""
    return None if cell.strip() else "the group is empty; fill it or leave the row out"
