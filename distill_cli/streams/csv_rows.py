"""A CSV file of any size -> rows, block by block. Sound blocks are parsed at once; one with a fault is read cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from distill_cli.data.table import feature_fault
from distill_cli.errors import UserError
from distill_cli.streams.columns import Wanted, choose
from distill_cli.streams.piece import ROW, Piece, left_out

BLOCK_BYTES = 1 << 22
LONGEST_ROW_BYTES = 1 << 24
BOM = b"\xef\xbb\xbf"


class CsvRows:
    """The rows of a CSV file (see `piece.Stream`).

    Args:
        path: the file.
        wanted: which of its columns are the model's features.
        delimiter: one character; ``\\t`` is a tab.
        skip: whether bad rows are left out.
        block: bytes that are parsed at once; 0: 4 MiB.

    Raises:
        UserError: no rows, or columns that are not the model's.
    """

    columns: tuple[str, ...] = (ROW,)

    def __init__(self, path: Path, wanted: Wanted, delimiter: str = ",", skip: bool = False, block: int = 0) -> None:
        self.path, self.shape, self.skip, self.block = path, wanted.shape, skip, block or BLOCK_BYTES
        self.delimiter = "\t" if delimiter == "\\t" else delimiter
        if len(self.delimiter) != 1:
            raise UserError(f"delimiter must be one character, got '{delimiter}'")
        first, head = b"", []
        with _opened(path) as f:
            top = f.tell()
            for part in _blocks(f, path, BLOCK_BYTES):
                first += part
                head = list(islice(self._rows_of(first, 1), 2))
                if len(head) == 2:
                    break
        if not head:
            raise UserError(f"{path}: the file is empty; it needs one row a sample")
        try:
            self.chosen = choose(path, *head[0], wanted)
        except UserError:
            self._not_so_separated(*head[0])
            raise
        if self.chosen.headed and len(head) == 1:
            raise UserError(f"{path}: no row after the header; it needs one row a sample")
        self.lines_above = head[1][0] - 1 if self.chosen.headed else 0
        self.start = top + sum(map(len, islice(io.BytesIO(first), self.lines_above)))  # bytes
        self.total = path.stat().st_size
        self.notes = self.chosen.notes

    def _not_so_separated(self, line: int, cells: Sequence[str]) -> None:
        """Refuse a first row that is no text of such cells at all."""
        if any("\ufffd" in cell or "\0" in cell for cell in cells):
            raise UserError(f"{self.path}: line {line}: no UTF-8 text; save the file as UTF-8")
        other = next((sign for sign in ";\t|," if sign != self.delimiter and sign in cells[0]), None)
        if len(cells) == 1 and other:
            sign = "\\t" if other == "\t" else other
            one = f"{self.path}: line {line}: one cell, as cells end at '{self.delimiter}'"
            raise UserError(f"{one}; do they end at '{sign}'? then: 'delimiter={sign}'")

    def pieces(self) -> Iterator[Piece]:
        """Yield the rows in order.

        Raises:
            UserError: a row that cannot be used, with line and column, unless such rows are left out.
        """
        line, row = self.lines_above + 1, 0
        with _opened(self.path) as f:
            f.seek(self.start)
            for block in _blocks(f, self.path, self.block):
                x = self._parsed(block)
                faults: list[str] = []
                kept = np.arange(0 if x is None else len(x))
                read = len(kept)
                if x is None:
                    x, kept, faults, read = self._cell_by_cell(block, line)
                line += block.count(b"\n")
                yield Piece(x.reshape(-1, *self.shape), {ROW: row + kept}, row + read, f.tell(), faults)
                row += read

    def _parsed(self, block: bytes) -> np.ndarray | None:
        """Return the features ``[n, F]`` float32 of a block without a fault, else None."""
        import pandas as pd

        features, width = self.chosen.features, len(self.chosen.names)
        types: Any = np.float64
        if len(features) < width:
            types = {i: np.float64 if i in features else str for i in range(width)}
        read = io.BytesIO(block)
        try:
            frame = pd.read_csv(read, sep=self.delimiter, header=None, dtype=types, na_filter=False, low_memory=False)
        except pd.errors.EmptyDataError:
            return np.empty((0, len(features)), dtype=np.float32)
        except ValueError:  # of which parsing and decoding errors are kinds
            return None
        if frame.shape[1] != width:
            return None
        with np.errstate(over="ignore"):
            x = (frame if self.chosen.whole else frame[list(features)]).to_numpy(np.float32)
        return x if np.isfinite(x).all() else None

    def _cell_by_cell(self, block: bytes, line: int) -> tuple[np.ndarray, np.ndarray, list[str], int]:
        """Return the features of the usable rows of a block, their numbers in it, what is wrong with the others, and all rows."""
        values: list[list[float]] = []
        kept: list[int] = []
        faults: list[str] = []
        row = -1
        for row, (at, cells) in enumerate(self._rows_of(block, line)):
            if fault := self._fault(at, cells):
                faults.append(left_out(f"{self.path}: {fault}", skip=self.skip))
            else:
                values.append([float(cells[i]) for i in self.chosen.features])
                kept.append(row)
        x = np.array(values, dtype=np.float32).reshape(-1, len(self.chosen.features))
        return x, np.array(kept, dtype=np.int64), faults, row + 1

    def _fault(self, line: int, cells: Sequence[str]) -> str | None:
        names = self.chosen.names
        if len(cells) != len(names):
            return f"line {line} has {len(cells)} cells, the first row has {len(names)}; make them equal"
        faults = ((names[i], feature_fault(cells[i])) for i in self.chosen.features)
        return next((f"line {line}, column '{name}': {fault}" for name, fault in faults if fault), None)

    def _rows_of(self, block: bytes, line: int) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells of each row; lines of white space are no rows."""
        reader = csv.reader(io.StringIO(block.decode("utf-8", errors="replace"), newline=""), delimiter=self.delimiter)
        start = line
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield start, cells
                start = line + reader.line_num
        except csv.Error as e:
            raise UserError(f"{self.path}: line {start}: cannot be read ({e})") from None


def _opened(path: Path) -> IO[bytes]:
    try:
        f = open(path, "rb")  # noqa: SIM115  (the caller closes it)
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror})") from None
    if f.read(len(BOM)) != BOM:
        f.seek(0)
    return f


def _blocks(f: IO[bytes], path: Path, size: int) -> Iterator[bytes]:
    """Yield a file in blocks of whole rows.

    Raises:
        UserError: a row of more than 16 MiB, as where a quotation mark is never closed.
    """
    rest = b""
    while new := f.read(size):
        block = rest + new
        end = _last_row_end(block)
        rest = block[end:]
        if len(rest) > LONGEST_ROW_BYTES:
            raise UserError(f"{path}: no row ends in {len(rest) >> 20} MiB before byte {f.tell():,}; is a quotation mark open?")
        if end:
            yield block[:end]
    if rest:
        yield rest


def _last_row_end(block: bytes) -> int:
    """Return where the last whole row ends; a line break inside a quoted cell ends none."""
    end = block.rfind(b"\n") + 1
    quotes = block.count(b'"', 0, end)
    while end and quotes % 2:
        earlier = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', earlier, end)
        end = earlier
    return end
