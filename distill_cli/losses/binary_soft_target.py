"""Soft targets of labels that do not exclude each other.

Hinton, Vinyals and Dean 2015, each label a choice of two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.binary_cross_entropy import binary_cross_entropy
from distill_cli.losses.settings import check_above_zero, check_share
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class BinarySoftTarget(DistillationLoss):
    """``alpha T^2 mean_l KL(s(v_l/T) || s(z_l/T)) + (1 - alpha) binary cross-entropy`` of each sample ``[B]``.

    ``s`` is the sigmoid, and KL is between the two Bernoulli distributions of a label: the soft targets of Hinton et al. 2015
    (arXiv:1503.02531, section 2) for each label by itself, as the multi-label logits distillation of Yang et al. 2023
    (arXiv:2308.06453, section 3.2) reduces labels to choices of two. T^2 keeps the gradient's size as T grows. The mean over
    the labels keeps both terms of one size whatever their number. Rows without labels keep their soft term only.

    Args:
        temperature: T > 0.
        alpha: share of the soft term, 0..1.

    Example:
        >>> loss = BinarySoftTarget(temperature=2.0, alpha=0.9)
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    targets = ("labels",)
    min_classes = 1
    zero_at_teacher = True

    def __init__(self, temperature: float = 2.0, alpha: float = 0.9) -> None:
        super().__init__()
        check_above_zero(temperature=temperature)
        check_share(alpha=alpha)
        self.temperature = temperature
        self.alpha = alpha
        self.uses_labels = alpha < 1

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        z, v = to_float32(student.logits) / self.temperature, mean_logits(teachers) / self.temperature
        q = v.sigmoid()
        # KL of s(v) from s(z), without the logarithm of a probability that has become 0
        divergence = q * (F.logsigmoid(v) - F.logsigmoid(z)) + (1 - q) * (F.logsigmoid(-v) - F.logsigmoid(-z))
        soft = divergence.mean(dim=-1) * (self.alpha * self.temperature**2)
        if self.alpha == 1:
            return soft
        return torch.add(soft, binary_cross_entropy(student, batch), alpha=1 - self.alpha)
