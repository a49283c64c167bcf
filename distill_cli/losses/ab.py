"""Activation boundaries: Heo et al. 2019."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant, check_above_zero
from distill_cli.types import Batch, ModelOutput


class AB(FeatureLoss):
    """Activation boundary loss of each sample ``[B]``.

    A squared hinge on the sign of each neuron, summed over all neurons and over the pairs.

    Where the teacher's neuron is above 0, ``max(0, margin - s)^2``, elsewhere ``max(0, margin + s)^2``. The loss is 0 where the
    student is on the teacher's side of 0 by the margin (arXiv:1811.03233, section 3). The loss compares the inputs of an
    activation: choose layers before it. The paper trains with this loss alone first, then with cross-entropy. The authors' code
    weighs the layers: ``variant: code`` is 3/1000 of the sum with factors 1, 1/2, 1/4, ... from the last pair to the first.

    Args:
        features: pairs of layers, the last one deepest.
        margin: distance from 0 beyond which a neuron costs nothing, > 0; the paper takes 1.
        variant: ``paper`` or ``code``.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = AB([["conv1", "conv1"]], margin=0.5)
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    def __init__(self, features: Any, margin: float = 1.0, variant: Variant = "paper", tokens: Tokens = "none") -> None:
        super().__init__(features, tokens)
        check_above_zero(margin=margin)
        self.margin = margin
        self.variant = variant

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss ``[B]`` of each pair, times the factor of the layer in the code."""
        losses = list(super().pair_losses(student, teachers, batch))
        if self.variant == "code":
            losses = [3e-3 * 2.0 ** (n + 1 - len(losses)) * loss for n, loss in enumerate(losses)]
        return losses

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        side = (t > 0).to(s.dtype) * 2 - 1
        return (self.margin - side * s).clamp(min=0).square().flatten(1).sum(dim=1)
