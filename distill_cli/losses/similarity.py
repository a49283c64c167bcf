"""Similarity-preserving distillation: Tung and Mori 2019."""

from __future__ import annotations

from torch import Tensor

from distill_cli.features.numerics import l2_normalize, scaled
from distill_cli.losses.base import RelationLoss


class Similarity(RelationLoss):
    """Distance of student's and teacher's similarity matrices, a scalar.

    ``||G_S - G_T||_F^2 / B^2``: the sum of squares over all B x B entries, divided by B squared, summed over the pairs.

    ``G = Q Q^T`` of the flattened features ``Q [B, D]``, each row of G divided by its L2 norm (arXiv:1907.09682,
    section 3). Widths may differ, so there are no adapters.

    Args:
        features: pairs of layers.

    Example:
        >>> loss = Similarity(["pool", "pool"])
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    zero_at_teacher = True

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features."""
        return (rows(s) - rows(t)).square().mean()


def rows(x: Tensor) -> Tensor:
    """Return similarities ``[B, B]``, each row of length 1."""
    flat = scaled(x, 0).flatten(1)
    return l2_normalize(flat @ flat.T)
