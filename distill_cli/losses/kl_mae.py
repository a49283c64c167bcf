"""The loss that the heartbeat tutorial publishes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.settings import check_not_negative
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class KLMAE(DistillationLoss):
    """KL divergence plus mean absolute error, of each sample ``[B]``.

    ``KL(q || p) + mae x mean_c |q_c - p_c|`` on probabilities at T = 1.

    KL is summed over classes, the absolute error is averaged over them, as Keras does. Labels are not used.

    Args:
        mae: weight of the absolute error, >= 0.

    Source: github.com/CVxTz/knowledge_distillation, `custom_loss`.

    Example:
        >>> loss = KLMAE(mae=0.1)
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    uses_labels = False
    zero_at_teacher = True

    def __init__(self, mae: float = 0.1) -> None:
        super().__init__()
        check_not_negative(mae=mae)
        self.mae = mae

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        log_p = F.log_softmax(to_float32(student.logits), dim=-1)
        log_q = F.log_softmax(mean_logits(teachers), dim=-1)
        kl = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1)
        return kl + self.mae * (log_q.exp() - log_p.exp()).abs().mean(dim=-1)
