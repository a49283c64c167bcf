"""The three commands' work: config -> a finished run folder and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill_cli.config.settings.run import RunSettings, TeacherRunSettings
from distill_cli.factory import controls
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import TransferSet
from distill_cli.factory.loggers import open_loggers
from distill_cli.factory.tuned_settings import SearchResult
from distill_cli.pipeline import evaluation, write_run
from distill_cli.pipeline.health import Examined, examine, own_checks
from distill_cli.pipeline.report_sections import Report, budget, provenance_of, report_header
from distill_cli.pipeline.results import RunResults, add_teacher
from distill_cli.pipeline.sample_gallery import samples
from distill_cli.pipeline.students import train_students
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import generations as teacher_generations
from distill_cli.teachers import train as teacher_training
from distill_cli.types import STUDENT, TEACHER, TEST_SPLIT, Dataset


def run_teacher(settings: TeacherRunSettings, dataset: Dataset, context: RunContext, out: Path) -> Path:
    """Train one teacher into the run folder `out`, register it, and return the folder."""
    task, loggers = find_task(dataset.task), open_loggers(settings.loggers, out, context.progress.say)
    started = replace(context, run_dir=out, started=time.time(), loggers=loggers)
    teacher, result = teacher_training.train(settings, dataset, started)
    assert teacher.model is not None and teacher.train_record is not None and teacher.key is not None and teacher.spec is not None
    gathered = RunResults.create(dataset, started, out)
    gathered.add(TEACHER, teacher.model, teacher.spec, teacher.training_stats)
    layout.save_train_record(out, TEACHER, teacher.train_record)
    models = gathered.evaluate()
    report = report_header("train-teacher", settings, dataset) | {
        "models": models,
        "comparison": {},
        "verdict": evaluation.verdict(models, {}, TEST_SPLIT, task.primary_metric),
        "teacher_key": teacher.key,
        "teacher_source": "trained",
        "budget": {"teacher_steps": result.steps, "teacher_seconds": result.seconds},
    }
    report["notes"] = examine(Examined(report, dataset, gathered.logits, result.history), own_checks(settings.health))
    predictions = write_run.predictions(dataset, gathered.logits)
    write_run.write_run(started, report, settings.resolved, provenance_of(started), result.history, predictions)
    layout.register(context.output_dir, teacher.key, out)
    return out


def train_and_report(
    settings: RunSettings,
    transfer: TransferSet,
    dataset: Dataset,
    context: RunContext,
    teacher: teacher_training.ResolvedTeacher,
    extra_sections: Mapping[str, Any],
    tuned_settings: SearchResult | None = None,
) -> Report:
    """Train a student and its controls, and return the report.

    The run folder is ``context.run_dir``.

    Args:
        settings: of a run, or of a generation.
        transfer: the student's rows.
        dataset: what is learned and scored.
        context: of this run.
        teacher: the teacher.
        extra_sections: what else the report says; the student joins the `generations`.
        tuned_settings: where the tuned control's settings come from.
    """
    task = find_task(dataset.task)
    context = replace(context, loggers=open_loggers(settings.loggers, context.run_dir, context.progress.say))
    gathered = RunResults.create(dataset, context, context.run_dir)
    member_reports = add_teacher(gathered, teacher, context.run_dir)
    spec = ModelSpec.of_data(settings.student.model, settings.student.preprocessing, dataset)
    train_students(settings, controls.build_plans(settings), gathered, spec, transfer.pool, teacher)
    models = gathered.evaluate()
    comparison = evaluation.compare(gathered.logits, dataset.test, TEST_SPLIT, dataset, context)
    report = report_header("distill", settings, dataset) | {
        "models": models,
        "comparison": comparison,
        "verdict": evaluation.verdict(models, comparison, TEST_SPLIT, task.primary_metric),
        "terms": list(gathered.stages.values())[-1]["terms"],
        "stages": gathered.stages,
        "teacher_key": teacher.key,
        "teacher_fingerprint": teacher.fingerprint(),
        "teacher_source": teacher.origin,
        "teacher_members": member_reports,
        "unlabeled": transfer.unlabeled,
        "cache": gathered.cache,
        "budget": budget(models),
        **extra_sections,
    }
    report["data"]["notes"] += transfer.notes
    if extra_sections.get("generations"):
        report["generations"] = [
            *extra_sections["generations"],
            teacher_generations.generation(STUDENT, "trained", models[STUDENT], task.primary_metric.name),
        ]
    if tuned_settings is not None:
        report["tuned_from"] = tuned_settings.report(settings.seed)
    report["notes"] = examine(Examined(report, dataset, gathered.logits, gathered.records), own_checks(settings.health))
    predictions = write_run.predictions(dataset, gathered.logits)
    shown = None
    if settings.runtime.report.samples and task.has_classes:
        shown = samples(report, dataset, TEST_SPLIT, gathered.logits, gathered.models, context)
    write_run.write_run(context, report, settings.resolved, provenance_of(context), gathered.records, predictions, shown)
    return layout.read_json(context.run_dir / layout.REPORT)
