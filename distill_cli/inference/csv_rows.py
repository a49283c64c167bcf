"""Rows of a CSV file of any size, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from distill_cli.data.csv_columns import IN_ORDER, ColumnSpec, match_columns
from distill_cli.data.csv_reader import CsvReader
from distill_cli.errors import UserError
from distill_cli.inference.batching import ROW, RowBlock, skip_or_raise


class CsvRows:
    """The rows of a CSV file, a `Stream`.

    Args:
        path: the file.
        spec: the columns that are the model's features.
        delimiter: one character, ``\\t`` for a tab, or ``auto``.
        skip: whether bad rows are skipped.
        block: bytes that are parsed at once; 0: 4 MiB.

    Raises:
        UserError: the file has no rows, or not the model's columns.
    """

    columns: tuple[str, ...] = (ROW,)

    def __init__(self, path: Path, spec: ColumnSpec, delimiter: str = "auto", skip: bool = False, block: int = 0) -> None:
        self.shape, self.skip, self.block = spec.shape, skip, block
        self.reader = CsvReader(path, option="", delimiter=delimiter, header=spec.header, known_names=spec.known_names)
        try:
            self.features = match_columns(self.reader, spec)
        except UserError:
            if error := self.reader.delimiter_error():
                raise UserError(error) from None
            raise
        self.total = self.reader.total_bytes
        self.notes = [IN_ORDER] if self.reader.has_header and not spec.features else []

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the rows in order.

        Raises:
            UserError: a row cannot be used and bad rows are not skipped; the message has line and column.
        """
        for chunk in self.reader.chunks(self.features, on_error=partial(skip_or_raise, skip=self.skip), block=self.block):
            x = chunk.numbers.reshape(-1, *self.shape)
            yield RowBlock(x, {ROW: chunk.rows}, chunk.rows_read, chunk.bytes_read, chunk.errors)
