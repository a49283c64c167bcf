"""The command `distill eval`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distill_cli import RECIPE_VERSION
from distill_cli.commands.common import show
from distill_cli.config.settings.run_commands import EvalSettings
from distill_cli.data.leakage import find_overlap
from distill_cli.errors import UserError, did_you_mean
from distill_cli.factory.context import Job
from distill_cli.factory.data import data_section
from distill_cli.pipeline import evaluation, write_run
from distill_cli.pipeline.ensemble_report import PROVENANCE_KEYS, members_report
from distill_cli.pipeline.health import Examined, examine
from distill_cli.pipeline.load_run import load_run
from distill_cli.pipeline.report_sections import Report, provenance_of
from distill_cli.pipeline.results import measured
from distill_cli.pipeline.sample_gallery import allowed, samples
from distill_cli.reports.run.origin import other_data
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import load_model
from distill_cli.runs.find_run import named
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.train import TRAINING_STATS
from distill_cli.types import STUDENT, TEACHER, TEST_SPLIT, Dataset
from distill_cli.utils import files


def run(settings: EvalSettings, out: Path, job: Job) -> dict[str, Any]:
    """Run one job into the folder `out`, and return its report."""
    return show(evaluate(settings, out, job), out, settings.runtime.report)


# Keys of a run's report that stay valid when its models are scored again.
KEPT = ("terms", "stages", "teacher_key", "teacher_fingerprint", "teacher_source", "budget", "generations", "unlabeled")


def evaluate(settings: EvalSettings, out: Path, job: Job) -> Report:
    """Score every model of a finished run on its own data or on others."""
    opened = load_run(settings, out, job)
    source, old, dataset, checkpoint, context = opened.folder, opened.report, opened.dataset, opened.checkpoint, opened.context
    pools, task = evaluation.eval_splits(dataset, settings.split), find_task(dataset.task)
    if not pools:
        known = ", ".join(dataset.pools)
        raise UserError(
            f"split={settings.split}: no such split{did_you_mean(settings.split, dataset.pools)} (it has: all, {known})"
        )

    logits, models, networks = {}, {}, {}
    member_parts: list[dict[str, Any]] = []
    for name in checkpoint["models"]:
        model, spec = load_model(source, name)
        networks[name] = model.to(context.device)
        logits[name] = evaluation.predict_splits(model, dataset, context, settings.split)
        if name == TEACHER:
            provenance = _member_provenance(old)
            member_parts = members_report(model, spec, provenance, logits[name], dataset, context, settings.split)
        cost = layout.model_metrics(old, name, TRAINING_STATS)
        models[name] = {**measured(model, spec), **cost}
    for name, by_split in evaluation.score_all(logits, pools, dataset, context).items():
        models[name] = by_split | models[name]
    data = data_section(dataset, opened.dataset_settings) | {"run_fingerprint": opened.run_fingerprint}
    data["trained_on"] = opened.trained_on(pools, checkpoint["models"])
    for note in other_data(data) or _seen(source, checkpoint["models"], dataset, settings.split):
        context.progress.say(f"note: {note}")
        data["notes"].append(note)
    split = TEST_SPLIT if TEST_SPLIT in pools else next(iter(pools))
    comparison = evaluation.compare(logits, pools[split], split, dataset, context) if STUDENT in logits else {}
    report = {
        "schema_version": 1,
        "command": "eval",
        "recipe_version": RECIPE_VERSION,
        "task": task.name,
        "name": old.get("name"),
        "seed": old.get("seed"),
        "data": data,
        "models": models,
        "comparison": comparison,
        "verdict": ": ".join([*other_data(data)[:1], evaluation.verdict(models, comparison, split, task.primary_metric)]),
        "teacher_members": member_parts,
        "source_run": named(source),
        **{key: old.get(key) for key in KEPT},
    }
    report["notes"] = examine(Examined(report, dataset, logits))
    if not task.has_classes and allowed(old):
        settings = settings.without_samples()
    shown = samples(report, dataset, split, logits, networks, context) if settings.runtime.report.samples else None
    for name in (layout.EPOCHS, layout.TEACHER_EPOCHS):  # the models are the same, so their curves still hold
        if (source / name).is_file():
            files.copy_file(source / name, out / name)
    predictions = write_run.predictions(dataset, logits, split)
    write_run.write_run(context, report, settings.resolved, provenance_of(context), [], predictions, shown)
    return layout.read_json(out / layout.REPORT)


def _member_provenance(old: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a report's entries on ensemble members, without their scores.

    The list is empty where the report is damaged.
    """
    parts = old.get("teacher_members")
    known = parts if isinstance(parts, list) and all(isinstance(part, dict) for part in parts) else []
    return [{key: part.get(key) for key in PROVENANCE_KEYS} for part in known]


def _seen(source: Path, names: Iterable[str], dataset: Dataset, split: str) -> list[str]:
    """Return a note for each model that was trained on rows that are scored here."""
    notes = [f"{split}: these rows were trained on; such scores say nothing about new ones"] if split == "train" else []
    for name in names:
        if layout.train_record_file(source, name).is_file() and (
            overlap := find_overlap(layout.read_train_record(source, name), dataset)
        ):
            notes.append(f"{name} was trained on rows that are scored here: {overlap}")
    return notes
