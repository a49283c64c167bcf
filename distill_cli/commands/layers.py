"""`distill layers`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from distill_cli.config.validation.check import targets_in
from distill_cli.errors import UserError
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import typed_task
from distill_cli.features.adapters import adapter
from distill_cli.features.layer_summary import Layer, inspect, suggest_pairs
from distill_cli.models.classifier import Classifier
from distill_cli.reports.run.layer_table import show
from distill_cli.runs.checkpoint import build_model, model_spec
from distill_cli.teachers.resolve import build_ensemble, build_untrained_teacher, check_compatible, load_from_runs
from distill_cli.teachers.train import check_sources
from distill_cli.types import Dataset


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """List the modules of teacher and student; nothing is trained, written or reported."""
    show(layers(cfg))
    return {}


@dataclass
class LayerPair:
    """A pair of layers, and how the student's is brought to the teacher's shape."""

    student: Layer
    teacher: Layer
    adapter: str


@dataclass
class LayerSummary:
    """What the command shows."""

    teacher: list[Layer]
    student: list[Layer]
    proposals: list[LayerPair]


def layers(cfg: Any) -> LayerSummary:
    """Look into the models of a config.

    Raises:
        UserError: a model cannot be built or found, or the teacher is a table of outputs.
    """
    check_sources(cfg.teacher)
    if cfg.teacher.outputs is not None:
        raise UserError(f"teacher.outputs={cfg.teacher.outputs}: a table of outputs has no layers; choose a teacher with weights")
    dataset = load_dataset(cfg.dataset, task=typed_task(cfg.task))
    student = build_model(model_spec(cfg.student.model, cfg.student.prepare, dataset), "student.model")
    theirs, ours = (inspect(model, dataset.input_shape) for model in (_teacher(cfg, dataset), student))
    proposals = [LayerPair(s, t, how) for s, t in suggest_pairs(ours, theirs) if (how := _adapter(s, t)) is not None]
    return LayerSummary(theirs, ours, proposals)


def _teacher(cfg: Any, dataset: Dataset) -> Classifier:
    node = cfg.teacher
    if node.checkpoint is None:
        return build_untrained_teacher(node, dataset)
    members = load_from_runs(node, targets_in(OmegaConf.to_container(cfg, resolve=True)))
    for member in members:
        check_compatible(member, dataset)
    whole = members[0] if len(members) == 1 else build_ensemble(members, node.average, None, dataset)
    assert whole.model is not None
    return whole.model


def _adapter(student: Layer, teacher: Layer) -> str | None:
    """Return what an adapter does, or None where the two cannot match."""
    try:
        made = adapter(*(torch.zeros(1, *(layer.shape or ())) for layer in (student, teacher)))
    except ValueError:
        return None
    return str(made.description)
