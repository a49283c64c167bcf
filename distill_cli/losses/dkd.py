"""Decoupled knowledge distillation: Zhao, Cui, Song, Qiu and Liang 2022."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.cross_entropy import WithCrossEntropy
from distill_cli.losses.settings import check_above_zero, check_not_negative
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class DKD(WithCrossEntropy):
    """Decoupled knowledge distillation loss of each sample ``[B]``.

    ``T^2 (alpha TCKD + beta NCKD) + hard x cross-entropy`` (arXiv:2203.08679, equation 7).

    TCKD is the binary KL between target class and all others, NCKD the KL among the others, each its own softmax; both at
    temperature T, teacher against student, summed over classes. With q_t the teacher's probability of the target class,
    TCKD + (1 - q_t) NCKD is the KL of soft targets. The target class is the largest of `batch.target`; of a row without a
    label the teacher's predicted class, so that the row weighs as much as others, and its cross-entropy is 0. With two
    classes there are no other classes to compare: NCKD is 0.

    Args:
        alpha: weight of TCKD, >= 0.
        beta: weight of NCKD, >= 0.
        temperature: T > 0.
        hard: weight of the cross-entropy with the labels, >= 0; 0 leaves it out.
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.

    Example:
        >>> loss = DKD(alpha=1.0, beta=8.0, temperature=4.0)
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        hard: float = 0.0,
        class_weight: str | Sequence[float] = "none",
    ) -> None:
        super().__init__(class_weight)
        check_not_negative(alpha=alpha, beta=beta, hard=hard)
        check_above_zero(temperature=temperature)
        self.alpha, self.beta, self.temperature, self.hard = alpha, beta, temperature, hard
        parts = {"alpha": (alpha, (1, 2)), "beta": (beta, (1, 3))}
        self.part_minimums = {name: least for name, (weight, least) in parts.items() if weight}

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        z, v = to_float32(student.logits) / self.temperature, mean_logits(teachers) / self.temperature
        target = torch.where(batch.labeled > 0, batch.target.argmax(dim=-1), v.argmax(dim=-1)).unsqueeze(-1)
        non_targets = torch.arange(z.shape[-1] - 1, device=z.device)
        non_targets = non_targets + (non_targets >= target)  # [B, C-1]: every class but the target
        tckd = _kl(_binary(v, target, non_targets), _binary(z, target, non_targets))
        nckd = _kl(F.log_softmax(v.gather(-1, non_targets), dim=-1), F.log_softmax(z.gather(-1, non_targets), dim=-1))
        soft = (self.alpha * tckd + self.beta * nckd) * self.temperature**2
        return torch.add(soft, self.cross_entropy(student, teachers, batch), alpha=self.hard) if self.hard else soft


def _binary(logits: Tensor, target: Tensor, non_targets: Tensor) -> Tensor:
    """Return log-probabilities ``[B, 2]`` of the target class and of the others."""
    log_p = F.log_softmax(logits, dim=-1)
    return torch.cat([log_p.gather(-1, target), log_p.gather(-1, non_targets).logsumexp(dim=-1, keepdim=True)], dim=-1)


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1)
