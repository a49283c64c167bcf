"""The heartbeat tutorial's two convolutional networks."""

from __future__ import annotations

from torch import Tensor, nn

SHORTEST = 28


class CNN1d(nn.Module):
    """Two convolutions with pooling, global max pooling and two linear layers.

    Conv(5) ReLU MaxPool(4) Conv(3) ReLU MaxPool(4) global max Linear ReLU Linear, without padding.

    With 187 samples and 5 classes: filters 64, hidden 64 has 17,221 parameters, filters 32, hidden 16 has 3,909.
    Weights are Glorot-uniform and biases zero, as Keras initialises them in the original.

    Args:
        num_classes: C, at least 2.
        input_shape: ``(channels, length)``, length at least 28.
        filters: channels of both convolutions.
        hidden: units of the linear layer before the last.

    Source: github.com/CVxTz/knowledge_distillation.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], filters: int = 32, hidden: int = 16) -> None:
        super().__init__()
        channels, _ = channels_and_length(input_shape, SHORTEST)
        self.conv1 = nn.Conv1d(channels, filters, 5)
        self.pool1 = nn.MaxPool1d(4)
        self.conv2 = nn.Conv1d(filters, filters, 3)
        self.pool2 = nn.MaxPool1d(4)
        self.relu = nn.ReLU()
        self.dense = nn.Linear(filters, hidden)
        self.head = nn.Linear(hidden, num_classes)
        for layer in (self.conv1, self.conv2, self.dense, self.head):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, length]`` to logits ``[B, C]``."""
        # The maximum commutes with ReLU, and pooling first leaves ReLU a quarter of the work.
        x = self.relu(self.pool1(self.conv1(x)))
        x = self.relu(self.pool2(self.conv2(x)))
        return self.head(self.relu(self.dense(x.amax(dim=-1))))


def channels_and_length(input_shape: tuple[int, ...], shortest: int) -> tuple[int, int]:
    """Return ``(channels, length)`` of one sample.

    Raises:
        ValueError: the samples are not one-dimensional signals, or too short.
    """
    if len(input_shape) != 2:
        raise ValueError(f"a 1-d network takes samples of shape (channels, length), the data has {tuple(input_shape)}")
    channels, length = input_shape
    if length < shortest:
        raise ValueError(f"needs signals of at least {shortest} samples, the data has {length}")
    return channels, length
