"""The command `distill layers`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.teacher import FromLogits, FromRuns
from distill_cli.config.trust import targets_in
from distill_cli.errors import UserError
from distill_cli.factory.context import Job
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import typed_task
from distill_cli.features.adapters import adapter
from distill_cli.features.layer_summary import Layer, inspect, suggest_pairs
from distill_cli.models.classifier import Classifier
from distill_cli.reports.run.layer_table import show
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.teachers.resolve import build_ensemble, build_untrained_teacher, check_compatible, load_from_runs
from distill_cli.types import Dataset


def run(settings: RunSettings, out: Path, job: Job) -> dict[str, Any]:
    """List the modules of teacher and student, without a run folder.

    Returns nothing.
    """
    show(layers(settings))
    return {}


@dataclass
class LayerPair:
    """A pair of layers, with the adapter from the student's shape to the teacher's."""

    student: Layer
    teacher: Layer
    adapter: str


@dataclass
class LayerSummary:
    """The modules of teacher and student, and the proposed pairs."""

    teacher: list[Layer]
    student: list[Layer]
    proposals: list[LayerPair]


def layers(settings: RunSettings) -> LayerSummary:
    """Return the layers of teacher and student.

    Includes pairs of layers for losses on features.

    Raises:
        UserError: a model cannot be built or found, or the teacher is a file of outputs.
    """
    source = settings.teacher.source
    if isinstance(source, FromLogits):
        raise UserError(f"teacher.logits_file={source.file}: a table of outputs has no layers; choose a teacher with weights")
    dataset = load_dataset(settings.dataset, task=typed_task(settings.task))
    spec = ModelSpec.of_data(settings.student.model, settings.student.preprocessing, dataset)
    student = build_model(spec, "student.model")
    teacher_layers, student_layers = (inspect(model, dataset.input_shape) for model in (_teacher(settings, dataset), student))
    proposals = [
        LayerPair(s, t, adapter_text)
        for s, t in suggest_pairs(student_layers, teacher_layers)
        if (adapter_text := _adapter(s, t)) is not None
    ]
    return LayerSummary(teacher_layers, student_layers, proposals)


def _teacher(settings: RunSettings, dataset: Dataset) -> Classifier:
    choice = settings.teacher
    if not isinstance(choice.source, FromRuns):
        return build_untrained_teacher(choice, dataset)
    members = load_from_runs(choice.source, targets_in(settings.resolved))
    for member in members:
        check_compatible(member, dataset)
    teacher = members[0] if len(members) == 1 else build_ensemble(members, replace(choice.ensemble, weights=None), dataset)
    assert teacher.model is not None
    return teacher.model


def _adapter(student: Layer, teacher: Layer) -> str | None:
    """Return the description of the adapter between two layers, or None."""
    try:
        matched = adapter(*(torch.zeros(1, *(layer.shape or ())) for layer in (student, teacher)))
    except ValueError:
        return None
    return str(matched.description)
