"""Flow of the solution procedure: Yim et al. 2017."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.adapters import POOL
from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant
from distill_cli.types import Batch, ModelOutput

MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


class FSP(FeatureLoss):
    """Distance of student's and teacher's flow matrices, of each sample ``[B]``.

    ``||G_S - G_T||_F^2``, the sum of squares over the matrix, summed over the flows.

    A flow leads from one pair of layers to the next in the list, so there are at least two pairs: ``G = sum_x F1(x)
    F2(x)^T / positions``, ``[C1, C2]``, the finer map max-pooled to the coarser (doi:10.1109/CVPR.2017.754, section 3).
    Where the student has other channels than the teacher, a linear map at every position brings them to the teacher's;
    the paper has equal ones. RepDistiller takes the mean over the matrix and average pooling: ``variant: code``.

    Args:
        features: pairs of layers with maps, in the order of the flow.
        variant: ``paper`` or ``code``.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = FSP([["conv1", "conv1"], ["conv2", "conv2"]])
        >>> loss.bind(facts, student, [teacher])  # one flow
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True
    feature_shapes = ((4, 5), ((3, 8), (4, 4)), ((3, 8, 8), (5, 4, 4)))
    least_pairs = 2
    fits_space = False
    maps_only = True

    def __init__(self, features: Any, variant: Variant = "paper", tokens: Tokens = "none") -> None:
        super().__init__(features, tokens)
        self.variant = variant

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss ``[B]`` of each flow."""
        flows = pairwise(self.adapted_features(student, teachers))
        return (self.flow_loss(s1, s2, t1, t2) for (s1, t1), (s2, t2) in flows)

    def flow_loss(self, s1: Tensor, s2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
        """Return the loss ``[B]`` of the flow from the first to the second layer."""
        off = (self.flow(s1, s2) - self.flow(t1, t2)).square().flatten(1)
        return off.mean(dim=1) if self.variant == "code" else off.sum(dim=1)

    def flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow matrix ``[B, C1, C2]`` between two maps."""
        space = tuple(min(a, b) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))
        pool = (POOL if self.variant == "code" else MAX_POOL)[len(space)]
        flat_first, flat_second = ((x if x.shape[2:] == space else pool(x, space)).flatten(2) for x in (first, second))
        return flat_first @ flat_second.transpose(1, 2) / flat_first.shape[2]
