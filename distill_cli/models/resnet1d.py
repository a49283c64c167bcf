"""A residual network for one-dimensional signals."""

from __future__ import annotations

from torch import Tensor, nn

from distill_cli.models.cnn1d import channels_and_length


class Block(nn.Module):
    """A residual block of two 5-wide convolutions with batch norm.

    The shape ``[B, width, L]`` does not change.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(x + f(x))``."""
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(x + self.norm2(self.conv2(y)))


class ResNet1d(nn.Module):
    """A stem convolution, residual blocks with max pools, and a linear head.

    Before the head are a global max pool and dropout.

    With 187 samples, 5 classes, width 48 and 3 blocks: 70,421 parameters.

    Args:
        num_classes: C, at least 2.
        input_shape: ``(channels, length)``; every pool after the first two blocks halves the length.
        width: channels of all convolutions.
        blocks: number of residual blocks, at least 1.
        dropout: probability of dropout before the head, 0 <= p < 1.

    Source: He et al. 2016 (arXiv:1512.03385), in one dimension.
    """

    def __init__(
        self, num_classes: int, input_shape: tuple[int, ...], width: int = 48, blocks: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks must be >= 1, got {blocks}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        channels, _ = channels_and_length(input_shape, 2 ** (blocks + 1))
        self.stem = nn.Conv1d(channels, width, 7, padding=3)
        self.norm = nn.BatchNorm1d(width)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool1d(2)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, length]`` to logits ``[B, C]``."""
        x = self.pool(self.relu(self.norm(self.stem(x))))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i + 1 < len(self.blocks):
                x = self.pool(x)
        return self.head(self.dropout(x.amax(dim=-1)))
