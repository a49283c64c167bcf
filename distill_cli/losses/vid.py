"""Variational information distillation: Ahn et al. 2019."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant
from distill_cli.types import Batch, DataFacts, ModelOutput

LEAST_VARIANCE = 1e-5


class VID(FeatureLoss):
    """Negative variational bound of the mutual information, of each sample ``[B]``.

    ``sum_c,x log sigma_c + (t - mu(s))^2 / (2 sigma_c^2)``, over channels, positions and pairs.

    ``sigma_c^2 = softplus(alpha_c) + 1e-5`` is trained, one number a channel of the teacher; the constant of the Gaussian
    is left out (arXiv:1904.05835, section 2). `mu` is a linear map at every position, and the identity where the shapes
    are equal; the authors' code has three layers there. Common code takes the mean over channels and positions instead
    of the sum: ``variant: code``. The loss may be negative, and is not 0 where the student equals the teacher.

    Args:
        features: pairs of layers.
        variance: sigma^2 before training, > 1e-5; the authors' code starts at 5.
        variant: ``paper`` (sum) or ``code`` (mean).
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = VID(["conv1", "conv1"])
        >>> loss.bind(facts, student, [teacher])  # a mean and 16 variances
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    def __init__(self, features: Any, variance: float = 5.0, variant: Variant = "paper", tokens: Tokens = "none") -> None:
        super().__init__(features, tokens)
        if not LEAST_VARIANCE < variance < float("inf"):
            raise ValueError(f"variance must be > {LEAST_VARIANCE}, got {variance}")
        self.variance = variance
        self.variant = variant
        self.alphas = nn.ParameterList()

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Build `mu` and alpha ``[C_teacher]`` of each pair."""
        super().bind(facts, student, teachers)
        start = self.variance - LEAST_VARIANCE
        alpha = start + math.log(-math.expm1(-start))  # of which the softplus is `start`
        pairs = self.paired_features(student, teachers)
        self.alphas = nn.ParameterList(torch.full((t.shape[1],), alpha, dtype=t.dtype, device=t.device) for _, t in pairs)

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss ``[B]`` of each pair."""
        adapted = zip(self.alphas, self.adapted_features(student, teachers), strict=True)
        return (self.likelihood(mean, t, alpha) for alpha, (mean, t) in adapted)

    def likelihood(self, mean: Tensor, t: Tensor, alpha: Tensor) -> Tensor:
        """Return the negative log-likelihood ``[B]`` of one pair of features of one shape."""
        variance = (F.softplus(alpha) + LEAST_VARIANCE).reshape(-1, *[1] * (t.dim() - 2))
        losses = (variance.log() / 2 + (t - mean).square() / (2 * variance)).flatten(1)
        return losses.mean(dim=1) if self.variant == "code" else losses.sum(dim=1)
