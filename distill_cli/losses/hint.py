"""Hints: Romero et al. 2015, FitNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import summed, without_autocast
from distill_cli.types import Batch, ModelOutput


class Hint(nn.Module):
    """``1/2 sum (u_h - r(v_g))^2`` of each sample ``[B]``, summed over all elements of the layer, and over the pairs.

    `r` is the regressor: a linear map at every position after averaging or interpolation in space, and nothing where
    the shapes are equal already. With ``norm: l1`` it is ``sum |u_h - r(v_g)|``. The paper trains by it alone in a first
    stage, the student's layers up to the hint (arXiv:1412.6550, equation 3); toolkits add it to the other losses as
    ``variant: code``, the mean over the elements of squares (no half) or of absolute values.

    Args:
        features: pairs of layers.
        norm: ``l2`` or ``l1``.
        variant: ``paper`` (sum) or ``code`` (mean).
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def __init__(
        self,
        features: Any,
        norm: Literal["l1", "l2"] = "l2",
        variant: Literal["paper", "code"] = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__()
        self.pairs = read_pairs(features)
        self.norm = norm
        self.variant = variant
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the regressors."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, paired(self.pairs, student, teachers, self.tokens), strict=True)
        return summed(self.of_pair(adapter(s), t) for adapter, (s, t) in found)

    def of_pair(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        off = (s - t).flatten(1)
        size = off.abs() if self.norm == "l1" else off.square()
        if self.variant == "code":
            return size.mean(dim=1)
        return size.sum(dim=1) if self.norm == "l1" else size.sum(dim=1) / 2
