"""The three commands' work: config -> a finished run folder and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill_cli.factory import controls
from distill_cli.factory.context import Context
from distill_cli.factory.data import TransferSet
from distill_cli.factory.loggers import open_loggers
from distill_cli.factory.tuned_settings import Search
from distill_cli.pipeline import evaluation, write_run
from distill_cli.pipeline.health import Examined, examine, own_checks
from distill_cli.pipeline.report_sections import Report, budget, head, provenance_of
from distill_cli.pipeline.results import Gathered, add_teacher
from distill_cli.pipeline.sample_gallery import samples
from distill_cli.pipeline.students import train_students
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import architecture
from distill_cli.teachers import generations as teacher_generations
from distill_cli.teachers import train as teacher_training
from distill_cli.types import COMPARED, STUDENT, TEACHER, Dataset


def run_teacher(cfg: Any, dataset: Dataset, context: Context, out: Path) -> Path:
    """Train the teacher of a config into the run folder `out`, register it, and return the folder."""
    loggers = open_loggers(cfg, out, context.progress.say)
    started = replace(context, out=out, started=time.time(), loggers=loggers)
    taught, result = teacher_training.train(cfg, dataset, started)
    assert taught.model is not None and taught.record is not None and taught.key is not None
    gathered = Gathered.of(dataset, started, out)
    gathered.add(TEACHER, taught.model, taught.entry, taught.cost)
    layout.save_rows(out, TEACHER, taught.record)
    models = gathered.scored()
    report = head("train-teacher", cfg, dataset) | {
        "models": models,
        "comparison": {},
        "verdict": evaluation.verdict(models, {}, COMPARED),
        "teacher_key": taught.key,
        "teacher_source": "trained",
        "budget": {"teacher_steps": result.steps, "teacher_seconds": result.seconds},
    }
    report["notes"] = examine(Examined(report, dataset, gathered.logits, result.records), own_checks(cfg.health))
    write_run.finish(
        started, report, cfg, provenance_of(started), result.records, write_run.predictions(dataset, gathered.logits)
    )
    layout.register(context.outputs, taught.key, out)
    return out


def teach(
    cfg: Any,
    transfer: TransferSet,
    dataset: Dataset,
    context: Context,
    taught: teacher_training.Taught,
    also: Mapping[str, Any],
    found: Search | None = None,
) -> Report:
    """Train the student of a config and its controls into the run folder ``context.out``, and return the report.

    Args:
        cfg: a composed config, or that of a link.
        transfer: the student's rows.
        dataset: what is learned and scored.
        context: of this run.
        taught: the teacher.
        also: what else the report says; the student joins the generations of `chain`.
        found: where the tuned control's settings come from.
    """
    context = replace(context, loggers=open_loggers(cfg, context.out, context.progress.say))
    gathered = Gathered.of(dataset, context, context.out)
    told_of_members = add_teacher(gathered, taught, context.out)
    entry = architecture(cfg.student.model, cfg.student.prepare, dataset)
    plans = controls.plan(cfg, cfg.controls, found)
    train_students(cfg, plans, gathered, entry, transfer.pool, taught)
    models = gathered.scored()
    comparison = evaluation.compare(gathered.logits, dataset.test, COMPARED, dataset, context)
    report = head("distill", cfg, dataset) | {
        "models": models,
        "comparison": comparison,
        "verdict": evaluation.verdict(models, comparison, COMPARED),
        "terms": list(gathered.stages.values())[-1]["terms"],
        "stages": gathered.stages,
        "teacher_key": taught.key,
        "teacher_fingerprint": taught.fingerprint(),
        "teacher_source": taught.source,
        "teacher_members": told_of_members,
        "unlabeled": transfer.unlabeled,
        "cache": gathered.cache,
        "budget": budget(models),
        **also,
    }
    report["data"]["notes"] += transfer.notes
    if also.get("chain"):
        report["chain"] = [*also["chain"], teacher_generations.generation(STUDENT, "trained", models[STUDENT])]
    if found is not None:
        report["search"] = found.report(cfg.seed)
    report["notes"] = examine(Examined(report, dataset, gathered.logits, gathered.records), own_checks(cfg.health))
    predictions = write_run.predictions(dataset, gathered.logits)
    shown = None
    if cfg.report.samples:
        shown = samples(report, dataset, COMPARED, gathered.logits, gathered.networks, context)
    write_run.finish(context, report, cfg, provenance_of(context), gathered.records, predictions, shown)
    return layout.read_json(context.out / layout.REPORT)
