"""Correlation congruence: Peng et al. 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import paired, read_pairs
from distill_cli.features.vectors import summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class Correlation(nn.Module):
    """``||C_S - C_T||_F^2 / B^2``: squares summed over all B x B entries, by B squared; a scalar, summed over the pairs.

    ``C_ij = k(f_i, f_j)`` of flattened features of length 1, with the Gaussian kernel's Taylor series up to `order`,
    ``sum_p exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p``, or with the bilinear ``f_i . f_j`` (arXiv:1904.01802,
    section 3). RepDistiller's code has another loss under this name, ``variant: code``: with ``d_i = |f_S,i -
    f_T,i|``, not of length 1, ``mean_i sum_k d_ik d_(i+1)k`` over the B - 1 neighbours in the batch (0 for B = 1); only
    this needs an adapter where widths differ.

    Args:
        features: pairs of layers.
        kernel: ``gaussian`` or ``bilinear``.
        gamma: > 0; the paper takes 0.4.
        order: of the Taylor series, >= 1; the paper takes 2.
        variant: ``paper`` or ``code``.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def __init__(
        self,
        features: Any,
        kernel: Literal["gaussian", "bilinear"] = "gaussian",
        gamma: float = 0.4,
        order: int = 2,
        variant: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma must be > 0, got {gamma}")
        if order < 1:
            raise ValueError(f"order must be >= 1, got {order}")
        self.pairs = read_pairs(features)
        self.kernel = kernel
        self.gamma = gamma
        self.order = order
        self.variant = variant
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the adapters that ``variant: code`` needs."""
        if self.variant == "code":
            self.adapters = adapters(self.pairs, student, teachers)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of the batch."""
        found = zip(self.adapters, paired(self.pairs, student, teachers), strict=True)
        return summed(self.of_pair(adapter(s).flatten(1), t.flatten(1)) for adapter, (s, t) in found)

    def of_pair(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features ``[B, D]``."""
        if self.variant == "code":
            off = (s - t).abs()
            return (off[:-1] * off[1:]).sum() / max(len(off) - 1, 1)
        return (self.correlations(s) - self.correlations(t)).square().mean()

    def correlations(self, x: Tensor) -> Tensor:
        """Return the kernel ``[B, B]`` of every two rows."""
        x = unit(x)
        cosine = x @ x.T
        if self.kernel == "bilinear":
            return cosine
        rate = 2 * self.gamma
        return math.exp(-rate) * summed(rate**p / math.factorial(p) * cosine**p for p in range(self.order + 1))
