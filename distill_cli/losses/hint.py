"""Hints: Romero et al. 2015, FitNets."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant


class Hint(FeatureLoss):
    """Squared distance of regressed and teacher's features, of each sample ``[B]``.

    ``1/2 sum (u_h - r(v_g))^2``, summed over all elements of the layer and over the pairs.

    `r` is the regressor: a linear map at every position after averaging or interpolation in space, and nothing where
    the shapes are equal already. With ``norm: l1`` the loss is ``sum |u_h - r(v_g)|``. The paper trains with this loss alone in
    a first stage, the student's layers up to the hint (arXiv:1412.6550, equation 3); toolkits add it to the other losses as
    ``variant: code``, the mean over the elements of squares (no half) or of absolute values.

    Args:
        features: pairs of layers.
        norm: ``l2`` or ``l1``.
        variant: ``paper`` (sum) or ``code`` (mean).
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = Hint(["conv1", "conv1"], variant="code")
        >>> loss.bind(facts, student, [teacher])  # a regressor from 4 to 16 channels
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True

    def __init__(
        self,
        features: Any,
        norm: Literal["l1", "l2"] = "l2",
        variant: Variant = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__(features, tokens)
        self.norm = norm
        self.variant = variant

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        off = (s - t).flatten(1)
        size = off.abs() if self.norm == "l1" else off.square()
        if self.variant == "code":
            return size.mean(dim=1)
        return size.sum(dim=1) if self.norm == "l1" else size.sum(dim=1) / 2
