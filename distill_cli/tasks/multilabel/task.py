"""Multi-label classification: any number of L labels a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distill_cli.errors import UserError
from distill_cli.tasks.multilabel.evaluator import MultilabelEvaluator, sigmoid
from distill_cli.tasks.task import Metric, PartColumn, Task

if TYPE_CHECKING:
    from torch import Tensor

    from distill_cli.types import Dataset, Pool

FEWEST_ALIKE = 10  # rows with the same labels, below which they share a stratum with other rare ones


class Multilabel(Task):
    """Task of independent labels, any of L a sample.

    Logits ``[B, L]``, sigmoid, macro F1 over the labels.

        Args:
            supervised_loss: option of the group `loss` that learns from labels.
            distillation_loss: option that a student learns by unless another is chosen.
    """

    name = "multilabel"
    metrics = (
        Metric("macro_f1", "macro F1"),
        Metric("subset_accuracy", "subset accuracy"),
        Metric("nll", "NLL", higher_is_better=False, unit="nats", bounds=None),
        Metric("average_precision", "average precision", per_epoch=False),
    )
    targets = "labels"
    shown_as = "probabilities are the sigmoid of the logits, each label by itself"
    part, parts, part_key = "label", "labels", "per_label"
    part_columns = (
        PartColumn("f1", "F1"), PartColumn("precision", "precision"), PartColumn("recall", "recall"),
        PartColumn("average_precision", "average precision"), PartColumn("support", "support", is_count=True),
    )  # fmt: skip

    def __init__(self, supervised_loss: str = "binary_cross_entropy", distillation_loss: str = "binary_soft_target") -> None:
        self.supervised_loss, self.distillation_loss = supervised_loss, distillation_loss

    def encode_targets(self, y: np.ndarray, num_outputs: int) -> Tensor:
        """Return the labels ``[N, L]`` as 0 and 1; zeros where nobody knows them."""
        import torch

        return torch.from_numpy(np.maximum(y, 0)).float()

    def check_dataset(self, dataset: Dataset) -> None:
        """Check that labels are 0 and 1, and that train has rows with and without each of them."""
        names = dataset.class_names
        for split, pool in dataset.pools.items():
            if pool.y.ndim != 2 or pool.y.shape[1] != len(names):
                shape = list(pool.y.shape)
                raise UserError(f"{dataset.name}: labels of {split} are {shape}; expected [N, {len(names)}] of 0 and 1")
            wrong = np.flatnonzero(~np.isin(pool.y, (0, 1)).all(axis=1))
            if len(wrong):
                i = int(wrong[0])
                row, labels = pool.index[i], pool.y[i].tolist()
                raise UserError(f"{dataset.name}: row {row} of {split} has labels other than 0 and 1: {labels}")
        rows = dataset.train.y.sum(axis=0)
        for name, n in zip(names, rows.tolist(), strict=True):
            if n in (0, len(dataset.train)):
                what = "no row" if n == 0 else "every row"
                where = f"{dataset.name}: label '{name}' holds in {what} of train"
                raise UserError(f"{where}; leave it out, or give rows of both kinds")

    def epoch_scores(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> dict[str, float]:
        """Return macro F1, subset accuracy and NLL."""
        return self.evaluator(outputs, pool, dataset).epoch_scores()

    def evaluator(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> MultilabelEvaluator:
        """Return what scores logits on a pool."""
        return MultilabelEvaluator(outputs, pool.y, dataset.class_names)

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Return a number for each set of labels that is not rare, and 0 for all rare ones."""
        _, group, counts = np.unique(y, axis=0, return_inverse=True, return_counts=True)
        group = group.reshape(-1)
        return np.where(counts[group] < FEWEST_ALIKE, 0, group + 1)

    def part_counts(self, y: np.ndarray, num_outputs: int) -> np.ndarray:
        """Return the rows in which each label holds ``[L]``."""
        return (y > 0).sum(axis=0)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the sigmoid of logits."""
        return outputs.sigmoid()

    def shown(self, outputs: np.ndarray) -> np.ndarray:
        """Return the sigmoid of logits."""
        return sigmoid(outputs)

    def prediction_columns(self, shown: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return a probability for each label."""
        return {f".{name}": [f"{p:.6g}" for p in column] for name, column in zip(names, shown.T.tolist(), strict=True)}

    def target_columns(self, y: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return each label, 0 or 1."""
        return {f"true.{name}": [str(value) for value in column] for name, column in zip(names, y.T.tolist(), strict=True)}


TASK = Multilabel()
