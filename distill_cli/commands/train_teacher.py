"""The command `distill train-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_cli.commands.common import show
from distill_cli.config.settings.run import TeacherRunSettings
from distill_cli.factory.context import Job, make_context
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import typed_task, with_defaults
from distill_cli.pipeline.experiment import run_teacher
from distill_cli.pipeline.health import own_checks
from distill_cli.pipeline.report_sections import Report
from distill_cli.runs import layout


def run(settings: TeacherRunSettings, out: Path, job: Job) -> dict[str, Any]:
    """Run one job into the folder `out`, and return its report."""
    return show(train_teacher(settings, out, job), out, settings.runtime.report)


def train_teacher(settings: TeacherRunSettings, out: Path, job: Job) -> Report:
    """Train a teacher, register it, and return the report."""
    own_checks(settings.health)
    context = make_context(settings.runtime, out, job)
    dataset = load_dataset(settings.dataset, task=typed_task(settings.task))
    settings = with_defaults(settings, dataset, context.progress.say)
    return layout.read_json(run_teacher(settings, dataset, context, out) / layout.REPORT)
