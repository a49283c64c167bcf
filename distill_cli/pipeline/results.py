"""Collects the models, logits and metrics that a run's report needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.factory.context import RunContext
from distill_cli.models.classifier import Classifier, Standardise
from distill_cli.pipeline import ensemble_report, evaluation
from distill_cli.profiling.model_cost import profile_model, weight_bytes
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import Checkpoint, ModelSpec, architecture_section
from distill_cli.teachers import train as teacher_training
from distill_cli.types import TEACHER, Dataset, EpochRecord
from distill_cli.utils import files


@dataclass
class RunResults:
    """Results of a run so far.

    Holds the weights on disk, and the logits and metrics of each model.
    """

    dataset: Dataset
    context: RunContext
    checkpoint: Checkpoint
    logits: dict[str, evaluation.Logits] = field(default_factory=dict)
    model_figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: list[EpochRecord] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Classifier] = field(default_factory=dict)

    @classmethod
    def create(cls, dataset: Dataset, context: RunContext, out: Path) -> RunResults:
        """Return an empty one for a run folder."""
        return cls(dataset, context, Checkpoint(out, dataset.class_names, dataset.columns))

    def add(self, name: str, model: Classifier, spec: ModelSpec, cost: Mapping[str, Any]) -> None:
        """Write a model's weights, predict every scored split with it, and measure it."""
        self.checkpoint.add(name, model, spec)
        self.models[name] = model
        self.logits[name] = evaluation.predict_splits(model, self.dataset, self.context)
        self.model_figures[name] = {**measured(model, spec), **cost}

    def evaluate(self) -> dict[str, dict[str, Any]]:
        """Return the report's `model_figures`: scores by split, then size and cost."""
        scores = evaluation.score_all(self.logits, evaluation.eval_splits(self.dataset), self.dataset, self.context)
        return {name: scores.get(name, {}) | figures for name, figures in self.model_figures.items()}


def add_teacher(gathered: RunResults, teacher: teacher_training.ResolvedTeacher, out: Path) -> list[dict[str, Any]]:
    """Add the teacher to the run folder.

    Why: the run can be scored again without the folder it came from.

    Returns:
        What the report says of an ensemble's members.
    """
    if teacher.train_record is not None:
        layout.save_train_record(out, TEACHER, teacher.train_record)
    if teacher.metrics_csv is not None:
        files.write_text(out / layout.TEACHER_EPOCHS, teacher.metrics_csv)
    if teacher.model is not None:
        assert teacher.spec is not None
        gathered.add(TEACHER, teacher.model, teacher.spec, teacher.training_stats)
        whole = gathered.logits[TEACHER]
        return ensemble_report.members_report(
            teacher.model, teacher.spec, ensemble_report.member_provenance(teacher), whole, gathered.dataset, gathered.context
        )
    pools = evaluation.eval_splits(gathered.dataset)
    known = {name: teacher.logits(pool, gathered.dataset, gathered.context) for name, pool in pools.items()}
    gathered.logits[TEACHER] = {name: values for name, values in known.items() if values is not None}
    gathered.model_figures[TEACHER] = dict(teacher.training_stats)
    return []


def measured(model: Classifier, spec: ModelSpec) -> dict[str, Any]:
    """Return a model's size and latency.

    Includes how much of its weights are statistics of input preparation.
    """
    statistics = [part for part in model.modules() if isinstance(part, Standardise)]
    prepared = sum(weight_bytes(part) for part in statistics)
    return {
        **profile_model(model, spec.input_shape),
        "preparation_bytes": prepared,
        "architecture": architecture_section(spec),
    }
