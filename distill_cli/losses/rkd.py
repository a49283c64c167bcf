"""Relational knowledge distillation, distances and angles: Park et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.pairs import paired, read_pairs
from distill_cli.features.vectors import distances, summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class RKD(nn.Module):
    """``distance x L_D + angle x L_A``, of flattened features; a scalar, summed over the pairs of layers.

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
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def __init__(
        self,
        features: Any,
        distance: float = 1.0,
        angle: float = 2.0,
        variant: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        for name, weight in {"distance": distance, "angle": angle}.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{name} must be >= 0, got {weight}")
        if distance == angle == 0:
            raise ValueError("distance and angle are both 0, so nothing is left of this loss")
        self.pairs = read_pairs(features)
        self.distance = distance
        self.angle = angle
        self.variant = variant

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of the batch."""
        return summed(self.of_pair(s.flatten(1), t.flatten(1)) for s, t in paired(self.pairs, student, teachers))

    def of_pair(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features ``[B, D]``."""
        parts = []
        for weight, relate in ((self.distance, relative_distances), (self.angle, angles)):
            if weight:
                losses = F.smooth_l1_loss(relate(s), relate(t), reduction="none")
                parts.append(weight * (losses.mean() if self.variant == "code" else losses.sum()))
        return summed(parts)


def relative_distances(x: Tensor) -> Tensor:
    """Return distances ``[B, B]`` by their mean over i != j; zeros where all rows are equal."""
    found = distances(x)
    mean = found.sum() / max(len(x) * (len(x) - 1), 1)
    return found / torch.where(mean > 0, mean, 1.0)


def angles(x: Tensor) -> Tensor:
    """Return the cosine at j between i and k as ``[B, B, B]`` in the order j, i, k; 0 where two of the three are one sample."""
    off = unit(x.unsqueeze(0) - x.unsqueeze(1))
    one_sample = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return (off @ off.transpose(1, 2)).masked_fill(one_sample, 0.0)
