from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_cli.data.label_fraction import drop_classes, label_mask, mask_labels
from distill_cli.errors import UserError
from distill_cli.types import Pool

classes = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)
fractions = st.floats(0.001, 1.0)


def pool(y: np.ndarray) -> Pool:
    return Pool(np.zeros((len(y), 2), np.float32), np.arange(len(y)), y, np.arange(len(y)) + 100)


@given(classes, fractions, fractions, st.integers(0, 9))
def test_label_masks_are_stratified_and_nested(y: np.ndarray, a: float, b: float, seed: int) -> None:
    small, large = label_mask(y, min(a, b), seed), label_mask(y, max(a, b), seed)
    assert not (small & ~large).any()
    for c in np.unique(y):
        n, k = (y == c).sum(), small[y == c].sum()
        assert k >= 1 and (abs(k - min(a, b) * n) <= 0.5 or k == 1)
    assert label_mask(y, 1.0, seed).all()


def test_the_seed_moves_the_labels() -> None:
    y = np.arange(100) % 2
    assert not np.array_equal(label_mask(y, 0.1, 0), label_mask(y, 0.1, 1))
    np.testing.assert_array_equal(label_mask(y, 0.1, 0), label_mask(y, 0.1, 0))


def test_rows_without_a_label_stay() -> None:
    p = mask_labels(pool(np.arange(100) % 2), 0.1, 0, np.arange(100) % 2)
    assert len(p) == 100 and p.labeled.sum() == 10
    assert mask_labels(p, 1.0, 0, p.y).labeled.sum() == 10  # labels once withheld do not come back


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_label_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(UserError) as e:
        label_mask(np.zeros(3, int), fraction, 0)
    assert str(e.value) == f"label_fraction must be above 0 and at most 1, got {fraction}"


def test_classes_are_left_out_by_name_or_position() -> None:
    y = np.array([0, 1, 2, 1])
    assert drop_classes(pool(y), ("N", "S", "V"), ["S"]).index.tolist() == [100, 102]
    assert drop_classes(pool(y), ("N", "S", "V"), [1]).index.tolist() == [100, 102]
    assert drop_classes(pool(y), ("1", "2", "3"), [1]).y.tolist() == [1, 2, 1]  # the name goes before the position
    assert len(drop_classes(pool(y), ("N", "S", "V"), [])) == 4


@pytest.mark.parametrize(
    ("names", "exclude", "line"),
    [
        (
            ("normal", "paced"),
            ["pace"],
            "dataset.exclude_classes: no class 'pace'; did you mean 'paced'? (classes: normal, paced)",
        ),
        (("1", "2"), [0], "dataset.exclude_classes: no class '0' (classes: 1, 2)"),
        (("N", "S"), [2], "dataset.exclude_classes: no class '2' (classes: N, S)"),
        (("N", "S"), [True], "dataset.exclude_classes: no class 'True' (classes: N, S)"),
        (("N", "S"), ["N", "S"], "dataset.exclude_classes leaves no training row; leave out fewer classes"),
    ],
)
def test_wrong_classes(names: tuple[str, ...], exclude: list, line: str) -> None:
    with pytest.raises(UserError) as e:
        drop_classes(pool(np.array([0, 1])), names, exclude)
    assert str(e.value) == line
