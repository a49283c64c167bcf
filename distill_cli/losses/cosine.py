"""Cosine between features."""

from __future__ import annotations

from torch import Tensor

from distill_cli.features.numerics import l2_normalize
from distill_cli.losses.base import FeatureLoss


class Cosine(FeatureLoss):
    """Cosine distance between features, of each sample ``[B]``.

    ``1 - cos(f_S, f_T)`` on flattened features of one shape, summed over the pairs.

    A linear map at every position brings the student's features to the teacher's shape where that differs. The cosine
    with a vector of zeros counts as 0.

    Args:
        features: pairs of layers.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = Cosine(["pool", "pool"])
        >>> loss.bind(facts, student, [teacher])  # a linear map from 4 to 16
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of features of one shape."""
        return 1 - (l2_normalize(s.flatten(1)) * l2_normalize(t.flatten(1))).sum(dim=1)
