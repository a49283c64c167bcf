"""What tables and pages call a run: its data, its networks and its losses."""

from __future__ import annotations

from pathlib import Path

from distill_cli.config.option_names import model_name, target_name
from distill_cli.config.settings.run import RunSettings, TeacherRunSettings
from distill_cli.config.settings.teacher import FromRuns, TeacherSettings
from distill_cli.config.settings.training import LossSettings


def run_name(settings: TeacherRunSettings, command: str, data: str) -> str:
    """Return the name of a run, such as ``digits: mlp_small from mlp, soft_target``.

    Args:
        settings: of the run.
        command: ``distill`` or ``train-teacher``.
        data: the name of the data set.
    """
    teacher = teacher_name(settings.teacher)
    if command == "train-teacher" or not isinstance(settings, RunSettings):
        return f"{data}: {teacher}"
    losses = ", then ".join(" + ".join(_loss_names(stage.losses)) for stage in settings.stages)
    between = [link.name for link in reversed(settings.generations)]
    return f"{data}: {' from '.join([model_name(settings.student.model), *between, teacher])}, {losses}"


def teacher_name(teacher: TeacherSettings) -> str:
    """Return the display name of a teacher.

    It is the file or folder where it is not trained here, else the architecture.
    """
    source, name = teacher.source, model_name(teacher.model.model)
    if isinstance(source, tuple):
        return name if len(source) == 1 else f"{len(source)} x {name}"
    if isinstance(source, FromRuns):
        return name if source.listed else Path(source.models[0].folder).name
    return source.file.name


def _loss_names(losses: LossSettings) -> list[str]:
    return [target_name(loss.get("_target_")) for loss in [losses.loss, *losses.terms.values()]]
