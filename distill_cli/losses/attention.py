"""Attention transfer: Zagoruyko and Komodakis 2017."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import length, summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class Attention(nn.Module):
    """``1/2 sum_j ||Q_S/||Q_S||_2 - Q_T/||Q_T||_2||_2`` of each sample ``[B]``, the norm not squared; sum over the pairs j.

    ``Q = sum_c |A_c|^power`` is a map over positions. `weight` is the paper's beta (arXiv:1612.03928, equation 2). The
    authors' code takes the mean over positions of squared differences instead, without the half: ``variant: code``. A
    student's map in another space is averaged or interpolated to the teacher's before that, in both (RepDistiller averages
    the teacher's where that is larger).

    Args:
        features: pairs of layers with maps.
        power: of the activations, >= 1, as the gradient of less is infinite at 0; the paper takes 2.
        variant: ``paper`` or ``code``.
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True
    feature_shapes = ((4, 5), (3, 4, 4))

    def __init__(
        self,
        features: Any,
        power: float = 2.0,
        variant: Literal["paper", "code"] = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__()
        if not 1 <= power < float("inf"):
            raise ValueError(f"power must be >= 1, got {power}")
        self.pairs = read_pairs(features)
        self.power = power
        self.variant = variant
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """See that all are maps, and how their space fits."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens, channels=False, maps=True)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, paired(self.pairs, student, teachers, self.tokens), strict=True)
        return summed(self.of_pair(adapter(s), t) for adapter, (s, t) in found)

    def of_pair(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of maps ``[B, C, ...]`` of one space."""
        off = self.attention(s) - self.attention(t)
        return off.square().mean(dim=1) if self.variant == "code" else length(off) / 2

    def attention(self, x: Tensor) -> Tensor:
        """Return the normalised attention map ``[B, positions]``."""
        powers = x.square() if self.power == 2 else x.abs().pow(self.power)
        return unit(powers.sum(dim=1).flatten(1))
