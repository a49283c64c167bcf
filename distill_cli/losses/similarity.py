"""Similarity-preserving distillation: Tung and Mori 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from distill_cli.features.pairs import paired, read_pairs
from distill_cli.features.vectors import summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class Similarity(nn.Module):
    """``||G_S - G_T||_F^2 / B^2``: the sum of squares over all B x B entries, by B squared; a scalar, summed over the pairs.

    ``G = Q Q^T`` of the flattened features ``Q [B, D]``, each row of G divided by its L2 norm (arXiv:1907.09682,
    section 3). Widths may differ, so there are no adapters.

    Args:
        features: pairs of layers.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.pairs = read_pairs(features)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of the batch."""
        return summed((rows(s) - rows(t)).square().mean() for s, t in paired(self.pairs, student, teachers))


def rows(x: Tensor) -> Tensor:
    """Return similarities ``[B, B]``, each row of length 1."""
    flat = x.flatten(1)
    return unit(flat @ flat.T)
