"""`distill train-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.common import show, this_job
from distill_cli.factory.context import Job, make_context
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import typed_task, with_defaults
from distill_cli.pipeline.experiment import run_teacher
from distill_cli.pipeline.health import own_checks
from distill_cli.pipeline.report_sections import Report
from distill_cli.runs import layout
from distill_cli.teachers import train as teacher_training


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job into the folder `out` and return its report."""
    return show(train_teacher(cfg, out, this_job("train-teacher")), out)


def train_teacher(cfg: Any, out: Path, job: Job) -> Report:
    """`distill train-teacher`."""
    teacher_training.check_sources(cfg.teacher, trained=True)
    own_checks(cfg.health)
    context = make_context(cfg, out, job)
    dataset = load_dataset(cfg.dataset, task=typed_task(cfg.task))
    cfg = with_defaults(cfg, dataset, context.progress.say)
    return layout.read_json(run_teacher(cfg, dataset, context, out) / layout.REPORT)
