"""Bootstrap draws of a test set, as class counts from which F1 is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_cli.metrics.confusion import f1_of_counts

WEIGHTS_AT_ONCE = 10_000_000  # limits the memory of a bootstrap over many groups

Counts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(hits, support, predicted), each ``[resamples, C]``."""


def resample_counts(
    y: np.ndarray, predictions: Sequence[np.ndarray], num_classes: int, groups: np.ndarray | None, resamples: int, seed: int
) -> list[Counts] | None:
    """Return the counts of each prediction over the same draws.

    None where nothing can be drawn.

    Args:
        y: ``[N]`` true classes.
        predictions: predicted classes ``[N]`` of each model.
        num_classes: number of classes C.
        groups: ``[N]`` group names, resampled whole; None resamples rows within each true class.
        resamples: number of draws.
        seed: seed of the draws.
    """
    from distill_cli.rng import numpy_generator

    random = numpy_generator(seed, "bootstrap")
    if resamples < 1 or not len(y):
        return None
    if groups is None:
        return _draw_rows(y, predictions, num_classes, resamples, random)
    names, group = np.unique(groups, return_inverse=True)
    return None if len(names) < 2 else _draw_groups(y, predictions, num_classes, group, len(names), resamples, random)


def _draw_rows(
    y: np.ndarray, predictions: Sequence[np.ndarray], num_classes: int, resamples: int, random: np.random.Generator
) -> list[Counts]:
    hits = np.zeros((len(predictions), resamples, num_classes))
    predicted = np.zeros_like(hits)
    support = np.tile(np.bincount(y, minlength=num_classes).astype(np.float64), (resamples, 1))
    table = np.stack(predictions, axis=1)
    for c in np.unique(y):
        cells, counts = np.unique(table[y == c], axis=0, return_counts=True)
        draws = random.multinomial(counts.sum(), counts / counts.sum(), size=resamples).astype(np.float64)
        for k in range(len(predictions)):
            hits[k, :, c] = draws[:, cells[:, k] == c].sum(1)
            for column in np.unique(cells[:, k]):
                predicted[k, :, column] += draws[:, cells[:, k] == column].sum(1)
    return [(hits[k], support, predicted[k]) for k in range(len(predictions))]


def _draw_groups(
    y: np.ndarray,
    predictions: Sequence[np.ndarray],
    num_classes: int,
    group: np.ndarray,
    n_groups: int,
    resamples: int,
    random: np.random.Generator,
) -> list[Counts]:
    def per_group(classes: np.ndarray, keep: np.ndarray | slice) -> np.ndarray:
        cells = (group * num_classes + classes)[keep]
        return np.bincount(cells, minlength=n_groups * num_classes).reshape(n_groups, num_classes).astype(np.float64)

    support = per_group(y, slice(None))
    counts_by_prediction = [(per_group(y, p == y), support, per_group(p, slice(None))) for p in predictions]
    at_once = max(1, WEIGHTS_AT_ONCE // n_groups)
    parts = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        weights = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size).astype(np.float64)
        parts.append([tuple(weights @ counts for counts in counted) for counted in counts_by_prediction])
    return [tuple(np.concatenate([part[k][i] for part in parts]) for i in range(3)) for k in range(len(predictions))]  # type: ignore[misc]


def macro_f1_of_draws(counts: Counts, averaged: Sequence[int], y: np.ndarray) -> np.ndarray:
    """Return macro F1 of each draw, ``[resamples]``.

    A draw averages over the averaged classes, without those that the split holds but the draw does not.
    """
    hits, support, predicted = counts
    f1 = f1_of_counts(hits, support, predicted)[:, list(averaged)]
    counted = (support[:, list(averaged)] > 0) | ~np.isin(averaged, y)
    weight = counted.sum(1)
    return np.divide((f1 * counted).sum(1), weight, out=np.full(len(f1), np.nan), where=weight > 0)
