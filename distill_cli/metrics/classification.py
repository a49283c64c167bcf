"""Scores of a model's outputs: F1, accuracy, negative log-likelihood, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.confusion import confusion_counts, macro_f1
from distill_cli.metrics.statistics import f1_intervals

__all__ = ["confusion_counts", "ece", "log_probabilities", "macro_f1", "quick_scores", "scores"]

LOWER_IS_BETTER = frozenset({"nll", "ece"})
DEVIATIONS = 2.0  # standard deviations above chance from which a model counts as better than chance


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities ``[N, C]`` in float64.

    Log-probabilities as input are returned unchanged up to rounding.

    Raises:
        UserError: a row is NaN, holds +infinity, or is -infinity for all classes.
    """
    logits = np.asarray(logits, dtype=np.float64)
    highest = logits.max(axis=-1, keepdims=True)
    bad = ~np.isfinite(highest[..., 0])
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {len(logits)} rows have outputs that are NaN or infinite: "
            "the model diverged; lower the learning rate or set clip_grad_norm=1"
        )
    shifted = logits - highest
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _nll(log_p: np.ndarray, y: np.ndarray) -> float:
    return float(-log_p[np.arange(len(y)), y].mean())


def quick_scores(logits: np.ndarray, y: np.ndarray, averaged: Sequence[int]) -> dict[str, float]:
    """Return ``macro_f1``, ``accuracy`` and ``nll`` (nats).

    Fast enough for every epoch.

    Args:
        logits: ``[N, C]`` logits or log-probabilities.
        y: ``[N]`` true classes.
        averaged: classes that macro F1 averages over.

    Raises:
        UserError: outputs are not finite.
    """
    log_p, y = log_probabilities(logits), np.asarray(y, dtype=np.int64)
    confusion = confusion_counts(y, np.asarray(logits).argmax(axis=1), log_p.shape[1])
    accuracy = float(np.trace(confusion) / len(y))
    return {"macro_f1": float(macro_f1(confusion, averaged)), "accuracy": accuracy, "nll": _nll(log_p, y)}


def ece(probabilities: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error, 0..1, of the predicted class.

    Source: Guo et al. 2017 (arXiv:1706.04599), equation 3.

    Rows are binned by their highest probability into `bins` intervals ((m-1)/M, m/M] of equal width; the error is the mean
    over rows of |accuracy - mean confidence| of their bin.

    Args:
        probabilities: ``[N, C]`` probabilities.
        y: ``[N]`` true classes.
        bins: number of intervals M.
    """
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == y
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(at, hit - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def scores(
    logits: np.ndarray,
    y: np.ndarray,
    class_names: Sequence[str],
    averaged: Sequence[int],
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    teacher_logits: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the scores of one model on one split.

    The keys are those of ``docs/report-schema.md``.

    Precision, recall, F1, support and the confusion matrix are scikit-learn's, with 0 for what is undefined.

    Args:
        logits: ``[N, C]`` logits or log-probabilities.
        y: ``[N]`` true classes.
        class_names: C names in class order.
        averaged: classes that macro F1 averages over.
        groups: ``[N]`` group names, resampled whole; None resamples rows within each true class.
        resamples: bootstrap draws behind the interval; 0 for no interval.
        seed: seed of the draws.
        teacher_logits: ``[N, C]`` or None; adds `agreement`, the share of rows on which both predict the same class.

    Raises:
        UserError: no rows, outputs that are not finite, or another number of outputs than classes.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    y, labels = np.asarray(y, dtype=np.int64), np.arange(len(class_names))
    if not len(y):
        raise UserError("there are no rows to score in this split; choose another split or data set")
    if logits.shape != (len(y), len(labels)):
        raise UserError(
            f"the model's outputs are {list(logits.shape)}, the data has {len(y)} rows of {len(labels)} classes; "
            "use a model with one output a class"
        )
    log_p = log_probabilities(logits)
    predicted = np.asarray(logits).argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(y, predicted, labels=labels, zero_division=0)
    whole, by_class = f1_intervals(y, predicted, len(labels), averaged, groups, resamples, seed)
    result = {
        "n": len(y),
        "macro_f1": float(np.mean(f1[list(averaged)])),
        "macro_f1_ci95": whole,
        "accuracy": float((predicted == y).mean()),
        "nll": _nll(log_p, y),
        "ece": ece(np.exp(log_p), y),
        "per_class": {
            str(name): {
                "f1": float(f1[c]),
                "f1_ci95": by_class[c],
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "support": int(support[c]),
            }
            for c, name in enumerate(class_names)
        },
        "averaged": [str(class_names[c]) for c in averaged],
        "confusion": confusion_matrix(y, predicted, labels=labels).tolist(),
    }
    if teacher_logits is not None:
        result["agreement"] = float((predicted == np.asarray(teacher_logits).argmax(axis=1)).mean())
    return result


def majority_problem(logits: np.ndarray, y: np.ndarray, classes: int) -> str:
    """Return how a model is no better than the majority class, or an empty text.

    Empty where accuracy or mean recall is clearly above it.

    A model that ignores its inputs has a mean recall of 1 / (classes with rows), whatever it predicts.
    """
    counts = np.bincount(y, minlength=classes)
    present = counts > 0
    right = logits.argmax(axis=1) == y
    share, chance = counts.max() / len(y), 1 / present.sum()
    recall = (np.bincount(y, weights=right, minlength=classes)[present] / counts[present]).mean()
    spread = np.sqrt(share * (1 - share) / len(y))
    recall_spread = np.sqrt((chance * (1 - chance) / counts[present]).sum()) / present.sum()
    if present.sum() < 2 or right.mean() > share + DEVIATIONS * spread or recall > chance + DEVIATIONS * recall_spread:
        return ""
    return f"its accuracy of {right.mean():.3f} is no better than the commonest class alone ({share:.3f})"
