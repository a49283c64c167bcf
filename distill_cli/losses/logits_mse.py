"""Regression on logits: Ba and Caruana 2014."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class LogitsMSE(DistillationLoss):
    """Mean squared error between logits, of each sample ``[B]``.

    ``mean_c (z_c - v_c)^2``, the mean over the C classes.

    The paper writes half the sum over classes (arXiv:1312.6184, equation 1): C/2 times this; set `weight` for that.

    Example:
        >>> loss = LogitsMSE()
        >>> loss(teacher, [teacher], batch)
        tensor([0., 0., 0., 0., 0., 0., 0., 0.])
    """

    uses_labels = False
    zero_at_teacher = True

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        return (to_float32(student.logits) - mean_logits(teachers)).square().mean(dim=-1)
