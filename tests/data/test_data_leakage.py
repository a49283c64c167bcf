from __future__ import annotations

from dataclasses import replace

import numpy as np

from distill_cli.data.arrays import from_arrays, from_source
from distill_cli.data.leakage import TrainRecord, duplicate_notes, find_overlap, record_training_rows, row_hashes, trained_on
from distill_cli.types import Dataset

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
Y = np.array([0, 1] * 6)


def cut(train: list[int], val: list[int], test: list[int], source: str = "s", **kw) -> Dataset:
    rows = {"train": np.array(train), "val": np.array(val), "test": np.array(test)}
    return from_source("toy", X, Y, rows, class_names=["a", "b"], source_fingerprint=source, **kw)


def recorded(dataset: Dataset) -> TrainRecord:
    return record_training_rows(dataset.train, dataset)


STUDENT = cut([0, 1, 2, 3], [4, 5], [6, 7])


def test_the_same_split_meets_nothing() -> None:
    assert find_overlap(recorded(STUDENT), STUDENT) is None


def test_rows_of_the_same_source_are_known_by_id() -> None:
    teacher = cut([0, 1, 6, 8], [2, 3], [10, 11])
    assert find_overlap(recorded(teacher), STUDENT) == "its training rows hold 1 row of the student's test split (row ids 6)"
    teacher = cut([0, 1, 4, 5], [2, 3], [10, 11])
    assert find_overlap(recorded(teacher), STUDENT) == "its training rows hold 2 rows of the student's val split (row ids 4, 5)"


def test_ids_of_another_source_mean_nothing_but_equal_rows_do() -> None:
    other = from_arrays("other", (X[8:] + 1, Y[8:]), (X[8:9] + 1, ["0"]), (X[9:10] + 1, ["1"]))
    assert find_overlap(recorded(other), STUDENT) is None
    copied = from_arrays("other", (np.concatenate([X[8:], X[7:8]]), [0, 1, 0, 1, 1]), (X[8:9], ["0"]), (X[9:10], ["1"]))
    assert find_overlap(recorded(copied), STUDENT) == "its training rows hold 1 row of the student's test split (row ids 7)"


def test_a_row_that_the_students_own_training_rows_repeat_is_no_reason() -> None:
    x = X.copy()
    x[6] = x[0]
    student = from_source(
        "toy",
        x,
        Y,
        {"train": np.arange(4), "val": np.array([4, 5]), "test": np.array([6, 7])},
        class_names=["a", "b"],
        source_fingerprint="s",
    )
    teacher = cut([0, 8, 9], [10], [11], source="t")
    assert find_overlap(recorded(teacher), student) is None


def test_rows_of_test_that_repeat_training_rows_are_counted() -> None:
    assert duplicate_notes(STUDENT) == []
    x, y = np.concatenate([X, X[:1], X[:2]]), np.concatenate([Y, Y[:3]])
    again = from_arrays("again", (x[:4], y[:4]), (x[12:13], ["0"]), (x[11:15], ["1", "0", "1", "0"]))
    assert duplicate_notes(again) == [
        "1 of 1 rows of val is equal to training rows: they may be known by heart",
        "3 of 4 rows of test are equal to training rows: they may be known by heart",
    ]


def test_patients_meet_where_the_students_splits_keep_them_apart() -> None:
    group = np.array(list("aabbccddeeff"))
    student = cut([0, 1, 2, 3], [4, 5], [6, 7], group=group, grouped=True)
    teacher = cut([8, 9], [10], [11], source="t", group=np.array(list("xxxxxxxxddyy")), grouped=True)
    assert find_overlap(recorded(teacher), student) == "its training rows hold patients of the student's test split (d)"
    assert find_overlap(recorded(teacher), replace(student, grouped=False)) is None
    no_groups = replace(recorded(teacher), groups=None)
    assert find_overlap(no_groups, student) is None


def test_patients_are_compared_as_numbers_where_all_are() -> None:
    student = cut(
        [0, 1, 2, 3], [4, 5], [6, 7], group=np.array(["1", "1", "2", "2", "3", "3", "4", "4", "5", "5", "6", "6"]), grouped=True
    )
    teacher = cut(
        [8, 9],
        [10],
        [11],
        source="t",
        group=np.array(["9", "9", "9", "9", "9", "9", "9", "9", "4.0", "004", "8", "8"]),
        grouped=True,
    )
    assert find_overlap(recorded(teacher), student) == "its training rows hold patients of the student's test split (4)"


def test_a_patient_whom_the_students_own_split_shares_is_no_reason() -> None:
    group = np.array(list("aabbccaaeeff"))
    student = cut([0, 1, 2, 3], [4, 5], [6, 7], group=group, grouped=True)
    assert find_overlap(recorded(student), student) is None


def test_further_pools_are_scored_and_therefore_compared() -> None:
    student = replace(STUDENT, extra_test_sets={"more": cut([0], [1], [9]).test})
    assert (
        find_overlap(recorded(cut([8, 9], [2], [3])), student)
        == "its training rows hold 1 row of the student's more split (row ids 9)"
    )


def test_hashes_follow_the_content_alone() -> None:
    a, b = row_hashes(STUDENT.train), row_hashes(cut([3, 2, 1, 0], [4], [5]).train)
    assert a.dtype == np.uint64 and len(np.unique(a)) == 4
    np.testing.assert_array_equal(a, b[::-1])


def test_rows_that_a_model_was_trained_on_are_known_by_content_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(12)
    shuffled = from_source(
        "toy", X[order], Y[order], {"train": np.arange(4), "val": np.arange(4, 8), "test": np.arange(8, 12)},
        class_names=["a", "b"], source_fingerprint="other",
    )  # fmt: skip
    counts = {split: int(np.isin(order[pool.index], [0, 1, 2, 3]).sum()) for split, pool in shuffled.pools.items()}
    assert trained_on(recorded(STUDENT), shuffled.pools) == {split: n for split, n in counts.items() if n}
    assert trained_on(recorded(STUDENT), {"test": STUDENT.test}) == {}
