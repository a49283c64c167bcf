"""Tasks by name: the folders of tasks/, and those that a config has named."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from distill_cli import tasks
from distill_cli.errors import UserError, did_you_mean
from distill_cli.tasks.task import Metric, Task

CLASSIFICATION = "classification"

_registered: dict[str, Task] = {}


def task_names() -> list[str]:
    """Return the names of the tool's own tasks: the folders of tasks/."""
    return [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]


def register(task: Task) -> None:
    """Let `find_task` return this one by its name from now on."""
    _registered[task.name] = task


def forget_registered() -> None:
    """Let every name stand for the tool's own task again, as in a sweep whose next job types none."""
    _registered.clear()


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        UserError: there is none.
    """
    if name not in _registered:
        if name not in task_names():
            raise UserError(f"task={name}: no such task{did_you_mean(name, task_names())} (there are {', '.join(task_names())})")
        task: Task = importlib.import_module(f"distill_cli.tasks.{name}.task").TASK
        register(task)
    return _registered[name]


def report_task(report: object) -> Task:
    """Return the task of a report, which anyone may have written.

    A task that is not known is read as classification.
    """
    name = report.get("task") if isinstance(report, Mapping) else None
    try:
        return find_task(str(name))
    except UserError:
        return find_task(CLASSIFICATION)


def all_metrics() -> dict[str, Metric]:
    """Return the metrics of all tasks by name.

    Of those of one name the first.
    """
    metrics: dict[str, Metric] = {}
    for name in dict.fromkeys([CLASSIFICATION, *task_names(), *_registered]):
        for metric in find_task(name).metrics:
            metrics.setdefault(metric.name, metric)
    return metrics


def part_keys() -> list[str]:
    """Return the keys under which any task has the figures of parts: ``per_class``."""
    return list(dict.fromkeys(key for name in task_names() if (key := find_task(name).part_key)))


def all_epoch_metrics() -> list[str]:
    """Return the names of all metrics by which an epoch can be chosen, each once."""
    return list(dict.fromkeys(name for task in task_names() for name in find_task(task).epoch_metrics))
