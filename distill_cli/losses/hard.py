"""Cross-entropy with the labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from distill_cli.tasks.classification import class_weights, cross_entropy
from distill_cli.types import Batch, DataFacts, ModelOutput


class Hard(nn.Module):
    """``-sum_c w_c t_c log softmax(z)_c`` of each sample ``[B]``, 0 for rows without a label.

    Args:
        class_weight: ``none``, ``balanced`` or one number a class.
    """

    uses_teacher = False
    is_cross_entropy = True

    def __init__(self, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__()
        self.class_weight = class_weight
        self.register_buffer("weights", None)

    def bind(self, facts: DataFacts) -> None:
        """Turn `class_weight` into numbers."""
        self.weights = class_weights(self.class_weight, facts)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``[B]``."""
        return cross_entropy(student.logits, batch.target, batch.labelled, self.weights)
