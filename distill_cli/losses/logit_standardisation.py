"""Soft targets on standardised logits: Sun, Ren, Li, Wang and Cao 2024."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32, unit_deviations
from distill_cli.losses.cross_entropy import WithCrossEntropy
from distill_cli.losses.settings import Variant, check_above_zero, check_not_negative, check_variant
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class LogitStandardisation(WithCrossEntropy):
    """Soft-target loss on standardised logits, of each sample ``[B]``.

    ``soft x T^2 KL(softmax(v'/T) || softmax(z'/T)) + hard x cross-entropy``.

    z' = (z - mean) / sigma over a sample's K logits, v' the teacher's (arXiv:2403.01427, algorithms 1 and 2). KL is summed over
    classes. The cross-entropy, on the logits as they are, is 0 for rows without a label. Logits that are all equal have no
    sigma: they count as zeros, with zero gradient from the soft term. Two classes have 1 and -1, so nothing is left to learn.

    Args:
        temperature: the base temperature T > 0.
        soft: weight of the soft term, >= 0.
        hard: weight of the cross-entropy with the labels, >= 0; 0 leaves it out.
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.
        variant: ``paper`` takes sigma^2 as the mean over K; ``code`` divides by K - 1, as `torch.std` does.

    Example:
        >>> loss = LogitStandardisation(temperature=2.0)
        >>> larger = ModelOutput(3 * student.logits)
        >>> torch.allclose(loss(larger, [teacher], batch), loss(student, [teacher], batch), atol=1e-5)
        True
    """

    zero_at_teacher = True

    def __init__(
        self,
        temperature: float = 2.0,
        soft: float = 1.0,
        hard: float = 0.0,
        class_weight: str | Sequence[float] = "none",
        variant: Variant = "paper",
    ) -> None:
        super().__init__(class_weight)
        check_not_negative(soft=soft, hard=hard)
        check_above_zero(temperature=temperature)
        check_variant(variant)
        self.temperature, self.soft, self.hard, self.variant = temperature, soft, hard, variant
        self.uses_labels = hard > 0
        self.min_classes = 3 if soft else 2  # two standardised logits are 1 and -1

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        classes = student.logits.shape[-1]
        scale = (classes - (self.variant == "code")) ** 0.5 / self.temperature  # of deviations of length 1
        log_p = F.log_softmax(scale * unit_deviations(to_float32(student.logits)), dim=-1)
        log_q = F.log_softmax(scale * unit_deviations(mean_logits(teachers)), dim=-1)
        soft = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1) * (self.soft * self.temperature**2)
        return torch.add(soft, self.cross_entropy(student, teachers, batch), alpha=self.hard) if self.hard else soft
