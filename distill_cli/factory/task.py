"""Choice of the task, and of the loss and the metric that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import yaml

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.options import conf_dir
from distill_cli.config.settings.build import Component
from distill_cli.config.settings.run import TeacherRunSettings
from distill_cli.config.validation.components import find_target, parameter_names
from distill_cli.errors import UserError
from distill_cli.losses.base import DistillationLoss, as_loss
from distill_cli.tasks.registry import CLASSIFICATION, find_task, forget_registered, register
from distill_cli.tasks.task import Task
from distill_cli.types import Dataset
from distill_cli.utils import files

Settings = TypeVar("Settings", bound=TeacherRunSettings)


def typed_task(component: Component | None) -> Task | None:
    """Return the task of a config, and register it by its name.

    None where the data set chooses.

    Raises:
        UserError: it is no task.
    """
    forget_registered()
    if component is None:
        return None
    task = instantiate_component(component, "task")
    if not all(hasattr(task, name) for name in ("name", "metrics", "evaluator", "encode_targets")):
        raise UserError(f"task._target_={component.get('_target_')}: is no task; see docs/extend.md")
    register(task)
    return task


def with_task(dataset: Dataset, task: Task | None) -> Dataset:
    """Return the data set with the task that was typed, or with its own.

    Raises:
        UserError: its targets are of another kind.
    """
    if task is None or task.name == dataset.task:
        return dataset
    own = find_task(dataset.task)
    if own.targets != task.targets:
        raise UserError(
            f"task={task.name}: its targets are {task.targets}, and those of data set {dataset.name} are {own.targets}; "
            f"leave task= out, or name other labels"
        )
    return replace(dataset, task=task.name)


def with_defaults(settings: Settings, dataset: Dataset, log: Callable[[str], object]) -> Settings:
    """Return settings whose loss and metric fit the task of the data set.

    The defaults of classification count as "not chosen": another task replaces them by its own loss, with the values of the
    settings that both have, and its primary metric.

    Args:
        settings: of the run.
        dataset: it names the task.
        log: takes a line on each change.
    """
    task, default = find_task(dataset.task), find_task(CLASSIFICATION)
    if dataset.task == CLASSIFICATION:
        return settings
    log(f"task: {task.name}, scored by {task.primary_metric.title}")
    config = settings.resolved
    changes: dict[str, Any] = {}
    if (config.get("loss") or {}).get("_target_") == loss_component(default.distillation_loss)["_target_"]:
        component = loss_component(task.distillation_loss)
        chosen = {key: value for key, value in config["loss"].items() if key in component and key != "_target_"}
        changes["loss"] = {**component, **chosen}
        log(f"loss: {task.distillation_loss}, the default of task={task.name}")
    monitor = {"monitor": task.primary_metric.name}
    if config.get("monitor") == default.primary_metric.name and task.metric(config["monitor"]) is None:
        changes |= monitor
    if config["teacher"]["monitor"] == default.primary_metric.name and task.metric(config["teacher"]["monitor"]) is None:
        changes["teacher"] = {**config["teacher"], **monitor}
    return settings.with_config(changes)


def check_metric(name: str, task: Task, key: str) -> None:
    """See that an epoch can be chosen by a metric.

    Raises:
        UserError: the task has no such metric after every epoch.
    """
    if name not in task.epoch_metrics:
        raise UserError(
            f"{key}={name}: task={task.name} has no such metric after every epoch; use {', '.join(task.epoch_metrics)}"
        )


def loss_component(option: str) -> dict[str, Any]:
    """Return the component of an option of the group `loss`.

    A dotted path of a class is a component as well.
    """
    file = conf_dir() / "loss" / f"{option}.yaml"
    if not file.is_file():
        return {"_target_": option}
    component: dict[str, Any] = yaml.safe_load(files.read_text(file))
    return component


def supervised_loss(task: Task, class_weight: Any = "none", where: str = "") -> DistillationLoss:
    """Return the loss by which a task learns from labels.

    Args:
        task: names it by an option of the group `loss`.
        class_weight: as in `losses.cross_entropy.CrossEntropy`.
        where: the place of the setting, for messages.

    Raises:
        UserError: class weights for a loss that has none.
    """
    node = {key: value for key, value in loss_component(task.supervised_loss).items() if key not in ("weight", "class_weight")}
    names = parameter_names(find_target("loss", node["_target_"]))
    weighs = "class_weight" in (names or ())
    if not weighs and class_weight != "none":
        raise UserError(f"{where}class_weight={class_weight}: the loss of task={task.name} weighs no classes; leave it out")
    return as_loss(instantiate_component(node | ({"class_weight": class_weight} if weighs else {}), "loss"))
