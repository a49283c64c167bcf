"""Sources of a teacher.

A teacher is trained here, once or as an ensemble, or comes from finished runs, a file of weights, or one of logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.config.settings.build import build
from distill_cli.config.settings.training import ModelSettings, TrainingSettings


@dataclass(frozen=True)
class TrainHere:
    """A teacher that is trained, or found where an equal one has been.

    Attributes:
        model: its architecture.
        training: how it is trained.
        seed: of weights, order, augmentation, mixup and dropout.
        label_fraction: share of the training rows whose labels it sees, 0 to 1; None: as the data set says.
        class_weight: of its cross-entropy: ``none``, a word or one number a class.
    """

    model: ModelSettings
    training: TrainingSettings
    seed: int
    label_fraction: float | None
    class_weight: Any

    @classmethod
    def from_config(cls, config: Mapping[str, Any], member: int = 0) -> TrainHere:
        """Return the settings of one member of the group `teacher`.

        Its seed is `member` more than the group's.
        """
        return cls(
            build(ModelSettings, config),
            TrainingSettings.from_config(config),
            config["seed"] + member,
            config["label_fraction"],
            config["class_weight"],
        )

    def key_parts(self) -> dict[str, Any]:
        """Return all in the config that decides its weights, by the config's names."""
        return {
            **self.training.to_config(),
            "model": self.model.model,
            "preprocessing": self.model.preprocessing,
            "seed": self.seed,
            "label_fraction": self.label_fraction,
            "class_weight": self.class_weight,
        }


@dataclass(frozen=True)
class FinishedModel:
    """A model of a finished run and the config key of its folder.

    The key is ``teacher.run``, or ``teacher.run.1`` of a list.
    """

    folder: str
    name: str
    config_path: str = "teacher.run"


@dataclass(frozen=True)
class FromRuns:
    """Models of finished runs.

    In a list (`listed`) they are an ensemble.
    """

    models: tuple[FinishedModel, ...]
    listed: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FromRuns:
        """Return the models that ``teacher.run`` and ``teacher.run_model`` name."""
        folders, names = config["run"], config["run_model"]
        if isinstance(folders, str):
            return cls((FinishedModel(folders, str(names)),))
        names = [names] * len(folders) if isinstance(names, str) else names
        models = (FinishedModel(f, n, f"teacher.run.{at}") for at, (f, n) in enumerate(zip(folders, names, strict=True)))
        return cls(tuple(models), listed=True)


@dataclass(frozen=True)
class FromWeights:
    """A model whose weights lie in a file.

    Attributes:
        file: .safetensors, or a state dict that PyTorch reads with weights_only.
        model: its architecture.
        weights_key: which state dict of a dictionary; None: the one that fits.
        rename: prefixes of its keys, old to new.
        class_order: names of the classes in the order of its outputs; None: the data set's.
    """

    file: Path
    model: ModelSettings
    weights_key: str | None = None
    rename: Mapping[str, str] | None = None
    class_order: tuple[Any, ...] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FromWeights:
        """Return the file that ``teacher.weights`` names."""
        return build(cls, {**config, "file": config["weights"], "model": build(ModelSettings, config)})


@dataclass(frozen=True)
class FromLogits:
    """A table of outputs by row id.

    Attributes:
        file: .npy ``[rows, C]``, or .csv with a column `row` and one a class.
        kind: ``logits`` or ``probabilities``.
        class_order: names of the classes in the order of its columns; None: the data set's.
    """

    file: Path
    kind: str = "logits"
    class_order: tuple[Any, ...] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FromLogits:
        """Return the file that ``teacher.logits_file`` names."""
        return build(cls, {**config, "file": config["logits_file"], "kind": config["logits_kind"]})


Source = tuple[TrainHere, ...] | FromRuns | FromWeights | FromLogits
# By the key that chooses it.
SOURCES: dict[str, type[FromRuns] | type[FromWeights] | type[FromLogits]] = {
    "run": FromRuns,
    "weights": FromWeights,
    "logits_file": FromLogits,
}


@dataclass(frozen=True)
class EnsembleSettings:
    """How several teachers are one.

    Attributes:
        size: of an ensemble that is trained here.
        average: ``logits`` or ``probabilities``.
        weights: one a member; None: all the same.
    """

    size: int = 1
    average: str = "logits"
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher.

    Attributes:
        source: where it comes from; several that are trained here are an ensemble.
        model: the architecture that the config names, whether or not it is used.
        seed: of the first that is trained here.
        ensemble: how several are averaged.
    """

    source: Source
    model: ModelSettings
    seed: int
    ensemble: EnsembleSettings

    @property
    def trained(self) -> TrainHere:
        """The teacher that is trained here, the first of several."""
        assert isinstance(self.source, tuple)
        return self.source[0]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TeacherSettings:
        """Return the settings of the group `teacher`."""
        ensemble = build(EnsembleSettings, config["ensemble"])
        key = next((key for key in SOURCES if config[key] is not None), None)
        here = (TrainHere.from_config(config, member) for member in range(ensemble.size))
        source = tuple(here) if key is None else SOURCES[key].from_config(config)
        return cls(source, build(ModelSettings, config), config["seed"], ensemble)
