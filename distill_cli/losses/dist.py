"""DIST, relations instead of values: Huang, You, Wang, Qian and Xu 2022."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32, unit_deviations
from distill_cli.losses.cross_entropy import WithCrossEntropy
from distill_cli.losses.settings import Variant, check_above_zero, check_not_negative, check_variant
from distill_cli.tasks.classification.targets import mean_logits
from distill_cli.types import Batch, ModelOutput


class DIST(WithCrossEntropy):
    """Correlation loss between student's and teacher's probabilities, a scalar.

    ``beta mean_b(1 - rho(p_b, q_b)) + gamma mean_c(1 - rho(p_c, q_c)) + hard x mean_b cross-entropy``.

    rho is Pearson's correlation, of each sample's row over classes and of each class's column over the batch (arXiv:2205.10536,
    equations 6 to 8); p = softmax(z/T), the teacher's q = softmax(v/T). The second mean relates samples, so the loss depends on
    the batch. Where a row or column is constant, or below 1e-30, rho is undefined and counts as 0, with zero gradient; so do all
    columns of a batch of one row. Two numbers have rho 1 or -1: with two classes nothing is left of beta's term, on batches of
    two rows nothing of gamma's.

    Args:
        beta: weight of the relations between classes, >= 0.
        gamma: weight of the relations within a class, >= 0.
        temperature: T > 0.
        hard: weight of the cross-entropy with the labels, >= 0; 0 leaves it out.
        class_weight: for the cross-entropy: ``none``, ``balanced`` or one number a class.
        variant: ``paper`` as above; ``code`` multiplies both relations by T^2, as the authors' code does.

    Example:
        >>> loss = DIST(temperature=4.0)
        >>> bool(loss(teacher, [teacher], batch).abs() < 1e-5)  # a scalar
        True
    """

    zero_at_teacher = True

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        hard: float = 0.0,
        class_weight: str | Sequence[float] = "none",
        variant: Variant = "paper",
    ) -> None:
        super().__init__(class_weight)
        check_not_negative(beta=beta, gamma=gamma, hard=hard)
        check_above_zero(temperature=temperature)
        check_variant(variant)
        self.beta, self.gamma, self.temperature, self.hard, self.variant = beta, gamma, temperature, hard, variant
        self.uses_labels = hard > 0
        parts = {"beta": (beta, (1, 3)), "gamma": (gamma, (3, 2))}
        self.part_minimums = {name: least for name, (weight, least) in parts.items() if weight}

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of the batch, a scalar."""
        p = F.softmax(to_float32(student.logits) / self.temperature, dim=-1)
        q = F.softmax(mean_logits(teachers) / self.temperature, dim=-1)
        between, within = ((unit_deviations(p, d) * unit_deviations(q, d)).sum(dim=d).mean() for d in (1, 0))
        scale = self.temperature**2 if self.variant == "code" else 1.0
        soft = scale * (self.beta * (1 - between) + self.gamma * (1 - within))
        return soft + self.hard * self.cross_entropy(student, teachers, batch).mean() if self.hard else soft
