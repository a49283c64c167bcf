"""Regularisers without a teacher: label smoothing and a virtual teacher.

Szegedy et al. 2016 and Yuan et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.settings import check_above_zero, check_share
from distill_cli.tasks.classification.targets import cross_entropy
from distill_cli.types import Batch, ModelOutput


class LabelSmoothing(CrossEntropy):
    """Cross-entropy with smoothed labels, of each sample ``[B]``.

    ``-sum_c w_c s_c log softmax(z)_c`` with s = (1 - epsilon) t + epsilon / C, 0 without a label.

    Source: arXiv:1512.00567, section 7, with the uniform prior over all C classes.

    Args:
        epsilon: share of the uniform distribution in the targets, 0..1.
        class_weight: ``none``, ``balanced`` or one number a class.

    Example:
        >>> loss = LabelSmoothing(epsilon=0.1)
        >>> loss(student, [], batch).shape
        torch.Size([8])
    """

    def __init__(self, epsilon: float = 0.1, class_weight: str | Sequence[float] = "none") -> None:
        super().__init__(class_weight)
        check_share(epsilon=epsilon)
        self.epsilon = epsilon

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``[B]``."""
        smoothed = (1 - self.epsilon) * batch.target + self.epsilon / batch.target.shape[-1]
        return cross_entropy(student.logits, smoothed, batch.labeled, self.weights)


class VirtualTeacher(DistillationLoss):
    """Distillation from a virtual teacher, Tf-KD_reg, of each sample ``[B]``.

    ``(1 - alpha) cross-entropy + alpha KL(q || p)``, 0 without a label.

    The virtual teacher gives the target class probability `correct` and shares the rest out evenly; q is that softened,
    q_c ~ u_c^(1/T), and p = softmax(z/T). KL is summed over classes; no T^2. A mixed target has the mix of its classes' u.

    Source: arXiv:1909.11723, section 4.2. (The authors' code differs: the student stays at T = 1, q is the softmax of u/T,
    and KL is averaged over classes too, then multiplied by a constant of each network.)

    Args:
        alpha: share of the virtual teacher, 0..1.
        correct: the virtual teacher's probability of the target class, above 0 and below 1; the paper asks for >= 0.9.
        temperature: T > 0.

    Example:
        >>> loss = VirtualTeacher(alpha=0.1, temperature=20.0)
        >>> loss(student, [], batch).shape
        torch.Size([8])
    """

    uses_teacher = False
    is_supervised = True

    def __init__(self, alpha: float = 0.1, correct: float = 0.99, temperature: float = 2.0) -> None:
        super().__init__()
        check_share(alpha=alpha)
        if not 0 < correct < 1:
            raise ValueError(f"correct must be above 0 and below 1, got {correct}")
        check_above_zero(temperature=temperature)
        self.alpha, self.correct, self.temperature = alpha, correct, temperature

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the weighted sum of each sample ``[B]``."""
        logits = to_float32(student.logits)
        target = batch.target.to(logits.dtype)
        virtual = self.correct * target + (1 - self.correct) / (target.shape[-1] - 1) * (1 - target)
        log_q = F.log_softmax(virtual.log() / self.temperature, dim=-1)
        log_p = F.log_softmax(logits / self.temperature, dim=-1)
        soft = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=-1) * batch.labeled
        return (1 - self.alpha) * cross_entropy(logits, target, batch.labeled) + self.alpha * soft
