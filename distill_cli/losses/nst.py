"""Neuron selectivity transfer: Huang and Wang 2017."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class NST(nn.Module):
    """Squared maximum mean discrepancy between the channels of each sample ``[B]``; summed over the pairs.

    ``mean_cc' k(t_c, t_c') + mean_cc' k(s_c, s_c') - 2 mean_cc' k(s_c, t_c')``, means over all C_T^2, C_S^2 and C_S C_T
    channels, with ``k(x, y) = (x . y)^2`` and each channel's map of length 1 (arXiv:1707.01219, section 4, without its
    lambda/2). Channels may differ; a student's map in another space is averaged or interpolated to the teacher's
    (RepDistiller averages the teacher's where that is larger).

    Args:
        features: pairs of layers with maps.
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True
    feature_shapes = ((4, 5), (3, 4, 4))

    def __init__(self, features: Any, tokens: Tokens = "none") -> None:
        super().__init__()
        self.pairs = read_pairs(features)
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """See that all are maps, and how their space fits."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens, channels=False, maps=True)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, paired(self.pairs, student, teachers, self.tokens), strict=True)
        return summed(discrepancy(adapter(s), t) for adapter, (s, t) in found)


def discrepancy(s: Tensor, t: Tensor) -> Tensor:
    """Return the discrepancy ``[B]`` of maps ``[B, C, ...]`` of one space."""
    s, t = unit(s.flatten(2)), unit(t.flatten(2))
    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of ``(x_c . y_c')^2`` over all channels, ``[B]``."""
    return (x @ y.transpose(1, 2)).square().mean(dim=(1, 2))
