"""One reader of delimited text: records and lines, delimiters, headers, packed files, bad records."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_cli.data.csv_reader import CsvReader, feature_error
from distill_cli.data.table import read_table
from distill_cli.errors import UserError


def put(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def error_of(call: Any) -> str:
    with pytest.raises(UserError) as e:
        call()
    assert "\n" not in str(e.value)
    return str(e.value)


def everything(reader: CsvReader, **options: Any) -> tuple[list[list[float]], list[int]]:
    chunks = list(reader.chunks(range(len(reader.columns)), **options))
    return [row for chunk in chunks for row in chunk.numbers.tolist()], [n for chunk in chunks for n in chunk.rows.tolist()]


SAME = {
    "Unix": "a,b\n1,2\n3,4\n",
    "Windows": "a,b\r\n1,2\r\n3,4\r\n",
    "old Mac": "a,b\r1,2\r3,4\r",
    "old Mac without the last": "a,b\r1,2\r3,4",
    "byte order mark": "\ufeffa,b\n1,2\n3,4\n",
    "blank lines": "\n\na,b\n\n1,2\n  \n3,4\n\n",
    "white space": " a , b \n 1 , 2 \n 3 , 4 \n",
    "quoted": '"a","b"\n"1","2"\n"3","4"\n',
    "semicolons": "a;b\n1;2\n3;4\n",
    "tabs": "a\tb\n1\t2\n3\t4\n",
    "bars": "a|b\n1|2\n3|4\n",
}


@pytest.mark.parametrize("block", [1, 7, 0])
@pytest.mark.parametrize("kind", SAME)
def test_however_it_is_written_a_table_reads_the_same(tmp_path: Path, kind: str, block: int) -> None:
    for path in (put(tmp_path, SAME[kind]), put(tmp_path, gzip.compress(SAME[kind].encode(, mtime=0)), "t.csv.gz")):
        reader = CsvReader(path)
        assert reader.columns == ("a", "b") and reader.has_header
        assert everything(reader, block=block) == ([[1, 2], [3, 4]], [0, 1])


def test_line_breaks_in_a_quoted_header_cost_no_row_and_move_no_number(tmp_path: Path) -> None:
    path = put(tmp_path, '"a\n(mV)",b,"ki\r\nnd"\n1,2,p\n3,4,"q\n2"\n5,6,p\n7,x,q\n')
    reader = CsvReader(path)
    assert reader.columns == ("a\n(mV)", "b", "ki\r\nnd")
    assert [reader.line_of(row) for row in range(4)] == [4, 5, 7, 8]
    assert error_of(lambda: list(reader.chunks([0, 1]))) == (
        f"{path}: line 8, column 'b': 'x' is not a number; features must be numeric"
    )
    (chunk,) = reader.chunks([1, 0], {2: lambda cell: None}, on_error=lambda error: error)
    assert chunk.numbers.tolist() == [[2, 1], [4, 3], [6, 5]] and chunk.rows.tolist() == [0, 1, 2] and chunk.rows_read == 4
    assert chunk.texts[2].tolist() == ["p", "q\n2", "p"] and len(chunk.errors) == 1


def test_a_short_record_is_none_with_empty_text(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b,kind\n1,2,p\n3,4\n5,6,q\n")
    assert error_of(lambda: list(CsvReader(path).chunks([0, 1]))) == (
        f"{path}: line 3 has 2 cells, the first row has 3; make them equal"
    )


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("1,2,p;q\n3,4,r;s\n", ","),
        ("1,5;2,5;p\n3,5;4,5;q\n", ";"),  # decimal commas
        ("a;b,c\n1;2\n3;4\n", ";"),
        ("a\n1\n2\n", ","),
        ("a,b\n1\n2,3\n", ","),
    ],
)
def test_the_delimiter_cuts_all_records_alike(tmp_path: Path, text: str, delimiter: str) -> None:
    assert CsvReader(put(tmp_path, text)).delimiter == delimiter


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"PK\x03\x04...", "no CSV but a zip archive, such as .npz or .xlsx; save its table as CSV"),
        (b"\x93NUMPY\x01\x00", "no CSV but a NumPy array; save it as CSV with numpy.savetxt"),
        ("a,b\n1,2\n".encode("utf-16"), "no CSV but UTF-16 text; save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: not UTF-8 text (byte 0x00); save the file as UTF-8"),
        (b"a,\xe4\n1,2\n", "line 1: not UTF-8 text (byte 0xe4); save the file as UTF-8"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-9], "a damaged gzip file (Compressed file ended before the end-of-stream marker"),
        (b"a,b\n1,\"2\n" + b"1,2\n" * 60_000, "line 2: cannot be read (field larger than field limit (131072))"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, error: str) -> None:
    path = put(tmp_path, content)
    assert error_of(lambda: everything(CsvReader(path))).startswith(f"{path}: {error}")


def test_numbers_are_those_of_pandas_to_the_last_bit(tmp_path: Path) -> None:
    import pandas as pd

    x = np.random.default_rng(0).normal(size=(500, 4)) * 10.0 ** np.arange(-8, 8, 4)
    pd.DataFrame(x).to_csv(tmp_path / "x.csv", index=False, header=False)
    whole = pd.read_csv(tmp_path / "x.csv", header=None, dtype=np.float64).to_numpy()
    reader = CsvReader(tmp_path / "x.csv")
    for block in (100, 0):
        assert (
            np.concatenate([c.numbers for c in reader.chunks(range(4), dtype=np.float64, block=block)]).tolist() == whole.tolist()
        )
        assert np.concatenate([c.numbers for c in reader.chunks(range(4), block=block)]).tolist() == whole.astype("f4").tolist()


cell = st.text(st.sampled_from('ab 1,;"\n\r'), max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cell, st.integers(-9, 9), cell), min_size=1, max_size=8), st.integers(1, 40))
def test_any_text_is_read_as_the_csv_module_reads_it(tmp_path: Path, records: list[tuple[str, int, str]], block: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *records])
    reader = CsvReader(put(tmp_path, text.getvalue()), delimiter=",", header=True)
    chunks = list(reader.chunks([1], {0: lambda _: None, 2: lambda _: None}, block=block))
    assert [n for c in chunks for n in c.rows.tolist()] == list(range(len(records)))
    for i in (0, 2):
        assert [t for c in chunks for t in c.texts[i].tolist()] == [record[i].strip() for record in records]
    assert [n for c in chunks for n in c.numbers[:, 0].tolist()] == [record[1] for record in records]


def test_a_decimal_comma_is_called_so() -> None:
    assert feature_error("-1,5") == "'-1,5' has a decimal comma; write a decimal point: -1.5"
    assert feature_error("1,5,2") == "'1,5,2' is not a number; features must be numeric"


def test_several_label_columns_are_a_matrix(tmp_path: Path) -> None:
    path = put(tmp_path, "red,a,blue,b\n1,0.5,0,1\n0,1.5,1.0,2\n")
    table = read_table(path, ["blue", "red"])
    assert table.labels.tolist() == [[0, 1], [1, 0]] and table.labels.dtype == np.int64
    assert table.x.tolist() == [[0.5, 1], [1.5, 2]] and table.named is not None
    assert table.named.features == ("a", "b") and table.named.metadata == ("blue", "red")
    put(tmp_path, "red,a,blue,b\n1,0.5,0,1\n0,1.5,2,2\n")
    assert error_of(lambda: read_table(path, ["blue", "red"])) == (
        f"{path}: line 3, column 'blue': label '2' is neither 0 nor 1; write 1 where the label holds, else 0"
    )
