"""Confusion matrices, and F1 for any number of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def confusion_counts(y: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the int64 confusion matrix ``[C, C]``: rows true, columns predicted.

    Args:
        y: ``[N]`` true classes, 0..C-1.
        predicted: ``[N]`` predicted classes, 0..C-1.
        num_classes: number of classes C.

    Raises:
        ValueError: lengths differ or a class is outside 0..C-1.

    >>> confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    y, predicted = np.asarray(y, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if y.shape != predicted.shape or y.ndim != 1:
        raise ValueError(f"confusion_counts: shapes {y.shape} and {predicted.shape} are not one and the same [N]")
    for name, classes in (("y", y), ("predicted", predicted)):
        if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
            raise ValueError(f"confusion_counts: {name} holds classes {classes.min()}..{classes.max()}, not 0..{num_classes - 1}")
    return np.bincount(y * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1_of_counts(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return F1 of each class ``[..., C]``: 2 TP / (2 TP + FP + FN).

    0 where a class neither has rows nor is predicted.

    Args:
        hits: ``[..., C]`` true positives.
        support: ``[..., C]`` rows of the class (TP + FN).
        predicted: ``[..., C]`` rows predicted as the class (TP + FP).
    """
    total = np.asarray(support + predicted, dtype=np.float64)
    return np.divide(2.0 * hits, total, out=np.zeros_like(total), where=total > 0)


def macro_f1(confusion: np.ndarray, averaged: Sequence[int]) -> np.ndarray:
    """Return the mean F1 over `averaged` classes, for each matrix ``[..., C, C]``.

    Equals scikit-learn's ``f1_score(average="macro", labels=averaged, zero_division=0)``.

    >>> float(macro_f1(np.array([[5, 0], [0, 5]]), [0, 1]))
    1.0
    """
    f1 = f1_of_counts(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2))
    return np.asarray(f1[..., list(averaged)].mean(-1))
