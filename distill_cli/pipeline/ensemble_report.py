"""Report on the members of an ensemble.

It says where each came from, with its own scores next to those of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.factory.context import RunContext
from distill_cli.models.classifier import Classifier
from distill_cli.models.ensemble import Ensemble
from distill_cli.pipeline import evaluation
from distill_cli.runs.checkpoint import ModelSpec, architecture_section
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.train import TRAINING_STATS, ResolvedTeacher
from distill_cli.types import TEACHER, Dataset

PROVENANCE_KEYS = ("source", "teacher_key", *TRAINING_STATS)


def member_provenance(teacher: ResolvedTeacher) -> list[dict[str, Any]]:
    """Return what is known of each member without scoring it."""
    return [
        {"source": member.origin, "teacher_key": member.key, **{key: member.training_stats.get(key) for key in TRAINING_STATS}}
        for member in teacher.members
    ]


def members_report(
    model: Classifier,
    spec: ModelSpec,
    known: Sequence[Mapping[str, Any]],
    whole: evaluation.Logits,
    dataset: Dataset,
    context: RunContext,
    split: str = "all",
) -> list[dict[str, Any]]:
    """Return the report's `teacher_members`, one part a member.

    Empty where the teacher is a single model.

    Args:
        model: the teacher.
        spec: how it is built.
        known: what `told` said of each member.
        whole: the teacher's own logits, which members may agree with.
        dataset: what is scored.
        context: device and bootstrap.
        split: which pools are scored.
    """
    if not isinstance(model.network, Ensemble):
        return []
    members = list(model.network.members)
    logits = {TEACHER: whole}
    for n, member in enumerate(members):
        assert isinstance(member, Classifier)
        logits[str(n)] = evaluation.predict_splits(member.to(context.device), dataset, context, split)
    scored = evaluation.score_all(logits, evaluation.eval_splits(dataset, split), dataset, context)
    task = find_task(dataset.task)
    first = task.primary_metric.name
    keys = ["n", first, f"{first}_ci95", *(metric.name for metric in task.metrics[1:]), "agreement"]
    parts = []
    for n, weight in enumerate(model.network.weights.tolist()):
        scores = {name: {key: part.get(key) for key in keys} for name, part in scored[str(n)].items()}
        about = {"architecture": architecture_section(spec.members[n]), "weight": weight}
        parts.append({**(known[n] if n < len(known) else {}), **about, **scores})
    return parts
