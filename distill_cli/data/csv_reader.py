"""Reader of delimited text that yields columns block by block.

Records are distinguished from lines, and each bad cell is reported with its line and column.

A block without errors is parsed by pandas at once. A block with an error, or with bytes that are not UTF-8, is read again record
by record.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from distill_cli.errors import UserError

BLOCK_BYTES = 1 << 22
SAMPLE_BYTES = 1 << 16
SAMPLE_RECORDS = 20
LONGEST_RECORD_BYTES = 1 << 24
DELIMITERS = (",", ";", "\t", "|")
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
BOM, GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"
# First bytes of other file formats, and the remedy.
BINARY_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as .npz or .xlsx; save its table as CSV",
    b"\x93NUMPY": "a NumPy array; save it as CSV with numpy.savetxt",
    b"PAR1": "a Parquet file; save its table as CSV",
    b"\x89HDF": "an HDF5 file; save its table as CSV",
    b"SQLite format 3": "an SQLite database; save its table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save its table as CSV",
    b"\xff\xfe": "UTF-16 text; save the file as UTF-8",
    b"\xfe\xff": "UTF-16 text; save the file as UTF-8",
}
LINE_END = re.compile(rb"\r\n?|\n")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")

CellCheck = Callable[[str], str | None]
"""Function that returns the problem of a cell, or None."""


def number_of(cell: str) -> float | None:
    """Return a cell's number, NaN and infinities included, or None for text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def feature_error(cell: str) -> str | None:
    """Return the problem of a feature's cell, or None."""
    cell = cell.strip()
    if not cell:
        return "empty cell; fill it or leave the row out"
    number = number_of(cell)
    if number is None:
        if DECIMAL_COMMA.fullmatch(cell):
            return f"'{cell}' has a decimal comma; write a decimal point: {cell.replace(',', '.')}"
        return f"'{cell}' is not a number; features must be numeric"
    if number != number:
        return "NaN; fill it or leave the row out"
    with np.errstate(over="ignore"):
        fits = np.isfinite(np.float32(number))
    return None if fits else f"{cell} is infinite in 32-bit numbers; scale it or leave the row out"


def encoding_error(cell: str) -> str | None:
    """Return the problem of a cell that is not UTF-8 text, or None."""
    wrong = next((c for c in cell if c == "\0" or "\udc80" <= c <= "\udcff"), None)
    return None if wrong is None else f"not UTF-8 text (byte 0x{ord(wrong) & 0xFF:02x}); save the file as UTF-8"


def refuse(error: str) -> NoReturn:
    """Raise UserError with a record's error."""
    raise UserError(error)


def typed_columns(names: Sequence[str], positions: Sequence[int]) -> str:
    """Return columns as typed in a list option.

    By name, or by number where a name needs quotes.
    """
    return ",".join(names[i] if re.fullmatch(r"[A-Za-z_][\w-]*", names[i], re.ASCII) else str(i + 1) for i in positions)


@dataclass(frozen=True)
class Chunk:
    """Consecutive usable records of a file.

    Attributes:
        numbers: ``[n, F]`` float32 or float64 numbers, all finite.
        texts: ``[n]`` cells without surrounding white space, by position of the column.
        rows: ``[n]`` int64 numbers of the records in the file, counted from 0 below the header.
        rows_read: number of records read so far, bad ones included.
        bytes_read: number of bytes of the file read so far.
        errors: one line for each skipped record.
    """

    numbers: np.ndarray
    texts: Mapping[int, np.ndarray]
    rows: np.ndarray
    rows_read: int
    bytes_read: int
    errors: list[str] = field(default_factory=list)


class CsvReader:
    """Reader of a CSV or TSV file, which may be compressed by gzip.

    Only the first records are read until `chunks` is called.

    Args:
        path: path of the file.
        where: name of the file in messages; by default its path.
        option: prefix of the keys ``delimiter=``, ``header=`` and ``drop=`` in messages, such as ``dataset.``;
            None where there are no such keys.
        delimiter: one character, ``\\t`` for a tab, or ``auto``: the one that splits the first records into equally many cells.
        header: True, False or ``auto``: a first record of text alone, one with a known name, or text where the next has numbers.
        known_names: names that a header may hold.
        label_last: whether text above numbers in the last column alone makes a header, as where features are named by numbers.

    Attributes:
        columns: column names; "1", "2", ... in a file without a header.
        has_header: whether the first record holds names.
        sample: line and cells of the first records, the header included.
        total_bytes: size of the file.

    Raises:
        UserError: no such file, no text, or no records.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        where: str = "",
        option: str | None = None,
        delimiter: str = "auto",
        header: bool | str = "auto",
        known_names: Sequence[str] = (),
        label_last: bool = False,
    ) -> None:
        self.path, self.where, self.option = Path(path), where or str(path), option
        self.delimiter = "\t" if delimiter == "\\t" else delimiter
        if len(self.delimiter) != 1 and delimiter != "auto":
            raise UserError(f"{option or ''}delimiter must be one character or auto, got '{delimiter}'")
        if header not in (True, False, "auto"):
            raise UserError(f"{option or ''}header must be auto, true or false, got '{header}'")
        self._line_end = b"\n"
        top, data = self._read_sample()
        if not self.sample:
            raise UserError(f"{self.where}: the file is empty; it needs one row a sample")
        line, cells = self.sample[0]
        first = [cell.strip() for cell in cells]
        self.has_header = self._is_header(first, known_names, label_last) if header == "auto" else bool(header)
        if error := next(filter(None, map(encoding_error, first if self.has_header else first[:1])), None):
            raise UserError(f"{self.where}: line {line}: {error}")
        if self.has_header and len(self.sample) == 1:
            delimiter_problem = self.delimiter_error() if self._suggested_delimiter() else None
            raise UserError(delimiter_problem or f"{self.where}: no row after the header; it needs one row a sample")
        self.columns = tuple(first) if self.has_header else tuple(str(i + 1) for i in range(len(first)))
        self._header_is_a_guess = header == "auto" and not self.has_header
        self._lines_above = self.sample[1][0] - 1 if self.has_header else 0
        ends = islice(LINE_END.finditer(data), self._lines_above)
        self._start = top + max((end.end() for end in ends), default=0)
        self.total_bytes = self.path.stat().st_size

    @property
    def first_line(self) -> int:
        """1-based line of the first record."""
        return self.sample[0][0]

    def rows_of_sample(self) -> list[list[str]]:
        """Return the cells of the first records below the header."""
        return [cells for _, cells in self.sample[self.has_header :]]

    def delimiter_error(self) -> str | None:
        """Return the error of a first record of one cell, or None.

        The message suggests another delimiter where one fits.
        """
        if len(self.sample[0][1]) > 1:
            return None
        suggestion = self._suggested_delimiter()
        problem = f"{self.where}: line {self.first_line}: one cell, as cells end at '{_shown(self.delimiter)}'"
        if suggestion is None:
            return f"{problem}; name the character at which they end with {self.option}delimiter="
        return f"{problem}; do they end at '{_shown(suggestion)}'? then: '{self.option}delimiter={_shown(suggestion)}'"

    def _suggested_delimiter(self) -> str | None:
        cells = self.sample[0][1]
        return (
            next((sign for sign in DELIMITERS if sign != self.delimiter and sign in cells[0]), None) if len(cells) == 1 else None
        )

    def chunks(
        self,
        numbers: Sequence[int],
        texts: Mapping[int, CellCheck] | None = None,
        *,
        on_error: Callable[[str], str] = refuse,
        block: int = 0,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Iterator[Chunk]:
        """Yield the records below the header, in order.

        Args:
            numbers: positions of columns of finite numbers, in the order of the result.
            texts: check of a cell by position of a column of text.
            on_error: function that takes a record's error and returns the line for `Chunk.errors`, or raises.
            block: number of bytes that are parsed at once; 0: 4 MiB.
            dtype: type of the numbers.
        """
        texts = texts or {}
        line, row = self._lines_above + 1, 0
        with self._opened() as (f, raw):
            f.seek(self._start)
            for data in self._blocks(f, block or BLOCK_BYTES):
                parsed = self._parse(data, numbers, texts, dtype)
                errors: list[str] = []
                if parsed is not None:
                    x, columns = parsed
                    rows, count = np.arange(len(x)), len(x)
                else:
                    x, columns, rows, errors, count = self._parse_cells(data, line, numbers, texts, on_error)
                line += _count_lines(data)
                row += count
                yield Chunk(x.astype(dtype, copy=False), columns, row - count + rows, row, raw.tell(), errors)

    def line_of(self, row: int) -> int:
        """Return the 1-based first line of a record.

        Records are counted from 0 below the header.
        """
        line = self._lines_above + 1
        with self._opened() as (f, _):
            f.seek(self._start)
            for data in self._blocks(f, BLOCK_BYTES):
                for start, _cells in self._records(data, line, self.delimiter):
                    if row == 0:
                        return start
                    row -= 1
                line += _count_lines(data)
        raise IndexError(row)

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Yield the decompressed file behind its byte order mark, and the raw file."""
        try:
            raw = open(self.path, "rb")  # noqa: SIM115  (closed below)
        except OSError as e:
            raise UserError(f"{self.where}: cannot read this file ({e.strerror})") from None
        with raw:
            magic = raw.read(16)
            raw.seek(0)
            if format_hint := next((text for sign, text in BINARY_FORMATS.items() if magic.startswith(sign)), None):
                raise UserError(f"{self.where}: no CSV but {format_hint}")
            f: Any = gzip.GzipFile(fileobj=raw) if magic.startswith(GZIP) else raw
            try:
                if f.read(len(BOM)) != BOM:
                    f.seek(0)
                yield f, raw
            except (EOFError, zlib.error, gzip.BadGzipFile) as e:
                raise UserError(f"{self.where}: a damaged gzip file ({str(e).splitlines()[0]}); pack it again") from None

    def _read_sample(self) -> tuple[int, bytes]:
        """Read the first records into `sample`.

        Returns the position behind the byte order mark and the bytes read.
        """
        data = b""
        self.sample: list[tuple[int, list[str]]] = []
        with self._opened() as (f, _):
            top = f.tell()
            begin = f.read(SAMPLE_BYTES)
            if b"\r" in begin[:-1] and b"\n" not in begin:
                self._line_end = b"\r"
            f.seek(top)
            for part in self._blocks(f, SAMPLE_BYTES):
                data += part
                if len(list(islice(self._records(data, 1, ","), 2))) == 2:
                    break
        if self.delimiter == "auto":
            self.delimiter = self._detect_delimiter(data)
        self.sample = list(islice(self._records(data, 1, self.delimiter), SAMPLE_RECORDS))
        return top, data

    def _detect_delimiter(self, data: bytes) -> str:
        signs = sorted(DELIMITERS, key=lambda sign: sign != "\t") if ".tsv" in self.path.suffixes else DELIMITERS
        tables = {sign: [cells for _, cells in islice(self._records(data, 1, sign), SAMPLE_RECORDS)] for sign in signs}
        several = [sign for sign, rows in tables.items() if rows and len(rows[0]) > 1]
        regular = [sign for sign in several if len({len(cells) for cells in tables[sign]}) == 1]
        if regular[:1] == [","] and ";" in regular:
            with_commas = [cell for cells in tables[";"] for cell in cells if "," in cell]
            if all(DECIMAL_COMMA.fullmatch(cell.strip()) for cell in with_commas):
                return ";"
        return next(iter([*regular, *several]), signs[0])

    def _is_header(self, first: Sequence[str], known_names: Sequence[str], label_last: bool) -> bool:
        if {name for name in known_names if number_of(name) is None} & set(first):
            return True
        if len(self.sample) == 1 or all(number_of(cell) is None for cell in first):
            return all(number_of(cell) is None for cell in first)
        pairs = zip(first, self.sample[1][1], strict=False)
        over_numbers = [i for i, (_, cell) in enumerate(pairs) if number_of(cell) is not None]
        text = [i for i in over_numbers if first[i] and number_of(first[i]) is None]
        return bool(text) and (text == over_numbers or (label_last and text == [len(first) - 1]))

    def _blocks(self, f: IO[bytes], size: int) -> Iterator[bytes]:
        """Yield a file in blocks of whole records.

        Raises:
            UserError: a record of more than 16 MiB, as where a quotation mark is never closed.
        """
        rest = b""
        while part := f.read(size):
            block = rest + part
            end = _last_record_end(block, self._line_end)
            rest = block[end:]
            if len(rest) > LONGEST_RECORD_BYTES:
                raise UserError(
                    f"{self.where}: no row ends in {len(rest) >> 20} MiB before byte {f.tell():,}; is a quotation mark open?"
                )
            if end:
                yield block[:end]
        if rest:
            yield rest

    def _records(self, block: bytes, line: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield first line and cells of each record.

        Lines of white space are no records.
        """
        reader = csv.reader(io.StringIO(block.decode("utf-8", errors="surrogateescape"), newline=""), delimiter=delimiter)
        start = line
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield start, cells
                start = line + reader.line_num
        except csv.Error as e:
            raise UserError(f"{self.where}: line {start}: cannot be read ({e})") from None

    def _parse(
        self, block: bytes, numbers: Sequence[int], texts: Mapping[int, CellCheck], dtype: type[np.floating[Any]]
    ) -> tuple[np.ndarray, dict[int, np.ndarray]] | None:
        """Return the columns of a block without errors, else None."""
        import pandas as pd

        width, last = len(self.columns), len(self.columns) - 1
        types: Any = dict.fromkeys(range(width), object) | dict.fromkeys(numbers, np.float64)
        data = io.BytesIO(block)
        options: Any = {"header": None, "na_filter": False, "low_memory": False, "encoding": "utf-8"}
        try:
            frame = pd.read_csv(data, sep=self.delimiter, dtype=np.float64 if len(numbers) == width else types, **options)
        except pd.errors.EmptyDataError:
            return np.empty((0, len(numbers)), dtype=dtype), {i: np.empty(0, dtype="<U1") for i in texts}
        except ValueError:  # of which parsing and decoding errors are kinds
            return None
        # pandas fills a short record with empty cells
        if frame.shape[1] != width or (last not in numbers and (frame[last] == "").any()):
            return None
        with np.errstate(over="ignore"):
            in_order = list(numbers) == list(range(width))
            x = (frame if in_order else frame[list(numbers)]).to_numpy(dtype)
        columns = {i: np.char.strip(frame[i].to_numpy(dtype=object).astype(str)) for i in texts}
        bad_text = any(check(text) for i, check in texts.items() for text in np.unique(columns[i]).tolist())
        return None if bad_text or not np.isfinite(x).all() else (x, columns)

    def _parse_cells(
        self, block: bytes, line: int, numbers: Sequence[int], texts: Mapping[int, CellCheck], on_error: Callable[[str], str]
    ) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray, list[str], int]:
        """Return the usable records of a block with their errors.

        The columns, the numbers of the usable records in the block, the errors of the others, and the number of all records.
        """
        values: list[list[float]] = []
        cells_of: dict[int, list[str]] = {i: [] for i in texts}
        rows: list[int] = []
        errors: list[str] = []
        row = -1
        for row, (start, cells) in enumerate(self._records(block, line, self.delimiter)):
            if error := self._record_error(start, cells, numbers, texts):
                errors.append(on_error(f"{self.where}: {error}"))
                continue
            values.append([float(cells[i]) for i in numbers])
            for i in texts:
                cells_of[i].append(cells[i].strip())
            rows.append(row)
        x = np.array(values, dtype=np.float64).reshape(-1, len(numbers))
        columns = {i: np.array(column, dtype=str) for i, column in cells_of.items()}
        return x, columns, np.array(rows, dtype=np.int64), errors, row + 1

    def _record_error(
        self, line: int, cells: Sequence[str], numbers: Sequence[int], texts: Mapping[int, CellCheck]
    ) -> str | None:
        if len(cells) != len(self.columns):
            return f"line {line} has {len(cells)} cells, the first row has {len(self.columns)}; make them equal"
        for i in sorted({*numbers, *texts}):
            error = encoding_error(cells[i]) or (texts[i](cells[i]) if i in texts else feature_error(cells[i]))
            if error:
                guess = (
                    self.option is not None and self._header_is_a_guess and line == self.first_line and "not a number" in error
                )
                hint = f"; if line {line} holds column names, set {self.option}header=true" if guess else ""
                return f"line {line}, column '{self.columns[i]}': {error}{hint}"
        return None


def _shown(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter


def _count_lines(block: bytes) -> int:
    """Return the number of line ends, of Unix, Windows or old Mac."""
    ends = block.count(b"\n")
    return ends + block.count(b"\r") - block.count(b"\r\n") if b"\r" in block else ends


def _last_record_end(block: bytes, line_end: bytes) -> int:
    """Return the end of the last whole record.

    A line break inside a quoted cell ends no record.
    """
    end = block.rfind(line_end) + 1
    quotes = block.count(b'"', 0, end)
    while end and quotes % 2:
        earlier = block.rfind(line_end, 0, end - 1) + 1
        quotes -= block.count(b'"', earlier, end)
        end = earlier
    return end
