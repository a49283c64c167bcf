"""What a run gathers before its report can be written: models on disk, what they say, and their figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli import files, runs
from distill_cli.cost import measure, weight_bytes
from distill_cli.models.classifier import Classifier, Standardise
from distill_cli.pipeline import members, scoring, teacher
from distill_cli.pipeline.context import Context
from distill_cli.pipeline.models import Checkpoint, described
from distill_cli.types import Dataset, EpochRecord


@dataclass
class Gathered:
    """What a run has so far: weights on disk, and of each model its logits and its figures."""

    dataset: Dataset
    context: Context
    checkpoint: Checkpoint
    logits: dict[str, scoring.Logits] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: list[EpochRecord] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, Classifier] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, context: Context, out: Path) -> Gathered:
        """Return an empty one for a run folder."""
        return cls(dataset, context, Checkpoint(out, dataset.class_names, dataset.columns))

    def add(self, name: str, model: Classifier, entry: Mapping[str, Any], cost: Mapping[str, Any]) -> None:
        """Write a model's weights, predict every scored split with it, and measure it."""
        self.checkpoint.add(name, model, entry)
        self.networks[name] = model
        self.logits[name] = scoring.logits_of(model, self.dataset, self.context)
        self.models[name] = {**measured(model, entry), **cost}

    def scored(self) -> dict[str, dict[str, Any]]:
        """Return the report's `models`: scores by split, then size and cost."""
        scores = scoring.score_all(self.logits, scoring.scored_pools(self.dataset), self.dataset, self.context)
        return {name: scores.get(name, {}) | figures for name, figures in self.models.items()}


def add_teacher(gathered: Gathered, taught: teacher.Taught, out: Path) -> list[dict[str, Any]]:
    """Put the teacher into the run folder, so that the run can be scored again without the folder it came from.

    Returns:
        What the report says of an ensemble's members.
    """
    if taught.record is not None:
        runs.save_rows(out, scoring.TEACHER, taught.record)
    if taught.epochs is not None:
        files.write_text(out / runs.TEACHER_EPOCHS, taught.epochs)
    if taught.model is not None:
        gathered.add(scoring.TEACHER, taught.model, taught.entry, taught.cost)
        whole = gathered.logits[scoring.TEACHER]
        return members.members_report(taught.model, taught.entry, members.told(taught), whole, gathered.dataset, gathered.context)
    pools = scoring.scored_pools(gathered.dataset)
    known = {name: taught.logits(pool, gathered.dataset, gathered.context) for name, pool in pools.items()}
    gathered.logits[scoring.TEACHER] = {name: values for name, values in known.items() if values is not None}
    gathered.models[scoring.TEACHER] = dict(taught.cost)
    return []


def measured(model: Classifier, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's size and latency, and how much of its weights are statistics of input preparation."""
    statistics = [part for part in model.modules() if isinstance(part, Standardise)]
    prepared = sum(weight_bytes(part) for part in statistics)
    return {**measure(model, tuple(entry["input_shape"])), "preparation_bytes": prepared, "architecture": described(entry)}
