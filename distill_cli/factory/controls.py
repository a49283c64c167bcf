"""Who is trained beside the student, and with what settings."""

from __future__ import annotations

from dataclasses import dataclass

from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.training import ControlSettings, StageSettings, TrainingSettings
from distill_cli.types import STUDENT, TEACHER


@dataclass(frozen=True)
class TrainingPlan:
    """One training of one network.

    Attributes:
        name: in the report, in messages and metrics.
        training: its settings.
        stages: one or more; those of a control still have the teacher's terms.
        seed: of weights, order, augmentation, mixup and dropout.
        match_steps: whether its batches are the student's, so that its epochs have as many steps.
        match_epochs: whether it ends with the student, also where the student stops early.
        stop_after: epochs after which it stops, instead of by patience.
        views: stored views of the rows that augmented and mixed inputs are; 0: new ones every epoch.
        teacher_hash: of the weights or outputs of its teacher; None without one.
    """

    name: str
    training: TrainingSettings
    stages: tuple[StageSettings, ...]
    seed: int
    match_steps: bool = True
    match_epochs: bool = True
    stop_after: int | None = None
    views: int = 0
    teacher_hash: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether the teacher's terms are replaced by cross-entropy."""
        return self.name not in (STUDENT, TEACHER)


def student_plan(settings: RunSettings) -> TrainingPlan:
    """Return the plan of a run's student."""
    return TrainingPlan(STUDENT, settings.training, settings.stages, settings.seed, views=settings.cache.views)


def build_plans(settings: RunSettings) -> list[TrainingPlan]:
    """Return the student's plan, then those of its controls."""
    return [student_plan(settings), *(control_plan(settings, control) for control in settings.controls)]


def control_plan(settings: RunSettings, control: ControlSettings) -> TrainingPlan:
    """Return the plan of a control."""
    return TrainingPlan(
        control.name,
        control.training,
        control.stages,
        settings.seed,
        control.match_steps,
        control.match_epochs,
        views=settings.cache.views,
    )
