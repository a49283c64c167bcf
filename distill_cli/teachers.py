"""0..n frozen teachers, and their outputs kept by row id."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.batches import Rows
from distill_cli.features.taps import find, listening
from distill_cli.models.classifier import with_features
from distill_cli.types import Batch, ModelOutput


class Teacher(Protocol):
    """What a student learns from."""

    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the teacher's output for a batch."""
        ...


class FrozenTeacher:
    """A model in eval mode, for good: every module of it refuses `train()`, whoever calls it.

    Outputs are computed under `no_grad`, not `inference_mode`, so that adapters can learn from them.

    Args:
        model: its parameters stop requiring gradients.
        paths: modules whose outputs are wanted as features; the model itself keeps no taps.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str] = ()) -> None:
        self._tapped = find(model, paths)
        self._model = model.eval().requires_grad_(False)
        for module in model.modules():
            module.train = functools.partial(_stay_in_eval, module)  # type: ignore[method-assign]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the output for the inputs of the batch, as the student sees them."""
        with listening(self._tapped) as heard:
            output = self._model(batch.x)
        return with_features(output, heard)


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    if mode:
        raise RuntimeError("a teacher was put in train mode")
    return module


class TableTeacher:
    """A teacher whose logits are known by row id: a cache of a model's, or a foreign teacher's outputs.

    Args:
        index: ``[N]`` row ids.
        logits: ``[N, C]``.
    """

    def __init__(self, index: np.ndarray, logits: Tensor) -> None:
        self._logits = logits
        position = torch.full((int(index.max()) + 1,), -1, dtype=torch.int64)
        position[torch.as_tensor(index)] = torch.arange(len(index))
        self._position = position.to(logits.device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the stored logits of the batch's rows."""
        return ModelOutput(self._logits[self._position[batch.index]])


@torch.no_grad()
def cached(model: nn.Module, rows: Rows, chunk: int) -> TableTeacher:
    """Return the model's outputs on all rows as a table: right whenever inputs are neither augmented nor mixed."""
    model.eval()
    logits = torch.cat([model(x).logits.float() for x in rows.chunks(chunk)])
    return TableTeacher(rows.pool.index, logits)


def outputs(teachers: Sequence[Teacher], batch: Batch) -> list[ModelOutput]:
    """Return every teacher's output for the batch, in order."""
    return [teacher(batch) for teacher in teachers]
