from __future__ import annotations

import numpy as np
import pytest

from distill_cli.data.arrays import class_order, from_arrays, from_source
from distill_cli.errors import UserError


def part(n: int, start: int = 0) -> tuple[np.ndarray, list[str]]:
    return np.arange(start, start + 2 * n, dtype=float).reshape(n, 2), ["no", "yes"] * (n // 2)


def test_own_arrays_become_three_pools_of_one_source() -> None:
    d = from_arrays("mine", part(6), part(2, 100), part(4, 200))
    assert d.class_names == ("no", "yes") and d.macro_classes == (0, 1) and d.input_shape == (2,)
    assert [len(p) for p in d.pools.values()] == [6, 2, 4]
    np.testing.assert_array_equal(d.val.x, part(2, 100)[0])
    np.testing.assert_array_equal(d.test.y, [0, 1, 0, 1])
    assert d.train.source is d.test.source and d.train.x.dtype == np.float32
    assert len(np.unique(np.concatenate([p.index for p in d.pools.values()]))) == 12


def test_groups_are_kept_and_must_not_straddle() -> None:
    d = from_arrays("mine", part(2), part(2), part(2), groups=(["a", "a"], ["b", "b"], ["c", "d"]))
    assert d.grouped and d.test.group is not None and list(d.test.group) == ["c", "d"]
    with pytest.raises(UserError) as e:
        from_arrays("mine", part(2), part(2), part(2), groups=(["a", "a"], ["b", "b"], ["c", "a"]))
    assert str(e.value) == "mine: group 'a' is in train and in test; keep each group in one split, or give no groups"


def test_groups_and_labels_that_are_numbers_are_compared_as_numbers() -> None:
    with pytest.raises(UserError, match="group '1' is in train and in test"):
        from_arrays("mine", part(2), part(2), part(2), groups=([1, 1], [2, 2], [1.0, 3.0]))
    x = np.zeros((2, 1))
    d = from_arrays("mine", (x, ["1", "2"]), (x, ["1.0", "2"]), (x, ["01", "2"]), groups=(["7", "007"], ["8", "8"], ["9", "9"]))
    assert d.class_names == ("1", "2") and d.test.y.tolist() == [0, 1] and d.train.group.tolist() == ["7", "7"]  # type: ignore[union-attr]
    assert [note.partition(": ")[2] for note in d.notes] == [
        "groups that are one: '007' = '7'.",
        "labels that are one: '01' = '1' = '1.0'.",
    ]


def test_whole_numbers_are_ordered_by_value_and_may_be_floats() -> None:
    assert class_order(["10", "9", "-1"]) == ("-1", "9", "10")
    assert class_order(["10", "9", "x"]) == ("10", "9", "x")
    x = np.zeros((3, 1))
    assert from_arrays("mine", (x, [9.0, 10.0, 9.0]), (x, [9, 9, 10]), (x, ["9", "10", "10"])).class_names == ("9", "10")


@pytest.mark.parametrize(
    ("val", "line"),
    [
        ((np.zeros((3, 2)), ["no"]), "mine: val has 3 rows of features and 1 labels"),
        ((np.zeros((1, 3)), ["no"]), "mine: a sample of val has shape (3,), one of train (2,)"),
        ((np.zeros((2, 2)), [0.0, 1.5]), "mine: label 1.5 at position 1 of val is not a class; give whole numbers or names"),
    ],
)
def test_arrays_that_do_not_fit(val: tuple, line: str) -> None:
    with pytest.raises(UserError) as e:
        from_arrays("mine", part(2), val, part(2))
    assert str(e.value) == line


def test_groups_of_another_length() -> None:
    with pytest.raises(UserError) as e:
        from_arrays("mine", part(2), part(2), part(2), groups=(["a", "a"], ["b"], ["c", "d"]))
    assert str(e.value) == "mine: val has 2 rows and 1 group names"


def test_fingerprints() -> None:
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 1] * 3)
    rows = {"train": np.array([0, 1]), "val": np.array([2, 3]), "test": np.array([4, 5])}
    moved = {"train": np.array([2, 3]), "val": np.array([0, 1]), "test": np.array([4, 5])}

    def make(rows: dict, **kw) -> str:
        return from_source("d", x, y, rows, class_names=["a", "b"], source_fingerprint="s", **kw).fingerprint

    assert make(rows) == make(rows)
    assert len({make(rows), make(moved), make(rows, settings={"rate": 1}), make(rows, index=np.arange(6) + 1)}) == 4
    changed = part(2)[0]
    changed[0, 0] += 1
    a = from_arrays("mine", part(2), part(2), part(2))
    b = from_arrays("mine", (changed, part(2)[1]), part(2), part(2))
    assert a.source_fingerprint != b.source_fingerprint and a.fingerprint != b.fingerprint
