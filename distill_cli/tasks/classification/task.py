"""Classification into exclusive classes: the first task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.classification import log_probabilities, quick_scores
from distill_cli.tasks.classification.evaluator import ClassificationEvaluator
from distill_cli.tasks.task import Metric, PartColumn, Task

if TYPE_CHECKING:
    from torch import Tensor

    from distill_cli.types import Dataset, Pool


class Classification(Task):
    """One of C classes a sample: logits ``[B, C]``, softmax, macro F1.

    Args:
        supervised_loss: option of the group `loss` that learns from labels.
        distillation_loss: option that a student learns by unless another is chosen.
    """

    name = "classification"
    metrics = (
        Metric("macro_f1", "macro F1"),
        Metric("accuracy", "accuracy"),
        Metric("nll", "NLL", higher_is_better=False, unit="nats", bounds=None),
        Metric("ece", "ECE", higher_is_better=False, per_epoch=False),
    )
    targets = "classes"
    part, parts = "class", "classes"
    part_key = "per_class"
    part_columns = (
        PartColumn("f1", "F1"), PartColumn("precision", "precision"), PartColumn("recall", "recall"),
        PartColumn("support", "support", is_count=True),
    )  # fmt: skip
    exports = ("safetensors", "onnx", "onnx-int8", "c", "c-int8", "web")
    has_classes = True
    shown_as = "probabilities are the softmax of the logits"

    def __init__(self, supervised_loss: str = "cross_entropy", distillation_loss: str = "soft_target") -> None:
        self.supervised_loss, self.distillation_loss = supervised_loss, distillation_loss

    def encode_targets(self, y: np.ndarray, num_outputs: int) -> Tensor:
        """Return class probabilities ``[N, C]``."""
        from distill_cli.tasks.classification.targets import targets

        return targets(y, num_outputs)

    def check_dataset(self, dataset: Dataset) -> None:
        """Check that labels are classes, more than one.

        Every class that is scored must be trained on.
        """
        top = len(dataset.class_names) - 1
        for split, pool in dataset.pools.items():
            if pool.y.ndim != 1 or not np.issubdtype(pool.y.dtype, np.integer):
                raise UserError(
                    f"{dataset.name}: labels of {split} are no classes [N]; give the number of its class for each row"
                )
            wrong = np.flatnonzero((pool.y < 0) | (pool.y > top))
            if len(wrong):
                i = int(wrong[0])
                raise UserError(f"{dataset.name}: row {pool.index[i]} of {split} has class {pool.y[i]}; classes are 0 to {top}")
        if len(dataset.train) < len(dataset.class_names):
            raise UserError(
                f"{dataset.name}: train has {len(dataset.train)} rows for {len(dataset.class_names)} classes; "
                "give each at least one"
            )
        known = np.unique(dataset.train.y)
        if len(known) < 2:
            only = dataset.class_names[known[0]]
            raise UserError(f"{dataset.name}: train has one class only ('{only}'); a classifier needs at least two")
        for split, pool in dataset.pools.items():
            for c, n in zip(*np.unique(pool.y, return_counts=True), strict=True):
                if c not in known:
                    rows = f"{n} row{'s' if n > 1 else ''}"
                    raise UserError(
                        f"{dataset.name}: class '{dataset.class_names[c]}' is in {split} ({rows}) but not in train; "
                        f"give train rows of it, or take it out of {split}"
                    )

    def epoch_scores(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> dict[str, float]:
        """Return macro F1, accuracy and NLL."""
        return quick_scores(outputs, pool.y, dataset.macro_classes)

    def evaluator(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> ClassificationEvaluator:
        """Return what scores logits on a pool."""
        return ClassificationEvaluator(outputs, pool.y, dataset.class_names, dataset.macro_classes)

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Return the classes themselves."""
        return y

    def part_counts(self, y: np.ndarray, num_outputs: int) -> np.ndarray:
        """Return the rows of each class ``[C]``."""
        return np.bincount(y[y >= 0], minlength=num_outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the softmax of logits."""
        import torch

        return torch.softmax(outputs, dim=1)

    def shown(self, outputs: np.ndarray) -> np.ndarray:
        """Return the softmax of logits or log-probabilities."""
        return np.exp(log_probabilities(outputs))

    def prediction_columns(self, shown: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the predicted class, then a probability for each class."""
        columns: dict[str, Sequence[str]] = {"": [names[c] for c in shown.argmax(axis=1)]}
        return columns | {f".{name}": [f"{p:.6g}" for p in column] for name, column in zip(names, shown.T.tolist(), strict=True)}

    def target_columns(self, y: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the true class."""
        return {"true": [names[c] for c in y]}


TASK = Classification()
