"""Probabilistic knowledge transfer: Passalis and Tefas 2018."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill_cli.features.numerics import l2_normalize
from distill_cli.losses.base import RelationLoss
from distill_cli.losses.settings import Variant

# Kept away from log 0 by this: opposite vectors have no probability.
LEAST = 1e-7


class PKT(RelationLoss):
    """KL divergence between the similarity distributions of a batch, a scalar.

    ``sum_(i != j) p_ij log(p_ij / q_ij)``, p the teacher's, q the student's, summed over the pairs of layers.

    ``p_ij = K_ij / sum_(k != i) K_ik`` with ``K = (cos + 1) / 2`` of flattened features, >= 1e-7: the probability that row
    i picks row j (arXiv:1803.10837, section 3). The authors' code keeps the i = j in sum and normalisation, takes the mean
    over all B^2, and adds 1e-7 to both sides of the quotient: ``variant: code``. Widths may differ, so there are no adapters.

    Args:
        features: pairs of layers.
        variant: ``paper`` or ``code``.

    Example:
        >>> loss = PKT(["pool", "pool"])
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    def __init__(self, features: Any, variant: Variant = "paper") -> None:
        super().__init__(features)
        self.variant = variant
        self.min_batch_size = 3 if variant == "paper" else 2  # of two rows, each picks the other for certain
        self.zero_at_teacher = variant == "paper"  # the 1e-7 of the code leave a gradient

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features."""
        if self.variant == "code":
            q, p = (kernel / kernel.sum(dim=1, keepdim=True) for kernel in (similarity(s), similarity(t)))
            return (p * ((p + LEAST) / (q + LEAST)).log()).mean()
        if len(s) == 1:
            return s.sum() * 0  # no other row to pick
        log_q, log_p = (log_probabilities(similarity(x)) for x in (s, t))
        return (log_p.exp() * (log_p - log_q)).sum()


def similarity(x: Tensor) -> Tensor:
    """Return ``(cos + 1) / 2`` of all pairs of rows, ``[B, B]``, at least 0."""
    x = l2_normalize(x.flatten(1))
    return ((x @ x.T + 1) / 2).clamp(min=0)


def log_probabilities(kernel: Tensor) -> Tensor:
    """Return the log of each row's share among the other rows, ``[B, B - 1]``."""
    size = len(kernel)
    off_diagonal = ~torch.eye(size, dtype=torch.bool, device=kernel.device)
    log = kernel[off_diagonal].reshape(size, size - 1).clamp(min=LEAST).log()
    return log - log.logsumexp(dim=1, keepdim=True)
