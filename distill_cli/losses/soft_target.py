"""Soft targets: Hinton, Vinyals and Dean 2015."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.losses.hard import Hard
from distill_cli.tasks.classification import full_precision, mean_logits
from distill_cli.types import Batch, DataFacts, ModelOutput


class SoftTarget(nn.Module):
    """``alpha T^2 KL(softmax(v/T) || softmax(z/T)) + (1 - alpha) cross-entropy`` of each sample ``[B]``.

    KL is summed over classes. T^2 keeps the gradient's size as T grows: it tends to ``alpha (z - v) / C`` for
    zero-mean logits (arXiv:1503.02531, section 2.1). Rows without a label keep their soft term only.

    Args:
        temperature: T > 0.
        alpha: share of the soft term, 0..1.
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.
    """

    uses_teacher = True
    zero_at_teacher = True

    def __init__(self, temperature: float = 2.0, alpha: float = 0.9, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be > 0, got {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.temperature = temperature
        self.alpha = alpha
        self.uses_labels = alpha < 1
        self.hard = Hard(class_weight)

    def bind(self, facts: DataFacts) -> None:
        """Turn `class_weight` into numbers."""
        self.hard.bind(facts)

    def without_teacher(self) -> Hard:
        """Return the cross-entropy that stands for this loss in a control."""
        return Hard(self.hard.class_weight)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        temperature = self.temperature
        log_p = F.log_softmax(full_precision(student.logits) / temperature, dim=-1)
        log_q = F.log_softmax(mean_logits(teachers) / temperature, dim=-1)
        soft = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1) * (self.alpha * temperature**2)
        if self.alpha == 1:
            return soft
        return torch.add(soft, self.hard(student, teachers, batch), alpha=1 - self.alpha)
