"""Knowledge review: Chen, Liu, Zhao and Jia 2021, ReviewKD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.adapters import POOL, shown
from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.types import Batch, DataFacts, ModelOutput

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
LEVELS = (4, 2, 1)
WIDEST = 512


class Review(FeatureLoss):
    """Each layer of the teacher is learned by that of the student fused with all deeper ones; a scalar, summed over pairs.

    Fusion by attention (ABF) makes a student's map of the teacher's shape, by convolutions that are trained with it.
    The hierarchical context loss (HCL) compares them: mean squared error over batch and elements at full size, weight
    1, and averaged to 4, 2 and 1 positions an axis, leaving out levels that are not below the smallest axis; each level used
    has half the weight of the one before, and the sum is divided by the weights used (arXiv:2104.09044, section 3, and the
    authors' code). Initial weights are PyTorch's (the authors': Kaiming's uniform). Batch norm relates the
    samples; maps of one position train on no batch of one row.

    Args:
        features: pairs of layers with maps ``[B, C, L]`` or ``[B, C, H, W]``, from shallow to deep.
        width: channels inside the fusion, >= 1; None: as many as the student's deepest layer, 512 at most.
        tokens: whose features of three axes are tokens ``[B, N, D]``.

    Example:
        >>> loss = Review([["conv1", "conv1"], ["conv2", "conv2"]])
        >>> loss.bind(facts, student, [teacher])  # a fusion for each pair
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    feature_shapes = (((3, 8), (5, 4)),)
    maps_only = True

    def __init__(self, features: Any, width: int | None = None, tokens: Tokens = "none") -> None:
        super().__init__(features, tokens)
        if width is not None and width < 1:
            raise ValueError(f"width must be >= 1, got {width}")
        self.width = width

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the fusions; all but the deepest have something to fuse with."""
        super().bind(facts, student, teachers)  # refuses what cannot match
        found = self.paired_features(student, teachers)
        # batch norm needs two values of each channel
        self.min_batch_size = 2 if any(x[0, 0].numel() == 1 for pair in found for x in pair) else 1
        width = self.width or min(WIDEST, found[-1][0].shape[1])
        self.adapters = nn.ModuleList(Fusion(s, t, width, fuses=n < len(found)) for n, (s, t) in enumerate(found, start=1))

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Yield the loss of each pair, from deep to shallow."""
        deeper = None
        for fusion, (s, t) in zip(self.adapters[::-1], self.paired_features(student, teachers)[::-1], strict=True):
            fused, deeper = fusion(s, deeper)
            yield hierarchical_context_loss(fused, t)


class Fusion(nn.Module):
    """ABF: one map at every position, attention between it and what comes from deeper, and a 3-wide convolution.

    Args:
        student: example map ``[B, C, ...]``.
        teacher: example map, whose channels and space come out.
        width: channels inside.
        fuses: whether something comes from deeper.
    """

    def __init__(self, student: Tensor, teacher: Tensor, width: int, *, fuses: bool) -> None:
        super().__init__()
        axes = student.dim() - 2
        if axes not in CONVOLUTION:
            raise ValueError(f"this loss takes maps [B, C, L] or [B, C, H, W], got {axes} axes of space")
        convolution, norm = CONVOLUTION[axes], BATCH_NORM[axes]
        self.space = tuple(teacher.shape[2:])
        self.description = f"{'fused with deeper layers, ' if fuses else ''}brought to {shown(teacher)} by convolutions"
        self.inward = nn.Sequential(convolution(student.shape[1], width, 1, bias=False), norm(width))
        self.outward = nn.Sequential(convolution(width, teacher.shape[1], 3, padding=1, bias=False), norm(teacher.shape[1]))
        self.attention = convolution(2 * width, 2, 1) if fuses else None
        self.to(student)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the map in the teacher's shape, and what goes on to the layer before, ``[B, width, ...]``."""
        x = self.inward(x)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, size=x.shape[2:], mode="nearest")
            shares = torch.sigmoid(self.attention(torch.cat([x, deeper], dim=1)))
            x = x * shares[:, :1] + deeper * shares[:, 1:]
        if tuple(x.shape[2:]) != self.space:
            x = F.interpolate(x, size=self.space, mode="nearest")
        return self.outward(x), x


def hierarchical_context_loss(s: Tensor, t: Tensor) -> Tensor:
    """Return the HCL of two maps of one shape, a scalar."""
    loss, total, weight = F.mse_loss(s, t), 1.0, 1.0
    axes = s.dim() - 2
    for level in LEVELS:
        if level < min(s.shape[2:]):
            weight /= 2
            size = (level,) * axes
            loss = loss + weight * F.mse_loss(POOL[axes](s, size), POOL[axes](t, size))
            total += weight
    return loss / total
