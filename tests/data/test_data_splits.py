from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.data.splits import cut_validation, grouped_rows, stratified_mask, stratified_rows
from distill_cli.errors import UserError

classes = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(np.array)
fractions = st.floats(0.01, 0.99)


@given(classes, fractions, st.integers(0, 5))
def test_mask_takes_the_same_share_of_every_class(y: np.ndarray, fraction: float, seed: int) -> None:
    mask = stratified_mask(y, fraction, seed, "test_fraction")
    for c in np.unique(y):
        n, k = (y == c).sum(), mask[y == c].sum()
        if n == 1:
            assert k == 0
        else:
            assert 1 <= k <= n - 1 and abs(k - fraction * n) <= 1


@given(classes, fractions, fractions, st.integers(0, 5))
def test_every_row_is_in_exactly_one_pool(y: np.ndarray, test: float, val: float, seed: int) -> None:
    rows = stratified_rows(y, test, val, seed)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(y)))
    assert list(rows) == ["train", "val", "test"]


def test_the_size_of_a_split_is_the_fraction_of_all_rows() -> None:
    y = np.repeat(np.arange(10), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert len(cut_validation(y, np.arange(len(y)), 1 / 6, 0)["val"]) == 10_000


def test_split_seed_moves_the_split_and_val_fraction_does_not_move_test() -> None:
    y = np.arange(200) % 3
    first = stratified_rows(y, 0.2, 0.1, 0)
    np.testing.assert_array_equal(first["test"], stratified_rows(y, 0.2, 0.4, 0)["test"])
    assert not np.array_equal(first["test"], stratified_rows(y, 0.2, 0.1, 1)["test"])
    np.testing.assert_array_equal(first["val"], stratified_rows(y, 0.2, 0.1, 0)["val"])


def test_each_cut_draws_from_a_stream_of_its_own() -> None:
    y = np.zeros(100, int)
    masks = [stratified_mask(y, 0.5, 0, purpose) for purpose in ("test_fraction", "val_fraction")]
    assert not np.array_equal(*masks)


@settings(max_examples=50)
@given(st.integers(3, 25), st.integers(1, 3), st.integers(0, 9))
def test_groups_stay_whole(groups: int, classes_: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, 100)]).astype(str)
    y = rng.integers(0, classes_, len(group))
    rows = grouped_rows(y, group, {"train": 0.6, "val": 0.2, "test": 0.2}, seed)
    homes = [set(group[r]) for r in rows.values()]
    assert all(homes) and sum(len(h) for h in homes) == groups == len(set.union(*homes))
    assert sum(len(r) for r in rows.values()) == len(y)


def test_grouped_split_has_the_wanted_sizes_and_keeps_classes_level() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 100, 4000)
    y = rng.integers(0, 3, 4000)
    rows = grouped_rows(y, group, {"train": 0.6, "val": 0.2, "test": 0.2}, 0)
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert np.bincount(y[rows[name]]) == pytest.approx(share * np.bincount(y), rel=0.15)
    other = grouped_rows(y, group, {"train": 0.6, "val": 0.2, "test": 0.2}, 1)
    assert not np.array_equal(rows["test"], other["test"])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda y: stratified_rows(y, 1.0, 0.1, 0), "test_fraction must be above 0 and below 1, got 1.0"),
        (lambda y: stratified_rows(y, 0.2, 0.0, 0), "val_fraction must be above 0 and below 1, got 0.0"),
        (lambda y: stratified_rows(y, float("nan"), 0.1, 0), "test_fraction must be above 0 and below 1, got nan"),
        (lambda y: stratified_rows(y, 0.2, 0.1, -1), "split_seed must be 0 or more, got -1"),
        (
            lambda y: grouped_rows(y, y, {"train": 0.6, "val": 0.2, "test": 0.2}, 0),
            "2 groups cannot be cut into 3 splits; give more groups or no group column",
        ),
    ],
)
def test_wrong_fractions_and_groups(call, line: str) -> None:
    with pytest.raises(UserError) as e:
        call(np.arange(20) % 2)
    assert str(e.value) == line
