from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distill_cli.data.arrays import from_source
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError
from distill_cli.types import Dataset


def sound(**changes) -> Dataset:
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    rows = {"train": np.arange(4), "val": np.array([4, 5]), "test": np.array([6, 7]), "part": np.array([7])}
    y = np.array([0, 1] * 4)
    given = {"x": x, "y": y, "rows": rows, "class_names": ["a", "b"], "source_fingerprint": "s"} | changes
    return from_source("toy", given.pop("x"), given.pop("y"), given.pop("rows"), **given)


def spoilt(row: int, value: float) -> np.ndarray:
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    x[row, 1] = value
    return x


def rows(**changes: list[int]) -> dict[str, np.ndarray]:
    return {k: np.array(v, dtype=int) for k, v in ({"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7]} | changes).items()}


def test_a_sound_data_set_passes() -> None:
    check_dataset(sound())


def test_only_the_tutorial_may_validate_on_test_rows() -> None:
    check_dataset(sound(rows=rows(val=[6]), split="tutorial"))
    with pytest.raises(UserError) as e:
        check_dataset(sound(rows=rows(train=[0, 1, 6]), split="tutorial"))
    assert str(e.value) == "toy: row id 6 is in train and in test; a row belongs to one split"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rows": rows(val=[])}, "toy: the val split is empty; give it rows or a larger fraction"),
        ({"x": spoilt(2, np.nan)}, "toy: row 2 of train holds NaN at feature 1; fill it or leave the row out"),
        ({"x": spoilt(7, -np.inf)}, "toy: row 7 of test holds an infinite value at feature 1; fill it or leave the row out"),
        ({"y": np.array([0, 0, 0, 0, 1, 1, 1, 1])}, "toy: train has one class only ('a'); a classifier needs at least two"),
        (
            {"y": np.array([0, 1, 0, 1, 0, 2, 2, 2]), "class_names": ["a", "b", "c"]},
            "toy: class 'c' is in val (1 row) but not in train; give train rows of it, or take it out of val",
        ),
        (
            {"y": np.array([0, 1, 0, 1, 0, 1, 2, 2]), "class_names": ["a", "b", "c"]},
            "toy: class 'c' is in test (2 rows) but not in train; give train rows of it, or take it out of test",
        ),
        ({"class_names": list("abcde")}, "toy: train has 4 rows for 5 classes; give each at least one"),
        ({"y": np.array([0, 1, 0, 2, 0, 1, 0, 1])}, "toy: row 3 of train has class 2; classes are 0 to 1"),
        ({"index": np.array([0, 1, 2, 2, 4, 5, 6, 7])}, "toy: row id 2 occurs twice in train; ids must be unique"),
        ({"rows": rows(val=[3, 4])}, "toy: row id 3 is in train and in val; a row belongs to one split"),
        ({"rows": rows(val=[5, 6])}, "toy: row id 6 is in val and in test; a row belongs to one split"),
    ],
)
def test_each_fault_has_its_line(changes: dict, line: str) -> None:
    with pytest.raises(UserError) as e:
        check_dataset(sound(**changes))
    assert str(e.value) == line


def test_a_fault_beyond_the_first_chunk_is_named_by_its_row_id() -> None:
    n = 20_000
    x = np.zeros((n, 1), np.float32)
    x[15_000] = np.inf
    d = sound(x=x, y=np.arange(n) % 2, rows=rows(train=list(range(n - 2)), val=[n - 2], test=[n - 1]), index=np.arange(n) + 7)
    with pytest.raises(UserError, match="row 15007 of train holds an infinite value at feature 0"):
        check_dataset(d)
    check_dataset(replace(d, train=d.train.select(np.arange(15_000))))
