"""Builds the stages of a student's, a control's or a teacher's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from distill_cli.config.settings.build import Component
from distill_cli.config.settings.training import LogGradientsSettings, TrainingSettings
from distill_cli.factory.controls import TrainingPlan
from distill_cli.factory.objective import build_objective
from distill_cli.factory.task import supervised_loss
from distill_cli.losses.objective import Objective
from distill_cli.tasks.task import Task
from distill_cli.types import DEFAULT_STAGE

# Unless asked otherwise, gradients are measured on about one batch in this many steps, so that they cost about a hundredth.
STEPS_PER_MEASUREMENT = 100
BALANCED = "at_start"  # of `balance_gradients`
Pairs = Sequence[tuple[str, str]]


@dataclass
class StageSpec:
    """One stage, before its optimizer exists.

    Attributes:
        name: in metrics.csv and the report.
        config_path: its place in the config, for messages: ``stages.hint.``; empty without stages.
        objective: what is minimized.
        epochs: how many.
        optimizer, lr_scheduler: components.
        trainable_modules: module paths of the student that are trained; None: all.
        log_gradients: when they are measured; None: never.
        balance_gradients: whether factors equalize the terms' gradients at its start.
    """

    name: str
    config_path: str
    objective: Objective
    epochs: int
    optimizer: Component
    lr_scheduler: Component
    trainable_modules: tuple[str, ...] | None = None
    log_gradients: LogGradientsSettings | None = None
    balance_gradients: bool = False

    def gradient_log_every(self, steps_per_epoch: int) -> int:
        """Return the number of epochs between two gradient measurements.

        0 for never; a single term has the whole gradient anyway.
        """
        if self.log_gradients is None or not self.log_gradients.batches or len(self.objective.names) < 2:
            return 0
        return self.log_gradients.every or -(-STEPS_PER_MEASUREMENT * self.log_gradients.batches // steps_per_epoch)


def feature_pairs(parts: Sequence[StageSpec]) -> Pairs:
    """Return the module paths of the features that any stage compares.

    Pairs are (student's, teacher's), each once.
    """
    return list(dict.fromkeys(pair for part in parts for pair in part.objective.pairs))


def single_stage(objective: Objective, training: TrainingSettings, where: str = "") -> list[StageSpec]:
    """Return the one stage of a training without stages."""
    return [StageSpec(DEFAULT_STAGE, where, objective, training.epochs, training.optimizer, training.lr_scheduler)]


def build_stages(plan: TrainingPlan, log_gradients: LogGradientsSettings, task: Task) -> list[StageSpec]:
    """Return the stages of a plan: the student's, or a control's without a teacher.

    A control has the task's supervised loss in place of the teacher's terms.

    Where a stage's loss needed the teacher, the control trains all layers: cross-entropy through a head that stands still would
    only hold it back.
    """
    specs = []
    for number, stage in enumerate(plan.stages):
        objective, train = build_objective(stage.losses, plan.seed, stage.config_path, number), stage.train
        if plan.is_control and objective.uses_teacher:
            objective, train = objective.without_teacher(task.supervised_loss, partial(supervised_loss, task)), None
        specs.append(
            StageSpec(
                stage.name, stage.config_path, objective, stage.epochs, stage.optimizer, stage.lr_scheduler, train,
                log_gradients, stage.balance_gradients == BALANCED,
            )
        )  # fmt: skip
    return specs
