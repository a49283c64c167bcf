"""Inputs of any size: the same rows whatever the blocks, and each fault by its line and column."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_cli.data.csv_columns import ColumnSpec
from distill_cli.errors import UserError
from distill_cli.inference.batching import ROW, Rebatcher, RowBlock
from distill_cli.inference.csv_rows import CsvRows
from distill_cli.inference.npy_rows import NpyRows

ABC = ColumnSpec((3,), ("a", "b", "c"), ("label",))


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(stream: Any) -> tuple[np.ndarray, list[int], list[str], int]:
    pieces: list[RowBlock] = list(stream.pieces())
    x = np.concatenate([p.x for p in pieces])
    assert pieces[-1].done == stream.total
    return x, [n for p in pieces for n in p.where[ROW].tolist()], [f for p in pieces for f in p.faults], pieces[-1].read


def fault(path: Path, spec: ColumnSpec = ABC, **how: Any) -> str:
    with pytest.raises(UserError) as e:
        read(CsvRows(path, spec, **how))
    assert "\n" not in str(e.value)
    return str(e.value).removeprefix(f"{path}: ")


BAD = {
    "line 3, column 'b': NaN; fill it or leave the row out": "a,b,c\n1,2,3\n4,nan,6\n",
    "line 3, column 'c': 'x' is not a number; features must be numeric": "a,b,c\n1,2,3\n4,5,x\n",
    "line 3, column 'a': empty cell; fill it or leave the row out": "a,b,c\n1,2,3\n,5,6\n",
    "line 3, column 'a': 1e39 is infinite in 32-bit numbers; scale it or leave the row out": "a,b,c\n1,2,3\n1e39,5,6\n",
    "line 3 has 2 cells, the first row has 3; make them equal": "a,b,c\n1,2,3\n4,5\n",
    "line 3 has 4 cells, the first row has 3; make them equal": "a,b,c\n1,2,3\n4,5,6,7\n",
    "line 4, column 'b': 'x' is not a number; features must be numeric": "a,b,c\n1,2,3\n\n4,x,6\n",
}
COLUMNS: dict[str, str | bytes] = {
    "line 1: no column 'c', a feature of this model; add it, or set header=false": "a,b\n1,2\n",
    "line 1, column 3: 'cc' is no feature of this model; did you mean 'c'?; if it is none, leave it out with drop=[cc]": "a,b,cc\n1,2,3\n",
    "line 1, column 4: column name 'b' occurs twice; rename one": "a,b,c,b\n1,2,3,4\n",
    "line 1, column 4: 'x, y' is no feature of this model; if it is none, leave it out with drop=[4]": 'a,b,c,"x, y"\n1,2,3,4\n',
    "line 1: one cell, as cells end at ','; do they end at ';'? then: 'delimiter=;'": "a;b;c\n1;2;3\n",
    "line 1: one cell, as cells end at ','; do they end at '\\t'? then: 'delimiter=\\t'": "1\t2\t3\n",
    "line 1: not UTF-8 text (byte 0xfc); save the file as UTF-8": b"a,b,\xfc\n1,2,3\n",
    "line 1: 2 columns; a sample of this model has 3 features": "1,2\n",
    "line 1: 4 columns; a sample of this model has 3 features; leave a label's column out with drop=[4]": "1,2,3,4\n",
    "the file is empty; it needs one row a sample": "\n \n",
    "no row after the header; it needs one row a sample": "a,b,c\n",
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_row_is_named_or_left_out(said: str, tmp_path: Path) -> None:
    path = table(tmp_path, BAD[said] + "7,8,9\n")
    assert fault(path) == f"{said} (on_bad_lines=skip leaves such rows out)"
    for block in (4, 1 << 20):
        x, rows, faults, rows_read = read(CsvRows(path, ABC, skip=True, block=block))
        assert x.tolist() == [[1, 2, 3], [7, 8, 9]] and rows == [0, 2] and rows_read == 3 and faults == [f"{path}: {said}"]


@pytest.mark.parametrize("said", COLUMNS)
def test_wrong_columns_are_named(said: str, tmp_path: Path) -> None:
    assert fault(table(tmp_path, COLUMNS[said]), delimiter=",", skip=True) == said


def test_columns_are_found_by_name_and_others_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufefflabel,c,id,a,b\nyes,3,x1,1,2\nno,6,x2,4,5\n")
    spec = ColumnSpec((3,), ("a", "b", "c"), ("label",), drop=["id"])
    assert read(CsvRows(path, spec))[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert fault(path) == "line 1, column 3: 'id' is no feature of this model; if it is none, leave it out with drop=[id]"
    assert fault(path, ColumnSpec((3,), ("a", "b", "c"), drop=["ids"])).startswith(
        "line 1: drop=ids: no such column; did you mean 'id'?"
    )


def test_without_names_columns_are_taken_in_order(tmp_path: Path) -> None:
    path = table(tmp_path, "p;q;r;s\n1;2;3;x\n")
    stream = CsvRows(path, ColumnSpec((3,), drop=["4"]), ";")
    assert read(stream)[0].tolist() == [[1, 2, 3]] and "taken in their order" in stream.notes[0]
    square = CsvRows(table(tmp_path, "1,2,3,4\n"), ColumnSpec((1, 2, 2)))
    assert read(square)[0].tolist() == [[[[1, 2], [3, 4]]]] and not square.notes


def test_quoted_line_breaks_and_other_bytes(tmp_path: Path) -> None:
    path = table(tmp_path, b'a,b,c,label\r\n1,2,3,"two\r\nlines"\r\n"4",5,6,"\xff"\r\n7,8,9,x')
    for block in (5, 9, 1 << 20):
        x, rows, faults, _ = read(CsvRows(path, ABC, block=block))
        assert x.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and rows == [0, 1, 2] and not faults
    assert "line 5, column 'b'" in fault(table(tmp_path, b'a,b,c,label\n1,2,3,"x\n\n"\n4,\xff,6,x\n'))


def test_an_open_quotation_mark_is_not_read_to_the_end_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_cli.data.csv_reader.LONGEST_RECORD_BYTES", 100)
    path = table(tmp_path, 'a,b,c,label\n1,2,3,"x\n' + "1,2,3,x\n" * 100)
    assert "is a quotation mark open?" in fault(path, block=64)


CELL = st.one_of(st.floats(-1e6, 1e6, width=32).map(repr), st.sampled_from(["nan", "", "x", "inf", '"1.5"', " 2 ", "1e39", "-0"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=4), min_size=1, max_size=12), block=st.integers(1, 60), blank=st.booleans()
)
def test_any_table_equals_the_csv_module_row_by_row(rows: list[list[str]], block: int, blank: bool, tmp_path: Path) -> None:
    text = "".join(",".join(row) + "\n" + ("\n" if blank else "") for row in rows)
    path = table(tmp_path, "a,b,c\n" + text)

    def number(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return float("nan")

    cells = [row for row in csv.reader(io.StringIO(text)) if row]
    with np.errstate(over="ignore"):
        values = [np.array([number(c) for c in row], dtype=np.float32) for row in cells]
    good = [n for n, v in enumerate(values) if len(v) == 3 and np.isfinite(v).all()]
    x, numbers, faults, rows_read = read(CsvRows(path, ABC, skip=True, block=block))
    assert numbers == good and len(faults) == len(rows) - len(good) and rows_read == len(rows)
    assert (x == np.array([values[n] for n in good], dtype=np.float32).reshape(-1, 3)).all()


def test_a_first_row_longer_than_a_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_cli.data.csv_reader.SAMPLE_BYTES", 16)
    path = table(tmp_path, f"a,b,c\n1,2,{' ' * 50}3\n4,5,6\n")
    assert read(CsvRows(path, ABC))[0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_arrays(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(10, 4))
    x[3, 2], x[9, 0] = np.nan, np.inf
    np.save(tmp_path / "x.npy", x)
    got, rows, faults, rows_read = read(NpyRows(tmp_path / "x.npy", (2, 2), skip=True))
    assert got.shape == (8, 2, 2) and rows == [0, 1, 2, 4, 5, 6, 7, 8] and rows_read == 10
    assert [f.split(": ", 1)[1] for f in faults] == [
        "row 3, column 2 (both counted from 0): NaN; fill it or leave the row out",
        "row 9, column 0 (both counted from 0): infinite in 32-bit numbers; fill it or leave the row out",
    ]
    with pytest.raises(UserError, match="row 3, column 2"):
        read(NpyRows(tmp_path / "x.npy", (4,)))
    for array, said in ((x[:, :3], "shape"), (np.ones((2, 4), int), "int64"), (x[:0], "no rows"), (np.array([None]), "plain")):
        np.save(tmp_path / "y.npy", array)
        with pytest.raises(UserError, match=said):
            NpyRows(tmp_path / "y.npy", (4,))


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), size=st.integers(1, 7))
def test_batches_do_not_depend_on_pieces(sizes: list[int], size: int) -> None:
    waiting, got, read_so_far = Rebatcher(size), [], 0
    for n in sizes:
        rows = np.arange(read_so_far, read_so_far + n)
        read_so_far += n
        got += list(waiting.add(RowBlock(rows[:, None].astype(np.float32), {ROW: rows}, read_so_far, read_so_far)))
    got += list(waiting.rest())
    assert [len(b.x) for b in got] == [size] * (sum(sizes) // size) + [sum(sizes) % size] * (sum(sizes) % size > 0)
    assert [n for b in got for n in b.where[ROW].tolist()] == list(range(sum(sizes)))
    assert all((b.x[:, 0] == b.where[ROW]).all() for b in got)
