"""A network as a list of plain operations on one sample, for code exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Operation:
    """One operation of a network on one sample.

    Attributes:
        kind: ``conv``, ``linear``, ``relu``, ``max_pool``, ``mean_pool``, ``add``, ``scale``, ``standardise`` or ``reshape``.
        layer: module path or name of the call, for comments and messages.
        inputs: numbers of the values that are read; 0 is the network's input.
        output: number of the value that is computed.
        shape: shape of the output, ``(channels, height, width)``; a signal has height 1, a vector height and width 1.
        settings: integer settings by name.
        weight: ``[filters, ...]``, the one array that may be rounded to int8, or None.
        arrays: further arrays, never rounded: ``bias``, ``mean``, ``std``, ``factor``.
    """

    kind: str
    layer: str
    inputs: tuple[int, ...]
    output: int
    shape: Shape
    settings: Mapping[str, int] = field(default_factory=dict)
    weight: np.ndarray | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The operations of a network in order, the last of which gives the logits.

    Attributes:
        operations: at least one operation.
        input_shape: shape of value 0, as in `Operation`.
    """

    operations: tuple[Operation, ...]
    input_shape: Shape

    def shape(self, value: int) -> Shape:
        """Return the shape of a value."""
        return self.input_shape if value == 0 else next(op.shape for op in self.operations if op.output == value)

    def readers(self, value: int) -> list[Operation]:
        """Return the operations that read a value."""
        return [op for op in self.operations if value in op.inputs]


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights and the scale of each filter.

    Quantization is symmetric, -127..127: ``weight[f] ~ scale[f] * int8[f]``.

    Args:
        weight: ``[filters, ...]``.

    Returns:
        ``[filters, ...]`` int8 and ``[filters]`` float32.
    """
    flat = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scale = np.maximum(flat / 127, np.finfo(np.float32).tiny).astype(np.float32)
    whole = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(whole, -127, 127).astype(np.int8), scale
