"""Protocols of a task: all that is assumed of targets, outputs and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from distill_cli.metrics.bootstrap import Resampled

if TYPE_CHECKING:  # a table over runs needs names and titles of metrics, and no torch
    from torch import Tensor, nn

    from distill_cli.types import Batch, Dataset, ModelOutput, Pool

ZERO_TO_ONE = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """One number that says how good outputs are.

    Attributes:
        name: its key in report.json.
        title: what tables call it.
        higher_is_better: its direction.
        unit: behind the title, empty where there is none.
        bounds: least and largest value; None where it has none.
        per_epoch: whether it is cheap enough for every epoch, so that an epoch can be chosen by it.
    """

    name: str
    title: str
    higher_is_better: bool = True
    unit: str = ""
    bounds: tuple[float, float] | None = ZERO_TO_ONE
    per_epoch: bool = True

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True)
class PartColumn:
    """One figure of each part of the targets, such as a class.

    Attributes:
        key: its key in report.json.
        title: what tables call it.
        is_count: whether it counts rows.
    """

    key: str
    title: str
    is_count: bool = False


class Preparation(Protocol):
    """Preparation of one model's inputs from samples.

    It belongs to the model and is saved with it (docs/decisions/0002).

    Today there is one kind: arithmetic on arrays, fitted to the training rows, which is the first module of the model
    (`models.classifier.Standardise`), so that teacher and student share `Batch.inputs` as the data set gives them. Samples that
    do not stack, such as texts, are prepared before a batch exists, by code that runs where the rows are read.

    Attributes:
        fingerprint: models whose preparations have the same one share the result.
    """

    fingerprint: str

    def fit(self, pool: Pool) -> None:
        """Take what it needs from the training rows."""
        ...

    def __call__(self, samples: Any) -> Any:
        """Return the inputs of a batch."""
        ...


class Evaluator(Resampled, Protocol):
    """The outputs of one model on one split, held against the targets.

    Attributes:
        primary_metric: the metric of `resampled`.
        parts: key of the parts in `compute`, and of the metric of `resampled_parts` in each; empty words where there are none.
    """

    primary_metric: str
    parts: tuple[str, str]

    def compute(self) -> dict[str, Any]:
        """Return all scores, with the keys of docs/report-schema.md, without intervals."""
        ...

    def agreement(self, reference: Evaluator) -> float | None:
        """Return the share of the rows on which another model predicts the same.

        None where that says nothing.
        """
        ...


class Task(Protocol):
    """What is learned: how targets are encoded, outputs read, scored and shown.

    A class of one's own that inherits this protocol states the attributes and gives the methods without a body; a task says
    which loss it needs by an option of the group `loss`, so that no task imports a loss.

    Attributes:
        name: its option in the group `task`, also in report.json.
        metrics: the primary one first.
        supervised_loss: option of the group `loss` that learns from labels: of a teacher, and of a control.
        distillation_loss: option that a student learns by unless another is chosen.
        targets: what a target is, which a loss is held against: ``classes``, ``labels`` or ``values``.
        part, parts: what one part of a target, and several, are called, such as ``class`` and ``classes``; empty where there
            are none.
        part_key: key of their figures in the scores of a split.
        part_columns: these figures: the metric of the parts first, the number of rows last.
        exports: formats of `distill export` that know its outputs.
        shown_as: in words, how outputs become what `shown` returns.
        has_classes: whether a row is of exactly one class, which the pictures and checks of classes ask for.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    supervised_loss: str
    distillation_loss: str
    targets: ClassVar[str]
    part: ClassVar[str] = ""
    parts: ClassVar[str] = ""
    part_key: ClassVar[str] = ""
    part_columns: ClassVar[tuple[PartColumn, ...]] = ()
    exports: ClassVar[tuple[str, ...]] = ("safetensors", "onnx")
    has_classes: ClassVar[bool] = False
    shown_as: ClassVar[str] = "outputs are as the network gives them"

    def forward(self, model: nn.Module, inputs: Any, batch: Batch | None = None) -> ModelOutput:
        """Return the output of a model.

        In training the batch is there as well, for a network that takes its targets.
        """
        output: ModelOutput = model(inputs)
        return output

    def encode_targets(self, y: np.ndarray, num_outputs: int) -> Tensor:
        """Return the targets of a pool as a batch holds them, ``[N, ...]`` float32."""
        ...

    def check_model(self, model: nn.Module, shape: tuple[int, ...], num_outputs: int) -> str:
        """Return what is wrong with a network's outputs on samples of a shape.

        An empty text where nothing is. It may raise whatever the network raises.
        """
        import torch

        outputs = model(torch.zeros(2, *shape)).logits
        return "" if tuple(outputs.shape) == (2, num_outputs) else f"gives {list(outputs.shape)[1:]} outputs a sample"

    def check_dataset(self, dataset: Dataset) -> None:
        """Check the targets of every pool.

        Raises:
            UserError: one that is no target of this task, or names that do not fit.
        """
        ...

    def epoch_scores(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> dict[str, float]:
        """Return the metrics that are computed after every epoch.

        Args:
            outputs: ``[N, C]`` of the model.
            pool: the rows.
            dataset: whose rows they are.

        Raises:
            UserError: outputs are not finite.
        """
        ...

    def evaluator(self, outputs: np.ndarray, pool: Pool, dataset: Dataset) -> Evaluator:
        """Return what scores a model's outputs ``[N, C]`` on a pool.

        Raises:
            UserError: no rows, outputs that are not finite, or of another shape than the targets.
        """
        ...

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Return strata ``[N]`` int64, in each of which rows are alike.

        They serve splits, the share of rows with labels, and sampling.
        """
        ...

    def part_counts(self, y: np.ndarray, num_outputs: int) -> np.ndarray:
        """Return in how many rows each output's part occurs, ``[C]``.

        Rows whose target is not known count nowhere.
        """
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return probabilities, or values, of outputs ``[B, C]``, for users.

        They are operations of a graph.
        """
        ...

    def shown(self, outputs: np.ndarray) -> np.ndarray:
        """Return the same of an array, in float64.

        Raises:
            UserError: outputs are not finite.
        """
        ...

    def prediction_columns(self, shown: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the columns of one model in predictions.csv.

        By the end of the column's name: ``""``, ``".V"``.

        Args:
            shown: ``[N, C]``, what `shown` returned.
            names: of the outputs.
        """
        ...

    def target_columns(self, y: np.ndarray, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the columns of the targets in predictions.csv.

        By the column's name: ``true``, ``true.a``.
        """
        ...

    def metric(self, name: str) -> Metric | None:
        """Return the metric of a name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def primary_metric(self) -> Metric:
        """The metric of verdicts and intervals."""
        return self.metrics[0]

    @property
    def epoch_metrics(self) -> list[str]:
        """Names of the metrics by which an epoch can be chosen."""
        return [metric.name for metric in self.metrics if metric.per_epoch]
