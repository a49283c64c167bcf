"""Bias correction of a student whose transfer set lacked classes.

The missing classes get an offset that is fitted on validation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.classification import quick_scores
from distill_cli.types import Dataset, Pool

CANDIDATES = 1000


def missing_classes(pool: Pool, dataset: Dataset) -> list[int]:
    """Return the classes that the student's training rows lack.

    Raises:
        UserError: no class is missing.
    """
    missing = sorted(set(np.unique(dataset.train.y).tolist()) - set(np.unique(pool.y).tolist()))
    if not missing:
        raise UserError(
            "student.bias_correction: no class is missing from the student's training rows; "
            "name some in dataset.exclude_classes, or set student.bias_correction=false"
        )
    return missing


def fit_offset(logits: np.ndarray, y: np.ndarray, missing: Sequence[int], averaged: Sequence[int], metric: str) -> float:
    """Return the best offset of the missing classes' logits.

    Of equally good offsets the nearest to 0.

    One number for all of them, as in Hinton et al. 2015 (arXiv:1503.02531, section 3), who fit it on test; here it is fitted
    on validation. A row's prediction changes only where the offset passes the gap between the row's best present class and its
    best missing class, so the midpoints between neighbouring gaps are the only candidates; of many, quantiles.

    Args:
        logits: ``[N, C]`` logits of the validation rows.
        y: ``[N]`` true classes.
        missing: classes that share the offset.
        averaged: classes that macro F1 averages over.
        metric: ``macro_f1``, ``accuracy`` or ``nll``.
    """
    absent = np.zeros(logits.shape[1], dtype=bool)
    absent[list(missing)] = True
    gaps = np.unique(logits[:, ~absent].max(axis=1).astype(np.float64) - logits[:, absent].max(axis=1))
    ends = np.concatenate([[gaps[0] - 1], gaps, [gaps[-1] + 1]])
    tries = (ends[1:] + ends[:-1]) / 2
    if len(tries) > CANDIDATES:
        tries = np.quantile(tries, np.linspace(0, 1, CANDIDATES))
    tries = np.concatenate([[0.0], tries[np.argsort(np.abs(tries), kind="stable")]])
    sign = -1 if metric == "nll" else 1
    values = [sign * quick_scores(logits + absent * b, y, averaged)[metric] for b in tries]
    return float(tries[int(np.argmax(values))])


def offsets(offset: float, missing: Sequence[int], num_classes: int) -> list[float]:
    """Return the offset of each class's logit ``[C]``."""
    return [offset if c in set(missing) else 0.0 for c in range(num_classes)]


def described(offset: Sequence[float], class_names: Sequence[str]) -> dict[str, float]:
    """Return the offsets by class name for the report, without zeros."""
    return {name: value for name, value in zip(class_names, offset, strict=True) if value}
