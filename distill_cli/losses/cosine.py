"""Cosine between features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import summed, unit, without_autocast
from distill_cli.types import Batch, ModelOutput


class Cosine(nn.Module):
    """``1 - cos(f_S, f_T)`` of each sample ``[B]``, on flattened features of one shape; summed over the pairs.

    A linear map at every position brings the student's features to the teacher's shape where that differs. The cosine
    with a vector of zeros counts as 0.

    Args:
        features: pairs of layers.
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def __init__(self, features: Any, tokens: Tokens = "none") -> None:
        super().__init__()
        self.pairs = read_pairs(features)
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the adapters."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, paired(self.pairs, student, teachers, self.tokens), strict=True)
        return summed(1 - (unit(adapter(s).flatten(1)) * unit(t.flatten(1))).sum(dim=1) for adapter, (s, t) in found)
