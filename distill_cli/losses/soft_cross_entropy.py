"""Cross-entropy with the teacher's softened probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.settings import Variant, check_above_zero, check_variant
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class SoftCrossEntropy(DistillationLoss):
    """Cross-entropy with the teacher's probabilities, of each sample ``[B]``.

    ``-T^2 sum_c q_c log p_c`` with p = softmax(z/T) and the teacher's q = softmax(v/T).

    Summed over classes. The gradient is that of soft targets (`SoftTarget` with alpha 1), and the value is larger by T^2 times
    the teacher's entropy, so that the loss is not zero where the student equals its teacher. Labels are not used.

    Args:
        temperature: T > 0.
        variant: ``paper`` multiplies by T^2 (arXiv:1503.02531, section 2); ``code`` does not (TextBrewer's `kd_ce_loss`).

    Example:
        >>> loss = SoftCrossEntropy(temperature=4.0)
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    uses_labels = False
    zero_at_teacher = "gradient"

    def __init__(self, temperature: float = 2.0, variant: Variant = "paper") -> None:
        super().__init__()
        check_above_zero(temperature=temperature)
        check_variant(variant)
        self.temperature = temperature
        self.variant = variant

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``[B]``."""
        log_p = F.log_softmax(to_float32(student.logits) / self.temperature, dim=-1)
        q = F.softmax(mean_logits(teachers) / self.temperature, dim=-1)
        scale = self.temperature**2 if self.variant == "paper" else 1.0
        return (q * log_p).sum(dim=-1) * -scale
