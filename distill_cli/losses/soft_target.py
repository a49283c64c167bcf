"""Soft targets: Hinton, Vinyals and Dean 2015."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.cross_entropy import WithCrossEntropy
from distill_cli.losses.settings import check_above_zero, check_share
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class SoftTarget(WithCrossEntropy):
    """Soft-target loss of each sample ``[B]``.

    ``alpha T^2 KL(softmax(v/T) || softmax(z/T)) + (1 - alpha) cross-entropy``.

    KL is summed over classes. T^2 keeps the gradient's size as T grows: it tends to ``alpha (z - v) / C`` for
    zero-mean logits (arXiv:1503.02531, section 2.1). Rows without a label keep their soft term only.

    Args:
        temperature: T > 0.
        alpha: share of the soft term, 0..1.
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.

    Example:
        >>> loss = SoftTarget(temperature=4.0, alpha=0.9)
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True

    def __init__(self, temperature: float = 2.0, alpha: float = 0.9, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__(class_weight)
        check_above_zero(temperature=temperature)
        check_share(alpha=alpha)
        self.temperature = temperature
        self.alpha = alpha
        self.uses_labels = alpha < 1

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        temperature = self.temperature
        log_p = F.log_softmax(to_float32(student.logits) / temperature, dim=-1)
        log_q = F.log_softmax(mean_logits(teachers) / temperature, dim=-1)
        soft = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1) * (self.alpha * temperature**2)
        if self.alpha == 1:
            return soft
        return torch.add(soft, self.cross_entropy(student, teachers, batch), alpha=1 - self.alpha)
