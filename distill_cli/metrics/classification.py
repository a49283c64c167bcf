"""Scores of a model's outputs: F1, accuracy, negative log-likelihood, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.confusion import confusion_counts, macro_f1

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


def nll(log_p: np.ndarray, y: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        log_p: ``[N, C]`` log-probabilities.
        y: ``[N]`` true classes.
    """
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
    return {"macro_f1": float(macro_f1(confusion, averaged)), "accuracy": accuracy, "nll": nll(log_p, y)}


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
