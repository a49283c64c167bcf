"""Input preparation and network in one module, so that the statistics travel with the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.features.taps import find, listening
from distill_cli.types import ModelOutput, Pool

CONSTANT = 1e-8
PREPARATIONS = ("none", "standardise")


class Standardise(nn.Module):
    """``(x - mean) / std`` with statistics of the training rows; a feature that never varies stays 0."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, pool: Pool) -> None:
        """Take the statistics of the rows, in float64 and chunk by chunk: the rows may not fit into memory."""
        mean = sum(x.sum(axis=0, dtype=np.float64) for x in pool.chunks()) / len(pool)
        variance = sum(np.square(x - mean).sum(axis=0) for x in pool.chunks()) / len(pool)
        std = np.sqrt(variance)
        std = np.where(std < CONSTANT, 1.0, std)
        self.mean.copy_(torch.from_numpy(np.asarray(mean)))
        self.std.copy_(torch.from_numpy(std))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and deviation 1 on the training rows, same shape."""
        return (x - self.mean) / self.std


class Reordered(nn.Module):
    """A network whose outputs are put into the data's class order."""

    shell_of = "network"  # module paths are those of the network inside
    order: Tensor

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("order", torch.tensor(list(order)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, C]`` in the data's order."""
        return self.network(x)[..., self.order]


class Shifted(nn.Module):
    """A network with a fixed number added to the logit of each class.

    Args:
        network: from ``[B, *shape]`` to logits ``[B, C]``.
        offset: ``[C]`` numbers.
    """

    shell_of = "network"
    offset: Tensor

    def __init__(self, network: nn.Module, offset: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offset", torch.tensor(list(offset), dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, C]``."""
        output = self.network(x)
        return (output if isinstance(output, Tensor) else output.logits) + self.offset


class Classifier(nn.Module):
    """A network behind its own input preparation.

    Args:
        network: any module from ``[B, *shape]`` to logits ``[B, C]``; a ModelOutput or an object with ``.logits`` will do.
        prepare: ``none`` or ``standardise``.
        input_shape: shape of one sample.
    """

    shell_of = "network"  # module paths are those of the network inside

    def __init__(self, network: nn.Module, prepare: str, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if prepare not in PREPARATIONS:
            raise ValueError(f"prepare={prepare}: expected {' or '.join(PREPARATIONS)}")
        self.prepare: nn.Module = Standardise(input_shape) if prepare == "standardise" else nn.Identity()
        self.network = network
        self._after_step = getattr(network, "after_step", None)
        self._tapped: dict[str, nn.Module] = {}

    def fit_preparation(self, pool: Pool) -> None:
        """Take the statistics of the training rows."""
        if isinstance(self.prepare, Standardise):
            self.prepare.fit(pool)

    def after_step(self) -> None:
        """Let the network restore its own constraints (a bound on norms) after an optimizer step."""
        if self._after_step is not None:
            self._after_step()

    def tap(self, paths: Iterable[str]) -> None:
        """From now on return the outputs of the modules at `paths` as features; with no paths, none.

        Args:
            paths: relative to the network: ``conv2``, ``blocks.1``.

        Raises:
            ValueError: the network has no such module.
        """
        self._tapped = find(self.network, paths)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return logits ``[B, C]``, and the outputs of the tapped modules by path.

        Raises:
            ValueError: a tapped module ran more than once, or not at all, or returned no tensor.
        """
        if not self._tapped:
            return _output(self.network(self.prepare(x)))
        with listening(self._tapped) as heard:
            output = _output(self.network(self.prepare(x)))
        return with_features(output, heard)


def with_features(output: ModelOutput, heard: Mapping[str, Tensor]) -> ModelOutput:
    """Return an output with the tapped features beside its own."""
    return ModelOutput(output.logits, {**output.features, **heard}) if heard else output


def _output(given: Any) -> ModelOutput:
    if isinstance(given, ModelOutput):
        return given
    return ModelOutput(given if isinstance(given, Tensor) else given.logits)
