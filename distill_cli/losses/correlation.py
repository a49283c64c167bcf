"""Correlation congruence: Peng et al. 2019."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from distill_cli.features.numerics import l2_normalize, sum_losses
from distill_cli.losses.base import RelationLoss
from distill_cli.losses.settings import Variant, check_above_zero


class Correlation(RelationLoss):
    """Distance of student's and teacher's correlation matrices, a scalar.

    ``||C_S - C_T||_F^2 / B^2``: squares summed over all B x B entries, divided by B squared, summed over the pairs.

    ``C_ij = k(f_i, f_j)`` of flattened features of length 1, with the Gaussian kernel's Taylor series up to `order`,
    ``sum_p exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p``, or with the bilinear ``f_i . f_j`` (arXiv:1904.01802,
    section 3). RepDistiller's code has another loss under this name, ``variant: code``: with ``d_i = |f_S,i -
    f_T,i|``, not of length 1, ``mean_i sum_k d_ik d_(i+1)k`` over the B - 1 neighbours in the batch (0 for B = 1); only
    this needs an adapter where widths differ.

    Args:
        features: pairs of layers.
        kernel: ``gaussian`` or ``bilinear``.
        gamma: width parameter of the Gaussian kernel, > 0; the paper takes 0.4.
        order: order of the Taylor series, >= 1; the paper takes 2.
        variant: ``paper`` or ``code``.

    Example:
        >>> loss = Correlation(["pool", "pool"])
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    zero_at_teacher = True

    def __init__(
        self,
        features: Any,
        kernel: Literal["gaussian", "bilinear"] = "gaussian",
        gamma: float = 0.4,
        order: int = 2,
        variant: Variant = "paper",
    ) -> None:
        super().__init__(features)
        check_above_zero(gamma=gamma)
        if order < 1:
            raise ValueError(f"order must be >= 1, got {order}")
        self.kernel = kernel
        self.gamma = gamma
        self.order = order
        self.variant = variant
        self.fits_channels = self.fits_space = variant == "code"

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features."""
        s, t = s.flatten(1), t.flatten(1)
        if self.variant == "code":
            off = (s - t).abs()
            return (off[:-1] * off[1:]).sum() / max(len(off) - 1, 1)
        return (self.correlations(s) - self.correlations(t)).square().mean()

    def correlations(self, x: Tensor) -> Tensor:
        """Return the kernel ``[B, B]`` of all pairs of rows."""
        x = l2_normalize(x)
        cosine = x @ x.T
        if self.kernel == "bilinear":
            return cosine
        rate = 2 * self.gamma
        return math.exp(-rate) * sum_losses(rate**p / math.factorial(p) * cosine**p for p in range(self.order + 1))
