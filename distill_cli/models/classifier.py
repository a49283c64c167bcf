"""Input preparation and network in one module, so that the statistics travel with the weights."""

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
PREPARATIONS = ("none", "standardise", PER_ELEMENT)


class Standardise(nn.Module):
    """``(x - mean) / std`` with statistics of the training rows; a channel or feature that never varies stays 0.

    Args:
        shape: of one sample. Of signals ``[C, L]`` and images ``[C, H, W]`` each channel has one mean and one deviation, of
            tables ``[F]`` each feature.
        per_element: whether every element of a signal or an image has its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], *, per_element: bool = False) -> None:
        super().__init__()
        statistics = shape if per_element else (*shape[:1], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    def fit(self, pool: Pool) -> None:
        """Take the statistics of the rows, in float64 and chunk by chunk: the rows may not fit into memory."""
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
    """A network whose outputs are put into the data's class order."""

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
        return logits_of(self.network(x)) + self.offset


class Classifier(nn.Module):
    """A network behind its own input preparation.

    Args:
        network: any module from ``[B, *shape]`` to logits ``[B, C]``; a ModelOutput, or an object or a dict with
            ``logits``, will do.
        preprocessing: ``none``, ``standardise`` (statistics of each channel, of a table each feature) or ``standardize_per_element``.
        input_shape: shape of one sample.
    """

    shell_of = "network"  # module paths are those of the network inside

    def __init__(self, network: nn.Module, prepare: str, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if prepare not in PREPARATIONS:
            raise ValueError(f"prepare={prepare}: expected {' or '.join(PREPARATIONS)}")
        self.preprocessing: nn.Module = nn.Identity()
        if prepare != "none":
            self.preprocessing = Standardise(input_shape, per_element=prepare == PER_ELEMENT)
        self.network = network
        self._after_step = getattr(network, "after_step", None)
        self._tapped: dict[str, nn.Module] = {}

    def fit_preprocessing(self, pool: Pool) -> None:
        """Take the statistics of the training rows."""
        if isinstance(self.preprocessing, Standardise):
            self.preprocessing.fit(pool)

    def after_step(self) -> None:
        """Let the network restore its own constraints (a bound on norms) after an optimizer step."""
        if self._after_step is not None:
            self._after_step()

    def set_feature_layers(self, paths: Iterable[str]) -> None:
        """From now on return the outputs of the modules at `paths` as features; with no paths, none.

        Args:
            paths: relative to the network: ``conv2``, ``blocks.1``.

        Raises:
            ValueError: the network has no such module.
        """
        self._tapped = resolve_modules(self.network, paths)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return logits ``[B, C]``, and the outputs of the tapped modules by path.

        Raises:
            ValueError: the network returns no logits, or a tapped module ran more than once, or not at all, or returned no
                tensor.
        """
        if not self._tapped:
            return _output(self.network(self.preprocessing(x)))
        with capture_outputs(self._tapped) as heard:
            output = _output(self.network(self.preprocessing(x)))
        return with_features(output, heard)


def with_features(output: ModelOutput, heard: Mapping[str, Tensor]) -> ModelOutput:
    """Return an output with the tapped features beside its own."""
    return replace(output, features={**output.features, **heard}) if heard else output


def logits_of(output: Any) -> Tensor:
    """Return the logits of what a network returns: a tensor, or an object or a dict with ``logits``.

    Raises:
        ValueError: there are none; says what there is.
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
