"""Augmentation of training inputs, before mixup: Batch -> Batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from distill_cli.rng import torch_generator
from distill_cli.types import Batch


class RandomShift:
    """A random shift of every sample along its spatial axes, with zero padding.

    Each axis but the first (channels) has an offset in whole steps.

    Offsets are uniform on ``-max_shift..max_shift``, drawn from the stream ``shift`` at (epoch, step). A `max_shift` of 2 gives
    the jitter of Hinton et al. 2015 (arXiv:1503.02531, section 3).

    Args:
        max_shift: largest offset, > 0, in pixels of an image or samples of a signal.
        seed: the run's seed.
    """

    def __init__(self, max_shift: int, seed: int) -> None:
        if max_shift < 1:
            raise ValueError(f"augment.shift must be >= 1 here, got {max_shift}")
        self.max_shift = max_shift
        self.seed = seed

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the batch with shifted inputs."""
        axes = batch.inputs.dim() - 2
        offsets = torch.randint(
            -self.max_shift,
            self.max_shift + 1,
            (len(batch.inputs), axes),
            generator=torch_generator(self.seed, "shift", epoch, step),
        )
        return replace(batch, inputs=shifted(batch.inputs, offsets.to(batch.inputs.device)))


def shifted(x: Tensor, offsets: Tensor) -> Tensor:
    """Return ``[B, C, *space]`` shifted by ``offsets [B, axes]``, with zero padding.

    A positive offset moves content towards higher positions.
    """
    for axis in range(offsets.shape[1]):
        length = x.shape[axis + 2]
        source = torch.arange(length, device=x.device) - offsets[:, axis, None]
        inside = (source >= 0) & (source < length)
        around = [1] * (x.dim() - 2)
        around[axis] = length
        index = source.clamp(0, length - 1).view(len(x), 1, *around)
        x = x.gather(axis + 2, index.expand_as(x)) * inside.view(len(x), 1, *around).to(x.dtype)
    return x
