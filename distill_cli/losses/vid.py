"""Variational information distillation: Ahn et al. 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.adapters import adapters, unadapted
from distill_cli.features.pairs import Tokens, paired, read_pairs
from distill_cli.features.vectors import summed, without_autocast
from distill_cli.types import Batch, ModelOutput

LEAST_VARIANCE = 1e-5


class VID(nn.Module):
    """``sum_c,x log sigma_c + (t - mu(s))^2 / (2 sigma_c^2)`` of each sample ``[B]``, over channels, positions and pairs.

    ``sigma_c^2 = softplus(alpha_c) + 1e-5`` is trained, one number a channel of the teacher; the constant of the Gaussian
    is left out (arXiv:1904.05835, section 2). `mu` is a linear map at every position, and nothing where the shapes
    are equal; the authors' code has three layers there. Common code takes the mean over channels and positions instead
    of the sum: ``variant: code``. The loss may be negative, and is not 0 where the student equals the teacher.

    Args:
        features: pairs of layers.
        variance: sigma^2 before training, > 1e-5; the authors' code starts at 5.
        variant: ``paper`` (sum) or ``code`` (mean).
        tokens: whose features of three axes are tokens ``[B, N, D]``.
    """

    uses_teacher = True
    uses_labels = False

    def __init__(
        self,
        features: Any,
        variance: float = 5.0,
        variant: Literal["paper", "code"] = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__()
        if not LEAST_VARIANCE < variance < float("inf"):
            raise ValueError(f"variance must be > {LEAST_VARIANCE}, got {variance}")
        self.pairs = read_pairs(features)
        self.variance = variance
        self.variant = variant
        self.tokens: Tokens = tokens
        self.adapters = unadapted(self.pairs)
        self.alphas = nn.ParameterList()

    def bind(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make `mu` and alpha ``[C_teacher]`` of each pair."""
        self.adapters = adapters(self.pairs, student, teachers, self.tokens)
        start = self.variance - LEAST_VARIANCE
        alpha = start + math.log(-math.expm1(-start))  # of which the softplus is `start`
        found = paired(self.pairs, student, teachers, self.tokens)
        self.alphas = nn.ParameterList(torch.full((t.shape[1],), alpha, dtype=t.dtype, device=t.device) for _, t in found)

    @without_autocast
    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``."""
        found = zip(self.adapters, self.alphas, paired(self.pairs, student, teachers, self.tokens), strict=True)
        return summed(self.of_pair(adapter(s), t, alpha) for adapter, alpha, (s, t) in found)

    def of_pair(self, mean: Tensor, t: Tensor, alpha: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        variance = (F.softplus(alpha) + LEAST_VARIANCE).reshape(-1, *[1] * (t.dim() - 2))
        losses = (variance.log() / 2 + (t - mean).square() / (2 * variance)).flatten(1)
        return losses.mean(dim=1) if self.variant == "code" else losses.sum(dim=1)
