"""Attention transfer: Zagoruyko and Komodakis 2017."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from distill_cli.features.numerics import l2_norm, l2_normalize, largest, scaled
from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant


class Attention(FeatureLoss):
    """Distance of student's and teacher's attention maps, of each sample ``[B]``.

    ``1/2 sum_j ||Q_S/||Q_S||_2 - Q_T/||Q_T||_2||_2``, the norm not squared, summed over the pairs j.

    ``Q = sum_c |A_c|^power`` is a map over positions. `weight` is the paper's beta (arXiv:1612.03928, equation 2). The
    authors' code takes the mean over positions of squared differences instead, without the half: ``variant: code``. A
    student's map in another space is averaged or interpolated to the teacher's before that, in both (RepDistiller averages
    the teacher's where that is larger).

    Args:
        features: pairs of layers with maps.
        power: exponent of the activations, >= 1, as the gradient of less is infinite at 0; the paper takes 2.
        variant: ``paper`` or ``code``.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = Attention([["conv1", "conv1"], ["conv2", "conv2"]])
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True
    feature_shapes = ((4, 5), (3, 4, 4))
    fits_channels = False
    maps_only = True
    min_positions = 2

    def __init__(self, features: Any, power: float = 2.0, variant: Variant = "paper", tokens: Tokens = "none") -> None:
        super().__init__(features, tokens)
        if not 1 <= power < float("inf"):
            raise ValueError(f"power must be >= 1, got {power}")
        self.power = power
        self.variant = variant

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of maps ``[B, C, ...]`` of one space."""
        off = self.attention(s) - self.attention(t)
        return off.square().mean(dim=1) if self.variant == "code" else l2_norm(off) / 2

    def attention(self, x: Tensor) -> Tensor:
        """Return the normalised attention map ``[B, positions]``.

        The map of any multiple of x is the same.
        """
        powers = scaled(x).square() if self.power == 2 else (x.abs() / largest(x)).pow(self.power)
        return l2_normalize(powers.sum(dim=1).flatten(1))
