"""Sections of a report other than its scores.

They say what the run was, with what it was made, and what it was allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.run import TeacherRunSettings
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import data_section
from distill_cli.pipeline.run_name import run_name
from distill_cli.runs.provenance import provenance
from distill_cli.types import STUDENT, TEACHER, Dataset

Report = dict[str, Any]


def report_header(command: str, settings: TeacherRunSettings, dataset: Dataset) -> Report:
    """Return what every report begins with."""
    return {
        "schema_version": 1,
        "command": command,
        "recipe_version": RECIPE_VERSION,
        "task": dataset.task,
        "name": run_name(settings, command, dataset.name),
        "seed": settings.teacher.seed if command == "train-teacher" else settings.seed,
        "data": data_section(dataset, settings.dataset),
    }


def provenance_of(context: RunContext) -> dict[str, Any]:
    """Return the report's `provenance` section."""
    lines = {"command_line": context.job.command_line}
    if context.job.sweep_command_line is not None:
        lines["sweep_command_line"] = context.job.sweep_command_line
    return provenance(context.device, context.precision, context.started, lines)


def budget(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the optimizer steps of student and controls.

    The cost of the teacher is reported with them.
    """
    others = [name for name in models if name not in (TEACHER, STUDENT)]
    return {
        "student_steps": models[STUDENT]["steps"],
        "control_steps": {name: models[name]["steps"] for name in others},
        "teacher_steps": models[TEACHER].get("steps"),
        "teacher_seconds": models[TEACHER].get("train_seconds"),
    }
