"""A network with its input preprocessing in one module.

The statistics of the preprocessing are saved with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.features.hooks import capture_outputs, resolve_modules
from distill_cli.types import ModelOutput, Pool

CONSTANT = 1e-8
PER_ELEMENT = "standardize_per_element"
PREPARATIONS = ("none", "standardize", PER_ELEMENT)


class Standardise(nn.Module):
    """Standardization ``(x - mean) / std`` with statistics of the training rows.

    A channel or feature that never varies becomes 0.

    Args:
        shape: shape of one sample. Each channel of signals ``[C, L]`` and images ``[C, H, W]`` has one mean and one standard
            deviation, and so has each feature of tables ``[F]``.
        per_element: whether every element of a signal or an image has a mean and a deviation of its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], *, per_element: bool = False) -> None:
        super().__init__()
        statistics = shape if per_element else (*shape[:1], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    def fit(self, pool: Pool) -> None:
        """Compute the statistics of a pool.

        In float64 and chunk by chunk, as the rows may not fit into memory.
        """
        shape = pool.source.shape[1:]
        shared = tuple(n + 1 for n, size in enumerate(self.mean.shape) if size < shape[n])  # axes that a statistic is taken over
        axes, count = (0, *shared), len(pool) * (np.prod(shape, dtype=np.int64) // self.mean.numel())
        mean = sum(x.sum(axis=axes, dtype=np.float64, keepdims=True) for x in pool.iter_batches()) / count
        variance = sum(np.square(x - mean).sum(axis=axes, keepdims=True) for x in pool.iter_batches()) / count
        std = np.sqrt(variance)
        std = np.where(std < CONSTANT, 1.0, std)
        self.mean.copy_(torch.from_numpy(np.asarray(mean)[0]))
        self.std.copy_(torch.from_numpy(std[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and deviation 1 on the training rows, same shape."""
        return (x - self.mean) / self.std


class ReorderClasses(nn.Module):
    """A network whose outputs are reordered to the data's class order."""

    shell_of = "network"  # module paths are those of the network inside
    order: Tensor

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("order", torch.tensor(list(order)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, C]`` in the data's order."""
        return logits_of(self.network(x))[..., self.order]


class LogitOffset(nn.Module):
    """A network with a constant added to the logit of each class.

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
        return logits_of(self.network(x)) + self.offset


class Classifier(nn.Module):
    """A network with its input preprocessing.

    Args:
        network: any module from ``[B, *shape]`` to logits ``[B, C]``; a ModelOutput, or an object or a dict with
            ``logits``, will do.
        preprocessing: ``none``, ``standardize`` (statistics of each channel, or of each feature of a table) or
            ``standardize_per_element``.
        input_shape: shape of one sample.
    """

    shell_of = "network"  # module paths are those of the network inside

    def __init__(self, network: nn.Module, preprocessing: str, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if preprocessing not in PREPARATIONS:
            raise ValueError(f"preprocessing={preprocessing}: expected {' or '.join(PREPARATIONS)}")
        self.preprocessing: nn.Module = nn.Identity()
        if preprocessing != "none":
            self.preprocessing = Standardise(input_shape, per_element=preprocessing == PER_ELEMENT)
        self.network = network
        self._after_step = getattr(network, "after_step", None)
        self._tapped: dict[str, nn.Module] = {}

    def fit_preprocessing(self, pool: Pool) -> None:
        """Compute the statistics of the training rows."""
        if isinstance(self.preprocessing, Standardise):
            self.preprocessing.fit(pool)

    def after_step(self) -> None:
        """Restore the network's own constraints (a bound on norms) after a step."""
        if self._after_step is not None:
            self._after_step()

    def set_feature_layers(self, paths: Iterable[str]) -> None:
        """Set the modules whose outputs `forward` returns as features.

        Without paths, none.

        Args:
            paths: module paths relative to the network: ``conv2``, ``blocks.1``.

        Raises:
            ValueError: the network has no such module.
        """
        self._tapped = resolve_modules(self.network, paths)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return logits ``[B, C]``, and the outputs of the chosen modules by path.

        Raises:
            ValueError: the network returns no logits, or a chosen module ran more than once, or not at all, or returned no
                tensor.
        """
        if not self._tapped:
            return _output(self.network(self.preprocessing(x)))
        with capture_outputs(self._tapped) as features:
            output = _output(self.network(self.preprocessing(x)))
        return with_features(output, features)


def with_features(output: ModelOutput, features: Mapping[str, Tensor]) -> ModelOutput:
    """Return an output with further features added."""
    return replace(output, features={**output.features, **features}) if features else output


def logits_of(output: Any) -> Tensor:
    """Return the logits in a network's output.

    Args:
        output: a tensor, or an object or a dict with ``logits``.

    Raises:
        ValueError: there are no logits; describes the output.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise ValueError(
        f"it returns {_described(output)}; expected the logits [B, C] as a tensor, or an object or a dict with 'logits'"
    )


def _described(output: Any) -> str:
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} with the keys {', '.join(map(str, output)) or 'none'}"
    if isinstance(output, (list, tuple)):
        return f"a {name} of {len(output)} ({', '.join(type(part).__name__ for part in output)})"
    return f"a {name}"


def _output(output: Any) -> ModelOutput:
    return output if isinstance(output, ModelOutput) else ModelOutput(logits_of(output))
