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
    """Loss between the teacher's layers and fused student layers, a scalar.

    The student's map of a layer is fused with those of all deeper layers and compared with the teacher's, summed over the
    pairs.

    Attention-based fusion (ABF) makes a map of the teacher's shape, by convolutions that are trained with the student.
    The hierarchical context loss (HCL) compares the maps: mean squared error over batch and elements at full size, weight
    1, and averaged to 4, 2 and 1 positions an axis, leaving out levels that are not below the smallest axis; each level used
    has half the weight of the one before, and the sum is divided by the weights used (arXiv:2104.09044, section 3, and the
    authors' code). Initial weights are PyTorch's (the authors': Kaiming's uniform). Batch norm relates the
    samples; maps of one position train on no batch of one row.

    Args:
        features: pairs of layers with maps ``[B, C, L]`` or ``[B, C, H, W]``, from shallow to deep.
        width: channels inside the fusion, >= 1; None: as many as the student's deepest layer, 512 at most.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

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
        """Build one fusion module for each pair.

        All but the deepest fuse a layer with the deeper ones.
        """
        super().bind(facts, student, teachers)  # refuses what cannot match
        pairs = self.paired_features(student, teachers)
        # batch norm needs two values of each channel
        self.min_batch_size = 2 if any(x[0, 0].numel() == 1 for pair in pairs for x in pair) else 1
        width = self.width or min(WIDEST, pairs[-1][0].shape[1])
        self.adapters = nn.ModuleList(Fusion(s, t, width, fuses=n < len(pairs)) for n, (s, t) in enumerate(pairs, start=1))

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Yield the loss of each pair, from deep to shallow."""
        deeper = None
        for fusion, (s, t) in zip(self.adapters[::-1], self.paired_features(student, teachers)[::-1], strict=True):
            fused, deeper = fusion(s, deeper)
            yield hierarchical_context_loss(fused, t)


class Fusion(nn.Module):
    """Attention-based fusion (ABF) of a layer with the deeper ones.

    A 1x1 convolution, attention between the map and the deeper layers' result, and a 3-wide convolution.

    Args:
        student: example map ``[B, C, ...]``.
        teacher: example map, whose channels and space the output has.
        width: channels inside the fusion.
        fuses: whether there is a deeper layer to fuse with.
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
        """Return the map in the teacher's shape and the fused map ``[B, width, ...]``.

        The fused map is the input `deeper` of the next shallower layer.
        """
        x = self.inward(x)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, size=x.shape[2:], mode="nearest")
            shares = torch.sigmoid(self.attention(torch.cat([x, deeper], dim=1)))
            x = x * shares[:, :1] + deeper * shares[:, 1:]
        if tuple(x.shape[2:]) != self.space:
            x = F.interpolate(x, size=self.space, mode="nearest")
        return self.outward(x), x


def hierarchical_context_loss(s: Tensor, t: Tensor) -> Tensor:
    """Return the hierarchical context loss of two maps of one shape, a scalar."""
    loss, total, weight = F.mse_loss(s, t), 1.0, 1.0
    axes = s.dim() - 2
    for level in LEVELS:
        if level < min(s.shape[2:]):
            weight /= 2
            size = (level,) * axes
            loss = loss + weight * F.mse_loss(POOL[axes](s, size), POOL[axes](t, size))
            total += weight
    return loss / total
