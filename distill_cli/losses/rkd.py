"""Relational knowledge distillation, distances and angles: Park et al. 2019."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import distances, l2_normalize, sum_losses
from distill_cli.losses.base import RelationLoss
from distill_cli.losses.settings import Variant, check_not_negative


class RKD(RelationLoss):
    """Relational loss on distances and angles between samples, a scalar.

    ``distance x L_D + angle x L_A`` of flattened features, summed over the pairs of layers.

    L_D is the sum over all ordered pairs of samples i != j of ``huber(d_S,ij / mean d_S - d_T,ij / mean d_T)``, with d the
    L2 distance and its mean over those pairs. L_A is the sum over all ordered triples of different samples of
    ``huber(cos_S,ijk - cos_T,ijk)``, with cos the cosine of the angle at j (arXiv:1904.05068, section 3.2). huber is
    ``x^2/2`` up to 1, ``|x| - 1/2`` beyond. The authors' code takes means over all B^2 and B^3 instead of the sums, the
    i = j and i = k included, which are 0: ``variant: code``. Widths may differ, so there are no adapters. Memory grows with
    B^2 D + B^3: choose a pooled layer.

    Args:
        features: pairs of layers.
        distance: weight of L_D, >= 0.
        angle: weight of L_A, >= 0.
        variant: ``paper`` or ``code``.

    Example:
        >>> loss = RKD(["pool", "pool"], distance=25.0, angle=50.0, variant="code")
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    zero_at_teacher = True
    min_batch_size = 3  # of two rows there is one distance, which is its own mean, and no angle

    def __init__(self, features: Any, distance: float = 1.0, angle: float = 2.0, variant: Variant = "paper") -> None:
        super().__init__(features)
        check_not_negative(distance=distance, angle=angle)
        if distance == angle == 0:
            raise ValueError("distance and angle are both 0, so nothing is left of this loss")
        self.distance = distance
        self.angle = angle
        self.variant = variant

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features."""
        s, t = s.flatten(1), t.flatten(1)
        parts = []
        for weight, relate in ((self.distance, relative_distances), (self.angle, angles)):
            if weight:
                losses = F.smooth_l1_loss(relate(s), relate(t), reduction="none")
                parts.append(weight * (losses.mean() if self.variant == "code" else losses.sum()))
        return sum_losses(parts)


def relative_distances(x: Tensor) -> Tensor:
    """Return the distances ``[B, B]`` divided by their mean over i != j.

    Zeros where all rows are equal.
    """
    pairwise = distances(x)
    mean = pairwise.sum() / max(len(x) * (len(x) - 1), 1)
    return pairwise / torch.where(mean > 0, mean, 1.0)


def angles(x: Tensor) -> Tensor:
    """Return the cosine of the angle at j between i and k, ``[B, B, B]``.

    The order of the axes is j, i, k. The cosine is 0 where two of the three are one sample.
    """
    off = l2_normalize(x.unsqueeze(0) - x.unsqueeze(1))
    same_sample = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return (off @ off.transpose(1, 2)).masked_fill(same_sample, 0.0)
