"""Activation boundaries: Heo et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import summed, without_autocast
from distill_cli.types import Batch, ModelOutput


class AB(nn.Module):
    """Squared hinge on the sign of each neuron, of each sample ``[B]``, summed over all neurons and over the pairs.

    Where the teacher's neuron is above 0, ``max(0, margin - s)^2``, elsewhere ``max(0, margin + s)^2``: it vanishes where the
    student stands on the teacher's side of 0 by the margin (arXiv:1811.03233, section 3). It is about what goes into an
    activation: choose layers before it. The paper trains by it alone first, then by cross-entropy. The authors' code
    weighs the layers: ``variant: code`` is 3/1000 of the sum with factors 1, 1/2, 1/4, ... from the last pair to the first.

    Args:
        features: pairs of layers, the last one deepest.
        margin: > 0; the paper takes 1.
        variant: ``paper`` or ``code``.
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False

    def __init__(
        self,
        features: Any,
        margin: float = 1.0,
        variant: Literal["paper", "code"] = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__()
        if not 0 < margin < float("inf"):
            raise ValueError(f"margin must be > 0, got {margin}")
        self.pairs = read_pairs(features)
        self.margin = margin
        self.variant = variant
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the adapters."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, paired(self.pairs, student, teachers, self.tokens), strict=True)
        losses = [self.of_pair(adapter(s), t) for adapter, (s, t) in found]
        if self.variant == "code":
            losses = [3e-3 * 2.0 ** (n + 1 - len(losses)) * loss for n, loss in enumerate(losses)]
        return summed(losses)

    def of_pair(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        side = (t > 0).to(s.dtype) * 2 - 1
        return (self.margin - side * s).clamp(min=0).square().flatten(1).sum(dim=1)
