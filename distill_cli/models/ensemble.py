"""Several classifiers as one model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.numerics import to_float32
from distill_cli.models.classifier import Classifier

AVERAGES = ("logits", "probabilities")


class Ensemble(nn.Module):
    """The weighted mean of its members' predictions, as logits ``[B, C]``.

    ``logits``: ``sum_k w_k z_k``, the normalised geometric mean of the members' distributions, at every temperature:
    ``softmax(mean z / T)`` is proportional to ``prod_k softmax(z_k / T)^w_k``.
    ``probabilities``: ``log sum_k w_k softmax(z_k)``, their arithmetic mean, at T = 1 only.

    Hinton et al. 2015 (arXiv:1503.02531, section 1) allow either mean of the predictive distributions.

    Args:
        members: classifiers, each with its own input preparation; one or more.
        average: ``logits`` or ``probabilities``.
        weights: one number >= 0 a member, not all 0, of which only the ratios count; None: equal weights.
    """

    weights: Tensor

    def __init__(self, members: Sequence[Classifier], average: str = "logits", weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        if average not in AVERAGES:
            raise ValueError(f"average={average}: expected {' or '.join(AVERAGES)}")
        shares = [1.0] * len(members) if weights is None else [float(w) for w in weights]
        if len(shares) != len(members) or min(shares) < 0 or not 0 < (total := sum(shares)) < math.inf:
            raise ValueError(f"weights={list(weights or ())}: expected {len(members)} numbers >= 0, one a member, not all 0")
        self.members = nn.ModuleList(members)
        self.average = average
        self.register_buffer("weights", torch.tensor([w / total for w in shares]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, C]`` for inputs as the data set gives them."""
        logits = torch.stack([to_float32(member(x).logits) for member in self.members])
        weights = self.weights.to(logits.dtype).view(-1, 1, 1)
        if self.average == "logits":
            return (weights * logits).sum(dim=0)
        return torch.logsumexp(F.log_softmax(logits, dim=-1) + weights.log(), dim=0)
