"""Data classes of an export: the model, and the artifacts of exporters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.models.classifier import Classifier
from distill_cli.runs.checkpoint import ModelSpec
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.types import Dataset

# x [B, *shape] -> logits [B, C], probabilities [B, C]
Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ExportSource:
    """A model to export.

    Attributes:
        name: of the model in its run: ``student``.
        model: with its input preparation, on the CPU, in eval mode.
        spec: what it takes to build the model again.
        dataset: its data; exporters look at training rows (to calibrate) and validation rows (to check).
        temperature: what logits are divided by before the softmax; 1 where none was fitted.
        show_samples: whether single rows of the data may be shown.
        about: further metadata for the files.
    """

    name: str
    model: Classifier
    spec: ModelSpec
    dataset: Dataset
    temperature: float = 1.0
    show_samples: bool = True
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the model has learned."""
        return find_task(self.dataset.task)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.spec.input_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names in class order."""
        return self.dataset.class_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of a sample's values in order, empty where the data has none."""
        return () if self.dataset.columns is None else self.dataset.columns.features


@dataclass(frozen=True)
class Artifact:
    """Files of one format, before their check.

    Attributes:
        name: name in reports: ``onnx``, ``c``, ``c-int8``.
        files: names inside the export folder; the first is the file that is run.
        weight_bytes: bytes of the trained or fitted numbers as stored.
        run: function that runs the files, not the model they were made from.
        difference: largest allowed difference of a logit from the model's; None for rounded weights, where macro F1 is checked.
        facts: further figures for the report.
        time: function that returns the latency of a sample at batch 1 in ms, ``{p50, p99}``; None: `run` is timed.
    """

    name: str
    files: tuple[str, ...]
    weight_bytes: int
    run: Runner
    difference: float | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    time: Callable[[], Mapping[str, float | None]] | None = None


class Outputs(nn.Module):
    """Module from inputs to logits and probabilities, both ``[B, C]``.

    Probabilities are the by default the softmax of the logits over the temperature.

    Args:
        model: a classifier.
        temperature: T > 0.
        task: turns logits into probabilities.
    """

    def __init__(self, model: Classifier, temperature: float, task: Task) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.probabilities = task.probabilities

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities ``[B, C]`` of ``x`` ``[B, *shape]``."""
        logits = self.model(x).logits
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        return logits, self.probabilities(scaled)


def runner_of(module: nn.Module) -> Runner:
    """Return a function that runs a module with the outputs of `Outputs` on arrays."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            logits, probabilities = module(torch.from_numpy(x))
        return logits.numpy(), probabilities.numpy()

    return run
