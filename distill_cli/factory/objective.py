"""Builds the weighted losses of a student, a control or a teacher."""

from __future__ import annotations

from typing import Any

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.settings.training import LossSettings
from distill_cli.errors import UserError
from distill_cli.factory.task import supervised_loss
from distill_cli.features.pairs import read_pairs
from distill_cli.losses.base import DistillationLoss, as_loss
from distill_cli.losses.objective import Objective, max_weight
from distill_cli.losses.weight_schedule import WeightSchedule, parse_weight
from distill_cli.rng import seeded
from distill_cli.tasks.task import Task


def build_objective(losses: LossSettings, seed: int, where: str = "", number: int = 0) -> Objective:
    """Build the weighted losses of a student.

    They are the term `loss` and the further ones by name.

    Args:
        losses: components, each with its `weight`.
        seed: of parameters that a loss draws.
        where: the place of both in the config, for messages: ``stages.hint.``.
        number: of the stage, counted from 0; each has draws of its own.
    """
    components = {"loss": losses.loss, **{f"terms.{name}": component for name, component in losses.terms.items()}}
    built: dict[str, DistillationLoss] = {}
    weights: dict[str, float | WeightSchedule] = {}
    with seeded(seed, "loss_init", number):
        for path, component in components.items():
            name = path.removeprefix("terms.")
            if name in built or "." in name:
                raise UserError(f"{where}{path}: a term is named by one word other than 'loss'; choose another name")
            weights[name] = parse_weight(component.get("weight", 1.0))
            term = instantiate_component({k: v for k, v in component.items() if k != "weight"}, where + path)
            try:
                built[name] = as_loss(term)
            except ValueError as e:
                raise UserError(f"{where}{path}: {e}") from None
            if pairs := built[name].pairs:
                try:
                    read_pairs(list(pairs))
                except ValueError as e:
                    raise UserError(f"{where}{path}: its `pairs`: {e}") from None
    if not any(max_weight(weight) for weight in weights.values()):
        raise UserError(f"{where}loss.weight=0: nothing is left to minimise; give the loss or a term a weight above 0")
    return Objective(built, weights)


def supervised_objective(task: Task, class_weight: Any = "none", where: str = "") -> Objective:
    """Return a teacher's own objective: the supervised loss of the task."""
    return Objective({task.supervised_loss: supervised_loss(task, class_weight, where)}, {task.supervised_loss: 1.0})
