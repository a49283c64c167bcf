"""Jensen-Shannon divergence: Lin 1991."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.settings import check_above_zero
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class JensenShannon(DistillationLoss):
    """Jensen-Shannon divergence to the teacher, of each sample ``[B]``.

    ``T^2 (1/2 KL(p || m) + 1/2 KL(q || m))``, at most T^2 log 2.

    p = softmax(z/T), the teacher's q = softmax(v/T), m = (p + q) / 2; each KL is summed over classes. Labels are not used.
    The divergence: doi:10.1109/18.61115; T^2 keeps the gradient's size as in soft targets.

    Args:
        temperature: T > 0.

    Example:
        >>> loss = JensenShannon(temperature=1.0)
        >>> bool((loss(student, [teacher], batch) < 0.6932).all())  # log 2
        True
    """

    uses_labels = False
    zero_at_teacher = True

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        check_above_zero(temperature=temperature)
        self.temperature = temperature

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the divergence of each sample ``[B]``."""
        log_p = F.log_softmax(to_float32(student.logits) / self.temperature, dim=-1)
        log_q = F.log_softmax(mean_logits(teachers) / self.temperature, dim=-1)
        log_m = torch.logaddexp(log_p, log_q) - 0.6931471805599453  # log 2
        of_p = F.kl_div(log_m, log_p, reduction="none", log_target=True)
        of_q = F.kl_div(log_m, log_q, reduction="none", log_target=True)
        return (of_p + of_q).sum(dim=-1) * (self.temperature**2 / 2)
