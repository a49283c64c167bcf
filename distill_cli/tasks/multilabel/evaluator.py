"""Scores of labels that do not exclude each other, on one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.bootstrap import Counts, mean_f1_of_draws
from distill_cli.metrics.confusion import f1_of_counts


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each label in float64.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {len(logits)} rows have outputs that are NaN or infinite: "
            "the model diverged; lower the learning rate or set clip_grad_norm=1"
        )
    return np.exp(-np.logaddexp(0.0, -logits))


def label_nll(logits: np.ndarray, y: np.ndarray) -> float:
    """Return the mean negative log-likelihood of one label, in nats: of logits and 0 or 1, both ``[N, L]``."""
    logits = np.asarray(logits, dtype=np.float64)
    return float((np.logaddexp(0.0, logits) - y * logits).mean())


class MultilabelEvaluator:
    """Scores of one model's logits on one split; a label is predicted where its probability is at least a half.

    F1, precision, recall, support, average precision and subset accuracy are scikit-learn's, with 0 for what is undefined; the
    average precision of a label without a row is left out of the mean.

    Args:
        logits: ``[N, L]``.
        y: ``[N, L]`` of 0 and 1.
        names: of the labels.

    Raises:
        UserError: no rows, outputs that are not finite, or another number of outputs than labels.
    """

    primary_metric = "macro_f1"
    parts = ("per_label", "f1")
    strata: np.ndarray | None = None

    def __init__(self, logits: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
        if not len(y):
            raise UserError("there are no rows to score in this split; choose another split or data set")
        if logits.shape != y.shape:
            raise UserError(
                f"the model's outputs are {list(logits.shape)}, the data has {len(y)} rows of {y.shape[1]} labels; "
                "use a model with one output a label"
            )
        self.names, self.logits, self.y = names, logits, np.asarray(y, dtype=np.int64)
        self.probability = sigmoid(logits)
        self.predicted = (self.probability >= 0.5).astype(np.int64)
        self.cells = np.unique(np.hstack([self.y, self.predicted]), axis=0, return_inverse=True)[1].reshape(-1)

    def counts(self, weights: np.ndarray, rows: np.ndarray) -> Counts:
        """Return hits, support and predicted of each label ``[R, L]`` under weights ``[R, K]`` of the rows ``[K]``."""
        true, predicted = self.y[rows].astype(np.float64), self.predicted[rows].astype(np.float64)
        return weights @ (true * predicted), weights @ true, weights @ predicted

    def primary_score(self) -> float:
        """Return macro F1 of the rows as they are."""
        return float(f1_of_counts((self.y * self.predicted).sum(0), self.y.sum(0), self.predicted.sum(0)).mean())

    def resampled(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return macro F1 ``[R]``; a draw averages over the labels that it holds."""
        return mean_f1_of_draws(self.counts(weights, rows), np.arange(self.y.shape[1]), self.y.sum(axis=0) > 0)

    def resampled_parts(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return F1 of each label ``[R, L]``."""
        hits, support, predicted = self.counts(weights, rows)
        return np.where(support > 0, f1_of_counts(hits, support, predicted), np.nan)

    def epoch_scores(self) -> dict[str, float]:
        """Return macro F1, subset accuracy and NLL."""
        subset = float((self.y == self.predicted).all(axis=1).mean())
        return {"macro_f1": self.primary_score(), "subset_accuracy": subset, "nll": label_nll(self.logits, self.y)}

    def compute(self) -> dict[str, Any]:
        """Return macro F1, subset accuracy, NLL, mean average precision and the figures of each label."""
        from sklearn.metrics import average_precision_score, precision_recall_fscore_support

        precision, recall, f1, support = precision_recall_fscore_support(self.y, self.predicted, average=None, zero_division=0)
        areas = [
            float(average_precision_score(self.y[:, k], self.probability[:, k])) if support[k] else None
            for k in range(len(self.names))
        ]
        known = [area for area in areas if area is not None]
        return {
            "n": len(self.y),
            **self.epoch_scores(),
            "average_precision": float(np.mean(known)) if known else None,
            "per_label": {
                str(name): {
                    "f1": float(f1[k]),
                    "precision": float(precision[k]),
                    "recall": float(recall[k]),
                    "average_precision": areas[k],
                    "support": int(support[k]),
                }
                for k, name in enumerate(self.names)
            },
        }

    def agreement(self, reference: Any) -> float:
        """Return the share of the rows on which another model predicts the same labels."""
        return float((self.predicted == reference.predicted).all(axis=1).mean())
