"""The three commands' work: config -> a finished run folder and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill_cli import runs
from distill_cli.pipeline import chain, controls, folder, scoring, search, teacher
from distill_cli.pipeline.context import Context, Job, make_context
from distill_cli.pipeline.data import TransferSet, load_dataset, transfer_set
from distill_cli.pipeline.gathered import Gathered, add_teacher
from distill_cli.pipeline.heading import Report, budget, head, provenance_of
from distill_cli.pipeline.health import Examined, examine, own_checks
from distill_cli.pipeline.listening import open_loggers
from distill_cli.pipeline.models import architecture
from distill_cli.pipeline.obtain import obtain, teacher_columns
from distill_cli.pipeline.samples import samples
from distill_cli.pipeline.search import Search
from distill_cli.pipeline.sound import check_sound
from distill_cli.pipeline.students import train_students
from distill_cli.types import Dataset


def run_teacher(cfg: Any, dataset: Dataset, context: Context, out: Path) -> Path:
    """Train the teacher of a config into the run folder `out`, register it, and return the folder."""
    loggers = open_loggers(cfg, out, context.progress.say)
    started = replace(context, out=out, started=time.time(), loggers=loggers)
    taught, result = teacher.train(cfg, dataset, started)
    assert taught.model is not None and taught.record is not None and taught.key is not None
    gathered = Gathered.of(dataset, started, out)
    gathered.add(scoring.TEACHER, taught.model, taught.entry, taught.cost)
    runs.save_rows(out, scoring.TEACHER, taught.record)
    models = gathered.scored()
    report = head("train-teacher", cfg, dataset) | {
        "models": models,
        "comparison": {},
        "verdict": scoring.verdict(models, {}, scoring.COMPARED),
        "teacher_key": taught.key,
        "teacher_source": "trained",
        "budget": {"teacher_steps": result.steps, "teacher_seconds": result.seconds},
    }
    report["notes"] = examine(Examined(report, dataset, gathered.logits, result.records), own_checks(cfg.health))
    folder.finish(started, report, cfg, provenance_of(started), result.records, folder.predictions(dataset, gathered.logits))
    runs.register(context.outputs, taught.key, out)
    return out


def train_teacher(cfg: Any, out: Path, job: Job) -> Report:
    """`distill train-teacher`."""
    teacher.check_sources(cfg.teacher, trained=True)
    own_checks(cfg.health)
    context = make_context(cfg, out, job)
    return runs.read_json(run_teacher(cfg, load_dataset(cfg.dataset), context, out) / runs.REPORT)


def distill(cfg: Any, out: Path, job: Job) -> Report:
    """`distill distill`: teacher, the links between, student, and the controls beside it."""
    teacher.check_sources(cfg.teacher)
    own_checks(cfg.health)
    context = make_context(cfg, out, job)
    open_loggers(cfg, out, context.progress.say)  # so that a missing package is said before a teacher is trained
    dataset = load_dataset(cfg.dataset, teacher_columns(cfg.teacher))
    cfg, found = search.use(cfg, dataset)
    transfer = transfer_set(dataset, cfg.dataset)
    check_sound(cfg, found, transfer.pool, dataset, context)
    taught = obtain(cfg, dataset, context, run_teacher)
    taught, generations = chain.walk(cfg, taught, transfer, dataset, context, teach)
    return teach(cfg, transfer, dataset, context, taught, {"chain": generations}, found)


def teach(
    cfg: Any,
    transfer: TransferSet,
    dataset: Dataset,
    context: Context,
    taught: teacher.Taught,
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
    comparison = scoring.compare(gathered.logits, dataset.test, scoring.COMPARED, dataset, context)
    report = head("distill", cfg, dataset) | {
        "models": models,
        "comparison": comparison,
        "verdict": scoring.verdict(models, comparison, scoring.COMPARED),
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
        report["chain"] = [*also["chain"], chain.generation(scoring.STUDENT, "trained", models[scoring.STUDENT])]
    if found is not None:
        report["search"] = found.report(cfg.seed)
    report["notes"] = examine(Examined(report, dataset, gathered.logits, gathered.records), own_checks(cfg.health))
    predictions = folder.predictions(dataset, gathered.logits)
    shown = None
    if cfg.report.samples:
        shown = samples(report, dataset, scoring.COMPARED, gathered.logits, gathered.networks, context)
    folder.finish(context, report, cfg, provenance_of(context), gathered.records, predictions, shown)
    return runs.read_json(context.out / runs.REPORT)
