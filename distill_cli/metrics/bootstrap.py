"""Bootstrap draws of a test set, as weights of its rows.

Any metric over rows can be computed again under such weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from distill_cli.metrics.confusion import f1_of_counts

WEIGHTS_AT_ONCE = 10_000_000  # limits the memory of a bootstrap over many rows

Draws = tuple[np.ndarray, np.ndarray]
"""(weights ``[resamples, K]``, rows ``[K]``): how often each draw holds what counts as row k does."""
Counts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(hits, support, predicted), each ``[resamples, C]``."""


class Resampled(Protocol):
    """The outputs of one model on one split.

    The metric can be computed under other weights of the rows.

    Attributes:
        cells: ``[N]`` int64; rows of one cell count alike, so that draws are over cells and not over rows.
        strata: ``[N]`` int64, within which rows are drawn, or None: all rows are one stratum.
    """

    cells: np.ndarray
    strata: np.ndarray | None

    def primary_score(self) -> float:
        """Return the primary metric of the rows as they are."""
        ...

    def resampled(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the primary metric ``[R]`` under weights of the rows.

        Row ``rows[k]`` counts ``weights[r, k]`` times. NaN where the metric is undefined.
        """
        ...

    def resampled_parts(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the metric of each part, such as a class, ``[R, P]``.

        NaN where a draw has no row of the part.
        """
        ...


def iter_draws(
    cells: np.ndarray, strata: np.ndarray | None, groups: np.ndarray | None, resamples: int, seed: int
) -> Iterator[Draws]:
    """Yield resampled sets in chunks, together `resamples` of them.

    None where nothing can be drawn: no rows, or fewer than two groups.

    Args:
        cells: ``[N, P]`` cell of each row for each of P models that are drawn together.
        strata: ``[N]`` strata within which rows are drawn, or None.
        groups: ``[N]`` group names, resampled whole, whatever the strata; None resamples rows.
        resamples: number of draws.
        seed: seed of the draws.
    """
    from distill_cli.rng import numpy_generator

    random = numpy_generator(seed, "bootstrap")
    if resamples < 1 or not len(cells):
        return iter(())
    if groups is None:
        return _draw_rows(cells, np.zeros(len(cells), dtype=np.int64) if strata is None else strata, resamples, random)
    names, group = np.unique(groups, return_inverse=True)
    return iter(()) if len(names) < 2 else _draw_groups(cells, group, len(names), resamples, random)


def _draw_rows(cells: np.ndarray, strata: np.ndarray, resamples: int, random: np.random.Generator) -> Iterator[Draws]:
    strata_cells = []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        _, first, counts = np.unique(cells[members], axis=0, return_index=True, return_counts=True)
        strata_cells.append((members[first], counts))
    rows = np.concatenate([first for first, _ in strata_cells])
    # of one stratum the draws follow each other in the stream, so they need not be made at once
    at_once = resamples if len(strata_cells) > 1 else max(1, WEIGHTS_AT_ONCE // len(rows))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        samples = [random.multinomial(counts.sum(), counts / counts.sum(), size=size) for _, counts in strata_cells]
        yield np.concatenate(samples, axis=1).astype(np.float64), rows


def _draw_groups(
    cells: np.ndarray, group: np.ndarray, n_groups: int, resamples: int, random: np.random.Generator
) -> Iterator[Draws]:
    table = np.column_stack([group, cells])
    _, rows, counts = np.unique(table, axis=0, return_index=True, return_counts=True)
    at_once = max(1, WEIGHTS_AT_ONCE // max(n_groups, len(rows)))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        weights = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size).astype(np.float64)
        yield weights[:, group[rows]] * counts, rows


def mean_f1_of_draws(counts: Counts, averaged: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the mean F1 of each draw, ``[resamples]``.

    A draw averages over the averaged classes, without those that the split holds but the draw does not.

    Args:
        counts: class counts of the draws.
        averaged: positions of the classes that the mean is over.
        present: ``[C]`` bool, whether the split holds the class.
    """
    hits, support, predicted = counts
    f1 = f1_of_counts(hits, support, predicted)[:, averaged]
    counted = (support[:, averaged] > 0) | ~present[averaged]
    weight = counted.sum(1)
    return np.divide((f1 * counted).sum(1), weight, out=np.full(len(f1), np.nan), where=weight > 0)
