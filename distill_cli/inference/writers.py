"""Output files of `distill predict`, written as the predictions come.

A CSV table holds classes and probabilities, a .npy array probabilities.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

import numpy as np

from distill_cli.inference.batching import ROW
from distill_cli.reports.formatting import spreadsheet_cell
from distill_cli.tasks.task import Task


class Writer(Protocol):
    """Writer of predictions in the order of the input."""

    def add(self, where: Mapping[str, np.ndarray], probabilities: np.ndarray) -> None:
        """Write rows.

        Args:
            where: ``[n]`` identifiers of the rows by column.
            probabilities: ``[n, C]``.
        """
        ...

    def finish(self, rows: int) -> None:
        """Complete the file, given the number of rows of the input."""
        ...


class Table:
    """Writer of a CSV table.

    Columns: the identifiers of the rows, then those of the task: for classes ``predicted`` and a probability for each class.

    Args:
        file: file open for text.
        columns: names of the identifiers.
        class_names: C names.
        task: what was learned.
    """

    def __init__(self, file: IO[str], columns: Sequence[str], class_names: Sequence[str], task: Task) -> None:
        self.columns, self.task = columns, task
        self.names = [spreadsheet_cell(name) for name in class_names]
        self.writer = csv.writer(file, lineterminator="\n")
        shown = task.prediction_columns(np.zeros((0, len(self.names))), self.names)
        self.writer.writerow([*columns, *(name.removeprefix(".") or "predicted" for name in shown)])

    def add(self, where: Mapping[str, np.ndarray], probabilities: np.ndarray) -> None:
        """Write rows."""
        cells = [_cells(where[name]) for name in self.columns]
        cells += [list(column) for column in self.task.prediction_columns(probabilities, self.names).values()]
        self.writer.writerows(zip(*cells, strict=True))

    def finish(self, rows: int) -> None:
        """Do nothing, because a CSV table has no end marker."""


def _cells(column: np.ndarray) -> list[str]:
    return [f"{value:.3f}" for value in column.tolist()] if column.dtype.kind == "f" else [str(n) for n in column.tolist()]


class Array:
    """Writer of a .npy array of probabilities ``[N, C]`` float32.

    N counts all rows of the input; a skipped row is NaN.

    Args:
        file: seekable file open for bytes; the header is rewritten at the end.
        class_names: C names.
    """

    def __init__(self, file: IO[bytes], class_names: Sequence[str]) -> None:
        self.file, self.classes, self.written = file, len(class_names), 0
        self._header()

    def _header(self) -> None:
        # NumPy pads a header so that the first dimension can grow in place
        facts = {"descr": "<f4", "fortran_order": False, "shape": (self.written, self.classes)}
        np.lib.format.write_array_header_1_0(self.file, facts)

    def add(self, where: Mapping[str, np.ndarray], probabilities: np.ndarray) -> None:
        """Write rows, and NaN for skipped rows before them."""
        rows = where[ROW]
        block = np.full((int(rows[-1]) + 1 - self.written, self.classes), np.nan, dtype="<f4")
        block[rows - self.written] = probabilities
        self.file.write(block.tobytes())
        self.written = int(rows[-1]) + 1

    def finish(self, rows: int) -> None:
        """Write NaN for rows skipped at the end, then the final header."""
        self.file.write(np.full((rows - self.written, self.classes), np.nan, dtype="<f4").tobytes())
        self.written = rows
        self.file.seek(0)
        self._header()
