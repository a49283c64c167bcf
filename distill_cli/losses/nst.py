"""Neuron selectivity transfer: Huang and Wang 2017."""

from __future__ import annotations

from torch import Tensor

from distill_cli.features.numerics import l2_normalize
from distill_cli.losses.base import FeatureLoss


class NST(FeatureLoss):
    """Squared maximum mean discrepancy between channels, of each sample ``[B]``.

    Summed over the pairs of layers.

    ``mean_cc' k(t_c, t_c') + mean_cc' k(s_c, s_c') - 2 mean_cc' k(s_c, t_c')``, means over all C_T^2, C_S^2 and C_S C_T
    channels, with ``k(x, y) = (x . y)^2`` and each channel's map of length 1 (arXiv:1707.01219, section 4, without its
    lambda/2). Channels may differ; a student's map in another space is averaged or interpolated to the teacher's
    (RepDistiller averages the teacher's where that is larger).

    Args:
        features: pairs of layers with maps.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = NST(["conv1", "conv1"])
        >>> loss.bind(facts, student, [teacher])
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    zero_at_teacher = True
    feature_shapes = ((4, 5), (3, 4, 4))
    fits_channels = False
    maps_only = True
    min_positions = 2

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the discrepancy ``[B]`` of maps ``[B, C, ...]`` of one space."""
        s, t = l2_normalize(s.flatten(2)), l2_normalize(t.flatten(2))
        return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of ``(x_c . y_c')^2`` over all pairs of channels, ``[B]``."""
    return (x @ y.transpose(1, 2)).square().mean(dim=(1, 2))
