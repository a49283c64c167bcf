"""`distill distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.common import show, this_job
from distill_cli.factory import tuned_settings
from distill_cli.factory.context import Job, make_context
from distill_cli.factory.data import build_transfer_set, load_dataset
from distill_cli.factory.loggers import open_loggers
from distill_cli.factory.task import typed_task, with_defaults
from distill_cli.pipeline.experiment import run_teacher, train_and_report
from distill_cli.pipeline.health import own_checks
from distill_cli.pipeline.preflight import preflight
from distill_cli.pipeline.report_sections import Report
from distill_cli.teachers import generations as teacher_generations
from distill_cli.teachers import train as teacher_training
from distill_cli.teachers.resolve import resolve_teacher, teacher_columns


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job into the folder `out` and return its report."""
    return show(distill(cfg, out, this_job("distill")), out)


def distill(cfg: Any, out: Path, job: Job) -> Report:
    """`distill distill`: teacher, the links between, student, and the controls beside it."""
    teacher_training.check_sources(cfg.teacher)
    own_checks(cfg.health)
    context = make_context(cfg, out, job)
    open_loggers(cfg, out, context.progress.say)  # so that a missing package is said before a teacher is trained
    dataset = load_dataset(cfg.dataset, teacher_columns(cfg.teacher), typed_task(cfg.task))
    cfg = with_defaults(cfg, dataset, context.progress.say)
    cfg, found = tuned_settings.apply_tuned_settings(cfg, dataset)
    transfer = build_transfer_set(dataset, cfg.dataset)
    preflight(cfg, found, transfer.pool, dataset, context)
    taught = resolve_teacher(cfg, dataset, context, run_teacher)
    taught, generations = teacher_generations.train_generations(cfg, taught, transfer, dataset, context, train_and_report)
    return train_and_report(cfg, transfer, dataset, context, taught, {"chain": generations}, found)
