"""Plain convolutional networks for images, wide or thin and deep."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class CNN2d(nn.Module):
    """3x3 convolutions with ReLU and max pools, and a linear head.

    The head reads the flattened maps.

    Without normalisation, like the networks that hints were made for: deep and thin, hard to train from the end alone
    (Romero et al. 2015, arXiv:1412.6550; maxout there, ReLU here). ``blocks.0`` is the first convolution with its ReLU and pool.

    Args:
        num_classes: C, at least 2.
        input_shape: ``(channels, height, width)``.
        filters: output channels of each convolution.
        pool_after: numbers of the convolutions, from 1, that a max pool follows; it halves height and width.
        dropout: probability of dropout before the head, 0 <= p < 1.
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, ...],
        filters: Sequence[int] = (16, 32, 64),
        pool_after: Sequence[int] = (1, 2, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(f"takes images of shape (channels, height, width), the data has {tuple(input_shape)}")
        if not filters or any(n < 1 for n in filters):
            raise ValueError(f"filters must hold one number >= 1 for each convolution, got {list(filters)}")
        if unknown := [n for n in pool_after if not 1 <= n <= len(filters)]:
            raise ValueError(f"pool_after names convolution {unknown[0]}, there are {len(filters)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        channels, height, width = input_shape
        halvings = len(set(pool_after))
        if min(height, width) >> halvings < 1:
            raise ValueError(f"{halvings} pools leave nothing of images of {height} x {width}")
        blocks = []
        for number, wide in enumerate(filters, start=1):
            pool: list[nn.Module] = [nn.MaxPool2d(2)] if number in pool_after else []
            blocks.append(nn.Sequential(nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(), *pool))
            channels = wide
        self.blocks = nn.ModuleList(blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels * (height >> halvings) * (width >> halvings), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, height, width]`` to logits ``[B, C]``."""
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.flatten(1)))
