"""Settings of `distill`, `layers` and `train-teacher`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from distill_cli.config.settings.build import Component, build
from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.config.settings.runtime import CacheSettings, RuntimeSettings
from distill_cli.config.settings.teacher import TeacherSettings
from distill_cli.config.settings.training import (
    ControlSettings,
    LogGradientsSettings,
    StageSettings,
    StudentSettings,
    TrainingSettings,
    stages_of,
)
from distill_cli.config.validation.generations import generations
from distill_cli.errors import UserError


@dataclass(frozen=True)
class TeacherRunSettings:
    """Settings of a run that trains a teacher.

    Attributes:
        seed: the run's.
        task: what is learned: a component; None: the data set says.
        dataset: the rows.
        teacher: who is trained, or teaches.
        loggers: components by name.
        health: dotted names of further checks.
        runtime: where and how it runs.
        resolved: the whole config, as config.yaml holds it and keys are hashed from.
    """

    seed: int
    task: Component | None = field(default=None, kw_only=True)
    dataset: DatasetSettings
    teacher: TeacherSettings
    loggers: Mapping[str, Component]
    health: tuple[str, ...]
    runtime: RuntimeSettings
    resolved: Mapping[str, Any]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the settings of a plain, resolved and checked config."""
        return build(cls, cls._parts(config))

    @classmethod
    def _parts(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **config,
            "dataset": DatasetSettings.from_config(config["dataset"]),
            "teacher": TeacherSettings.from_config(config["teacher"]),
            "loggers": config["logger"] or {},
            "runtime": RuntimeSettings.from_config(config),
            "resolved": config,
        }

    def with_config(self, changes: Mapping[str, Any]) -> Self:
        """Return the settings of the config with some of its keys replaced."""
        return self.from_config({**self.resolved, **changes})

    def for_member(self, number: int) -> Self:
        """Return the settings that train one member of the teacher's ensemble.

        For a single teacher these are the settings themselves.
        """
        teacher = self.resolved["teacher"]
        if teacher["ensemble"]["size"] == 1:
            return self
        ensemble = {**teacher["ensemble"], "size": 1, "weights": None}
        return self.with_config({"teacher": {**teacher, "seed": teacher["seed"] + number, "ensemble": ensemble}})


@dataclass(frozen=True)
class GenerationSettings:
    """A generation between teacher and student.

    It has a name and the settings of its own run.
    """

    name: str
    run: RunSettings

    def prefixed(self, error: UserError) -> UserError:
        """Return an error of its config with its name before it."""
        return UserError(f"generations.{self.name}: {error}")

    def with_teacher(self, folder: Path, model: str) -> GenerationSettings:
        """Return the generation with a model of a finished run for its teacher."""
        teacher = self.run.resolved["teacher"]
        alone = {**teacher["ensemble"], "size": 1, "weights": None}
        source = {"ensemble": alone, "weights": None, "logits_file": None, "run": str(folder), "run_model": model}
        return replace(self, run=self.run.with_config({"teacher": {**teacher, **source}}))


@dataclass(frozen=True)
class RunSettings(TeacherRunSettings):
    """Settings of a run that trains a student.

    Attributes:
        student: its architecture.
        training: how it is trained.
        stages: of its training, one or more.
        log_gradients: when its terms are measured.
        controls: the trainings beside it.
        generations: between teacher and student, from the teacher's end.
        tuned_from: folder of a sweep whose best settings are used; None: the config's own.
        cache: of the teacher's outputs.
    """

    student: StudentSettings
    training: TrainingSettings
    stages: tuple[StageSettings, ...]
    log_gradients: LogGradientsSettings
    controls: tuple[ControlSettings, ...]
    generations: tuple[GenerationSettings, ...]
    tuned_from: str | None
    cache: CacheSettings

    @classmethod
    def _parts(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        links = (GenerationSettings(link.name, cls.from_config(link.config)) for link in generations(config))
        return {
            **super()._parts(config),
            "training": TrainingSettings.from_config(config),
            "stages": stages_of(config),
            "controls": tuple(ControlSettings.from_config(config, control) for control in config["controls"] or ()),
            "generations": tuple(links),
        }

    def with_control(self, control: ControlSettings) -> RunSettings:
        """Return the settings with one of the controls replaced, by its name."""
        return replace(self, controls=tuple(control if c.name == control.name else c for c in self.controls))
