"""Cross-entropy with the labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from distill_cli.losses.base import DistillationLoss
from distill_cli.tasks.classification.targets import class_weights, cross_entropy
from distill_cli.types import Batch, DataFacts, ModelOutput


class CrossEntropy(DistillationLoss):
    """Cross-entropy with the labels, of each sample ``[B]``.

    ``-sum_c w_c t_c log softmax(z)_c``, 0 for samples without a label.

    Args:
        class_weight: ``none``, ``balanced`` or one number a class.

    Example:
        >>> loss = CrossEntropy(class_weight="balanced")
        >>> loss.bind(facts, student, [teacher])  # weights from the classes' counts
        >>> loss.weights
        tensor([0.8333, 0.8333, 1.6667])
    """

    uses_teacher = False
    is_supervised = True
    targets = ("classes",)
    class_weight: str | Sequence[float]

    def __init__(self, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__()
        self.class_weight = class_weight
        self.register_buffer("weights", None)

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Compute the class weights from `class_weight` and the class counts."""
        self.weights = class_weights(self.class_weight, facts)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``[B]``."""
        return cross_entropy(student.logits, batch.target, batch.labeled, self.weights)


class WithCrossEntropy(DistillationLoss):
    """Base class of losses that include a cross-entropy.

    The cross-entropy replaces the loss in a control.

    Args:
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.
    """

    targets = ("classes",)

    def __init__(self, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(class_weight)

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Compute the class weights from `class_weight` and the class counts."""
        self.cross_entropy.bind(facts, student, teachers)

    def without_teacher(self) -> CrossEntropy:
        """Return a cross-entropy with the same class weights."""
        return CrossEntropy(self.cross_entropy.class_weight)
