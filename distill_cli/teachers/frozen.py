"""0..n frozen teachers, or tables of their outputs by row id."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from distill_cli.errors import UserError
from distill_cli.factory.stages import Pairs
from distill_cli.features.hooks import capture_outputs, resolve_modules
from distill_cli.models.classifier import Classifier, with_features
from distill_cli.tasks.registry import CLASSIFICATION, find_task
from distill_cli.tasks.task import Task
from distill_cli.types import Batch, ModelOutput


class FrozenTeacher:
    """A model that stays in eval mode.

    Every module of it refuses `train()`, whoever calls it.

    Outputs are computed under `no_grad`, not `inference_mode`, so that adapters can learn from them.

    Args:
        model: its parameters stop requiring gradients.
        paths: modules whose outputs are wanted as features; the model itself keeps no taps.
        task: calls the model; None: classification.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str] = (), task: Task | None = None) -> None:
        self._forward = (task or find_task(CLASSIFICATION)).forward
        self._tapped = resolve_modules(model, paths)
        self._model = model.eval().requires_grad_(False)
        for module in model.modules():
            module.train = functools.partial(_stay_in_eval, module)  # type: ignore[method-assign]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the output for the inputs of the batch, as the student sees them."""
        with capture_outputs(self._tapped) as captured:
            output = self._forward(self._model, batch.inputs)
        return with_features(output, captured)


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    if mode:
        raise RuntimeError("a teacher was put in train mode")
    return module


class PrecomputedTeacher:
    """A teacher whose outputs are known by row and view.

    They are stored ones of a model, or those of a file.

    Tables may be memory-mapped and may lie on another device than the batches.

    Args:
        rows: N, of the pool that batches are drawn from.
        logits: ``[V * N, C]``, view by view, in the order of the pool.
        features: ``[V * N, ...]`` by module path.
    """

    def __init__(self, rows: int, logits: Tensor, features: Mapping[str, Tensor] | None = None) -> None:
        self._logits = logits
        self._features = dict(features or {})
        self._rows = rows

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the stored outputs of the batch's rows, in the view that it shows."""
        assert batch.position is not None
        at = batch.position.to(self._logits.device) + batch.view * self._rows
        here = batch.inputs.device
        logits = self._logits.index_select(0, at).to(here)
        return ModelOutput(logits, {path: table.index_select(0, at).to(here) for path, table in self._features.items()})


def freeze_teacher(model: Classifier, pairs: Pairs, task: Task) -> FrozenTeacher:
    """Return the model as a teacher that tells its features of `pairs`."""
    try:
        return FrozenTeacher(model, [teacher for _, teacher in pairs], task)
    except ValueError as e:
        raise UserError(f"features of the teacher: {e}") from None
