"""Scores of exclusive classes on one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.bootstrap import Counts, mean_f1_of_draws
from distill_cli.metrics.classification import ece, log_probabilities, nll
from distill_cli.metrics.confusion import confusion_counts, f1_of_counts, macro_f1


class PredictedClasses:
    """True and predicted classes of the rows of one split: all that macro F1 needs.

    Args:
        y: ``[N]`` true classes, 0..C-1.
        predicted: ``[N]`` predicted classes.
        num_classes: C.
        averaged: classes that macro F1 averages over.
    """

    primary_metric = "macro_f1"
    parts = ("per_class", "f1")

    def __init__(self, y: np.ndarray, predicted: np.ndarray, num_classes: int, averaged: Sequence[int]) -> None:
        self.y, self.predicted = np.asarray(y, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
        self.num_classes, self.averaged = num_classes, np.asarray(averaged, dtype=np.int64)
        self.strata: np.ndarray | None = self.y
        self.cells = self.y * num_classes + self.predicted

    def primary_score(self) -> float:
        """Return macro F1 of the rows as they are."""
        return float(macro_f1(confusion_counts(self.y, self.predicted, self.num_classes), self.averaged.tolist()))

    def counts(self, weights: np.ndarray, rows: np.ndarray) -> Counts:
        """Return hits, support and predicted of each class, each ``[R, C]``.

        Args:
            weights: ``[R, K]`` weights of the rows.
            rows: ``[K]`` positions of the rows.
        """
        true, predicted = np.eye(self.num_classes)[self.y[rows]], np.eye(self.num_classes)[self.predicted[rows]]
        return weights @ (true * predicted), weights @ true, weights @ predicted

    def resampled(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return macro F1 ``[R]``.

        A draw averages over those of the averaged classes that it holds.
        """
        present = np.bincount(self.y, minlength=self.num_classes) > 0
        return mean_f1_of_draws(self.counts(weights, rows), self.averaged, present)

    def resampled_parts(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return F1 of each class ``[R, C]``."""
        hits, support, predicted = self.counts(weights, rows)
        return np.where(support > 0, f1_of_counts(hits, support, predicted), np.nan)


class ClassificationEvaluator(PredictedClasses):
    """Scores of one model's logits on one split.

    Precision, recall, F1, support and the confusion matrix are scikit-learn's, with 0 for what is undefined.

    Args:
        logits: ``[N, C]`` logits or log-probabilities.
        y: ``[N]`` true classes.
        class_names: C names.
        averaged: classes that macro F1 averages over.

    Raises:
        UserError: no rows, outputs that are not finite, or another number of outputs than classes.
    """

    def __init__(self, logits: np.ndarray, y: np.ndarray, class_names: Sequence[str], averaged: Sequence[int]) -> None:
        if not len(y):
            raise UserError("there are no rows to score in this split; choose another split or data set")
        if logits.shape != (len(y), len(class_names)):
            raise UserError(
                f"the model's outputs are {list(logits.shape)}, the data has {len(y)} rows of {len(class_names)} classes; "
                "use a model with one output a class"
            )
        self.log_p = log_probabilities(logits)
        self.class_names = class_names
        super().__init__(y, np.asarray(logits).argmax(axis=1), len(class_names), averaged)

    def compute(self) -> dict[str, Any]:
        """Return all scores without intervals.

        Macro F1, accuracy, NLL, ECE, the figures of each class and the confusion matrix.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        y, predicted, labels = self.y, self.predicted, np.arange(self.num_classes)
        precision, recall, f1, support = precision_recall_fscore_support(y, predicted, labels=labels, zero_division=0)
        return {
            "n": len(y),
            "macro_f1": float(np.mean(f1[self.averaged])),
            "accuracy": float((predicted == y).mean()),
            "nll": nll(self.log_p, y),
            "ece": ece(np.exp(self.log_p), y),
            "per_class": {
                str(name): {
                    "f1": float(f1[c]),
                    "precision": float(precision[c]),
                    "recall": float(recall[c]),
                    "support": int(support[c]),
                }
                for c, name in enumerate(self.class_names)
            },
            "averaged": [str(self.class_names[c]) for c in self.averaged],
            "confusion": confusion_matrix(y, predicted, labels=labels).tolist(),
        }

    def agreement(self, reference: Any) -> float:
        """Return the share of the rows on which another model predicts the same class."""
        return float((self.predicted == reference.predicted).mean())
