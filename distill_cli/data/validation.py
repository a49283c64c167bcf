"""Checks of a data set before training."""

from __future__ import annotations

import numpy as np

from distill_cli.errors import UserError
from distill_cli.tasks.registry import find_task
from distill_cli.types import Dataset, Pool

# Reports hold a confusion matrix for every model and split.
MOST_CLASSES = 1000


def check_dataset(dataset: Dataset) -> None:
    """Check a data set as its loader returns it.

    Classes are excluded from training only after this check.

    Raises:
        UserError: an empty split, targets that are none of the task, a NaN or an infinite feature, a row id that occurs twice
            or on both sides of a split.
    """
    if len(dataset.class_names) > MOST_CLASSES:
        raise UserError(
            f"{dataset.name}: {len(dataset.class_names):,} classes, at most {MOST_CLASSES:,} are supported; "
            "is the label a number to predict?"
        )
    for split, pool in dataset.pools.items():
        if not len(pool):
            raise UserError(f"{dataset.name}: the {split} split is empty; give it rows or a larger fraction")
    find_task(dataset.task).check_dataset(dataset)
    _check_ids(dataset)
    for split, pool in dataset.pools.items():
        _check_finite(dataset.name, split, pool)


def _check_ids(dataset: Dataset) -> None:
    for split, pool in dataset.pools.items():
        ids, counts = np.unique(pool.index, return_counts=True)
        if counts.max() > 1:
            raise UserError(f"{dataset.name}: row id {ids[counts.argmax()]} occurs twice in {split}; ids must be unique")
    pairs = [("train", split) for split in dataset.pools if split != "train"]
    # The tutorial's own validation is part of its test split: its notes say so.
    pairs += [("val", split) for split in ("test", *dataset.extra_test_sets)] if dataset.split != "tutorial" else []
    for a, b in pairs:
        both = np.intersect1d(dataset.pools[a].index, dataset.pools[b].index)
        if len(both):
            raise UserError(f"{dataset.name}: row id {both[0]} is in {a} and in {b}; a row belongs to one split")


def _check_finite(name: str, split: str, pool: Pool) -> None:
    start = 0
    for rows in pool.iter_batches():
        x = rows.reshape(len(rows), -1)
        if np.isfinite(x).all():
            start += len(x)
            continue
        i, j = (int(k[0]) for k in np.nonzero(~np.isfinite(x)))
        what = "NaN" if np.isnan(x[i, j]) else "an infinite value"
        raise UserError(
            f"{name}: row {pool.index[start + i]} of {split} holds {what} at feature {j}; fill it or leave the row out"
        )
