"""Splits into train, validation and test, drawn from `split_seed` alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill_cli.errors import UserError
from distill_cli.rng import numpy_generator

Rows = Mapping[str, np.ndarray]
"""Positions of each pool's rows in the source, by pool name."""


def check_fraction(name: str, value: float) -> None:
    """Check that 0 < `value` < 1.

    Raises:
        UserError: names the setting.
    """
    if not 0 < value < 1:
        raise UserError(f"{name} must be above 0 and below 1, got {value}")


def check_split_seed(split_seed: int) -> None:
    """Check that a seed is not negative.

    Raises:
        UserError: names the seed.
    """
    if split_seed < 0:
        raise UserError(f"split_seed must be 0 or more, got {split_seed}")


def _allocate(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many rows of each class to take.

    By largest remainders; where a class has two rows or more, at least one is taken and one left.
    """
    quota = counts * fraction
    take = np.floor(quota).astype(np.int64)
    missing = round(float(quota.sum())) - int(take.sum())
    take[np.argsort(take - quota, kind="stable")[:missing]] += 1
    return np.where(counts > 1, np.clip(take, 1, counts - 1), 0)


def stratified_mask(y: np.ndarray, fraction: float, seed: int, purpose: str) -> np.ndarray:
    """Return a mask ``[N]`` of about `fraction` of the rows of every class.

    Every class of two rows or more has at least one row on each side; a class of one row is left outside the mask.
    """
    check_fraction(purpose, fraction)
    check_split_seed(seed)
    order = numpy_generator(seed, f"split/{purpose}").permutation(len(y))
    classes, counts = np.unique(y, return_counts=True)
    mask = np.zeros(len(y), dtype=bool)
    for c, k in zip(classes, _allocate(counts, fraction), strict=True):
        mask[order[y[order] == c][:k]] = True
    return mask


def stratified_rows(y: np.ndarray, test_fraction: float, val_fraction: float, split_seed: int) -> dict[str, np.ndarray]:
    """Split rows into train, val and test, stratified by class.

    Args:
        y: ``[N]`` classes.
        test_fraction: share of test in all rows, 0..1 exclusive.
        val_fraction: share of validation in the rows that are not test, 0..1 exclusive; the test split does not depend on it.
        split_seed: seed of the split, 0 or more.
    """
    test = stratified_mask(y, test_fraction, split_seed, "test_fraction")
    return {**cut_validation(y, np.flatnonzero(~test), val_fraction, split_seed), "test": np.flatnonzero(test)}


def cut_validation(y: np.ndarray, rows: np.ndarray, val_fraction: float, split_seed: int) -> dict[str, np.ndarray]:
    """Split `rows` into train and val, stratified by class."""
    val = stratified_mask(y[rows], val_fraction, split_seed, "val_fraction")
    return {"train": rows[~val], "val": rows[val]}


def grouped_rows(y: np.ndarray, group: np.ndarray, shares: Mapping[str, float], split_seed: int) -> dict[str, np.ndarray]:
    """Split rows into the pools named by `shares`, each group in one pool.

    Groups are assigned greedily, those with the most uneven classes first, each to the pool where the classes' shares then
    deviate least (as in scikit-learn's StratifiedGroupKFold); ties are in an order drawn from `split_seed`. No pool stays empty.

    Raises:
        UserError: fewer groups than pools.
    """
    check_split_seed(split_seed)
    names, member = np.unique(group, return_inverse=True)
    if len(names) < len(shares):
        raise UserError(f"{len(names)} groups cannot be cut into {len(shares)} splits; give more groups or no group column")
    classes, y = np.unique(y, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (member, y), 1)
    order = numpy_generator(split_seed, "split/groups").permutation(len(names))
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    targets = np.array(list(shares.values()))[:, None] * counts.sum(axis=0)
    held = np.zeros_like(targets)
    home = np.empty(len(names), dtype=np.int64)
    for left, g in zip(range(len(order), 0, -1), order, strict=True):
        empty = np.flatnonzero(held.sum(axis=1) == 0)
        pools = empty.tolist() if left <= len(empty) else range(len(shares))
        home[g] = min(pools, key=lambda s: _deviation(held, s, counts[g], targets))
        held[home[g]] += counts[g]
    return {name: np.flatnonzero(home[member] == s) for s, name in enumerate(shares)}


def _deviation(held: np.ndarray, pool: int, added: np.ndarray, targets: np.ndarray) -> float:
    """Return the unevenness of the pools' classes if `added` rows came to `pool`."""
    after = held.copy()
    after[pool] += added
    return float((after / targets).std(axis=0).mean())
