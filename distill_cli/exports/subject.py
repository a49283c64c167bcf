"""What is exported, and what an exporter hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.models.classifier import Classifier
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.types import Dataset

# x [B, *shape] -> logits [B, C], probabilities [B, C]
Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ExportSource:
    """A model on its way out.

    Attributes:
        name: of the model in its run: ``student``.
        model: with its input preparation, on the CPU, in eval mode.
        entry: what it takes to build the model again, as in model.json.
        dataset: its data; exporters look at training rows (to calibrate) and validation rows (to check).
        temperature: what logits are divided by before the softmax; 1 where none was fitted.
        show_samples: whether single rows of the data may be shown.
        about: further words for a file's metadata.
    """

    name: str
    model: Classifier
    entry: Mapping[str, Any]
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
        return tuple(self.entry["input_shape"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names in class order."""
        return self.dataset.class_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of a sample's values in order, where the data set is a table with names; else none."""
        return () if self.dataset.columns is None else self.dataset.columns.features


@dataclass(frozen=True)
class Artifact:
    """One thing that an exporter wrote, not yet checked.

    Attributes:
        name: what reports call it: ``onnx``, ``c``, ``c-int8``.
        files: names inside the export's folder; the first is the one that is run.
        weight_bytes: of the numbers that were learnt or fitted, as stored.
        run: runs what was written, not the model that it was made of.
        difference: the most that a logit may differ from the model's; None where weights are rounded, and macro F1 counts.
        facts: further figures for the report.
        time: returns milliseconds a sample at batch 1, ``{p50, p99}``, where `run` cannot be timed from here.
    """

    name: str
    files: tuple[str, ...]
    weight_bytes: int
    run: Runner
    difference: float | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    time: Callable[[], Mapping[str, float | None]] | None = None


class Outputs(nn.Module):
    """x -> logits ``[B, C]`` and probabilities ``[B, C]``, by default the softmax of logits over the temperature.

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
        """Return logits and probabilities."""
        logits = self.model(x).logits
        scaled = logits if self.temperature == 1.0 else logits / self.temperature
        return logits, self.probabilities(scaled)


def runner_of(module: nn.Module) -> Runner:
    """Return what runs a module with the outputs of `Outputs` on arrays."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            logits, probabilities = module(torch.from_numpy(x))
        return logits.numpy(), probabilities.numpy()

    return run
