"""The command `distill distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_cli.commands.common import show
from distill_cli.config.settings.run import RunSettings
from distill_cli.factory.context import Job, make_context
from distill_cli.factory.data import build_transfer_set, load_dataset
from distill_cli.factory.loggers import open_loggers
from distill_cli.factory.task import typed_task, with_defaults
from distill_cli.factory.tuned_settings import apply_tuned_settings
from distill_cli.pipeline.experiment import run_teacher, train_and_report
from distill_cli.pipeline.health import own_checks
from distill_cli.pipeline.preflight import preflight
from distill_cli.pipeline.report_sections import Report
from distill_cli.teachers.generations import train_generations
from distill_cli.teachers.resolve import resolve_teacher, teacher_columns


def run(settings: RunSettings, out: Path, job: Job) -> dict[str, Any]:
    """Run one job into the folder `out`, and return its report."""
    return show(distill(settings, out, job), out, settings.runtime.report)


def distill(settings: RunSettings, out: Path, job: Job) -> Report:
    """Train teacher, generations, student and controls, and return the report."""
    own_checks(settings.health)
    context = make_context(settings.runtime, out, job)
    open_loggers(settings.loggers, out, context.progress.say)  # a missing package is reported before a teacher is trained
    dataset = load_dataset(settings.dataset, teacher_columns(settings.teacher), typed_task(settings.task))
    settings = with_defaults(settings, dataset, context.progress.say)
    settings, search = apply_tuned_settings(settings, dataset)
    transfer = build_transfer_set(dataset, settings.dataset)
    preflight(settings, transfer.pool, dataset, context)
    teacher = resolve_teacher(settings, dataset, context, run_teacher)
    teacher, generations = train_generations(settings, teacher, transfer, dataset, context, train_and_report)
    return train_and_report(settings, transfer, dataset, context, teacher, {"generations": generations}, search)
