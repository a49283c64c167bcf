from __future__ import annotations

import numpy as np
import pytest

from distill_cli.data.heartbeat_synthetic import heartbeat_synthetic
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError


def test_beats_have_the_real_shape_range_and_imbalance() -> None:
    d = heartbeat_synthetic()
    check_dataset(d)
    y = np.concatenate([p.y for p in d.pools.values()])
    assert np.bincount(y) / 4000 == pytest.approx(np.array([90_583, 2_780, 7_236, 803, 8_039]) / 109_441, abs=1e-3)
    assert d.input_shape == (1, 187) and d.train.x.min() == 0 and d.train.x.max() == 1


def test_seed_moves_the_beats_and_split_seed_the_split() -> None:
    a, b, c = heartbeat_synthetic(n=300), heartbeat_synthetic(n=300, seed=1), heartbeat_synthetic(n=300, split_seed=1)
    np.testing.assert_array_equal(a.train.source, heartbeat_synthetic(n=300).train.source)
    assert a.source_fingerprint != b.source_fingerprint and a.source_fingerprint == c.source_fingerprint
    assert set(a.test.index) != set(c.test.index)


def test_classes_can_be_told_apart_but_not_by_their_means() -> None:
    d = heartbeat_synthetic(n=2000)
    train, test = (p.x.reshape(len(p), -1) for p in (d.train, d.test))
    means = np.stack([train[d.train.y == c].mean(axis=0) for c in range(5)])
    nearest = ((test[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    recall = np.array([(nearest[d.test.y == c] == c).mean() for c in range(5)])
    assert 0.5 < recall.mean() < 0.98


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"n": 10}, "heartbeat_synthetic: n must be 200 to 1,000,000, got 10"),
        ({"n": 10**12}, "heartbeat_synthetic: n must be 200 to 1,000,000, got 1000000000000"),
        ({"noise": -0.1}, "heartbeat_synthetic: noise must be 0 to 1, got -0.1"),
        ({"seed": -1}, "heartbeat_synthetic: seed must be 0 or more, got -1"),
    ],
)
def test_settings_out_of_range(options: dict, line: str) -> None:
    with pytest.raises(UserError) as e:
        heartbeat_synthetic(**options)
    assert str(e.value) == line
