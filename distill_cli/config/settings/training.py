"""Training settings of one network.

Student, controls and teacher share most of them; stages are the student's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from distill_cli.config.settings.build import Component, build, merge
from distill_cli.errors import UserError

ONLY_STAGE = "train"  # what the stage of a run without stages is called


@dataclass(frozen=True)
class ModelSettings:
    """An architecture and the preprocessing of its inputs.

    A preprocessing of None is that of the data set.
    """

    model: Component
    preprocessing: str | None = None


@dataclass(frozen=True)
class StudentSettings(ModelSettings):
    """A student network.

    `bias_correction` offsets the logits of classes that it saw no rows of.
    """

    bias_correction: bool = False


@dataclass(frozen=True)
class AugmentSettings:
    """Random shifts of inputs by up to so many steps along each axis."""

    shift: int = 0


@dataclass(frozen=True)
class MixupSettings:
    """Blending of samples by mixup.

    The weight is lambda ~ Beta(alpha, alpha); 0: none.
    """

    alpha: float = 0.0


@dataclass(frozen=True)
class SamplingSettings:
    """Power of the class balance by which rows are sampled.

    0: every row once an epoch; 1: every class equally often.
    """

    class_balance_power: float = 0.0


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """Number of epochs without progress after which training stops.

    None: never.
    """

    patience: int | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training, but for what is minimized.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows of a batch.
        steps_per_epoch: batches of an epoch; None: one pass.
        optimizer, lr_scheduler: components.
        augment, mixup: changes of the inputs.
        sampling: how rows are drawn.
        monitor: validation metric by which the best epoch is chosen: ``macro_f1``, ``accuracy`` or ``nll``.
        early_stopping: when training ends before its epochs.
        clip_grad_norm: largest norm of a step's gradient; None: any.
    """

    epochs: int
    batch_size: int
    steps_per_epoch: int | None
    optimizer: Component
    lr_scheduler: Component
    augment: AugmentSettings
    mixup: MixupSettings
    sampling: SamplingSettings
    monitor: str
    early_stopping: EarlyStoppingSettings
    clip_grad_norm: float | None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TrainingSettings:
        """Return the training settings of a run's config or a teacher's group."""
        return build(cls, config)

    def to_config(self) -> dict[str, Any]:
        """Return the keys and values that the settings were made of."""
        return asdict(self)

    def changed(self, changes: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings with a config's changes laid over them."""
        return build(TrainingSettings, merge(self.to_config(), changes))


TRAINING_KEYS = tuple(f.name for f in fields(TrainingSettings))


@dataclass(frozen=True)
class LossSettings:
    """The loss of a training and its further terms by name.

    Each is a component with a `weight`.
    """

    loss: Component
    terms: Mapping[str, Component]


LOSS_KEYS = tuple(f.name for f in fields(LossSettings))


@dataclass(frozen=True)
class LogGradientsSettings:
    """When the gradients of two or more terms are measured.

    Attributes:
        every: epochs from one measurement to the next; None: about a hundredth of the steps.
        batches: of one measurement; 0: never.
    """

    every: int | None = None
    batches: int = 1


@dataclass(frozen=True)
class StageSettings:
    """One stretch of a training.

    Attributes:
        name: in metrics.csv and the report.
        losses: what is minimized.
        epochs: of this stage.
        optimizer, lr_scheduler: components.
        train: modules of the student that are trained; None: all.
        balance_gradients: ``at_start``, where factors equalize the terms' gradients before its first step, or None.
        config_path: place in the config, for messages: ``stages.hint.``; empty for the only stage of a run without stages.
    """

    name: str
    losses: LossSettings
    epochs: int
    optimizer: Component
    lr_scheduler: Component
    train: tuple[str, ...] | None = None
    balance_gradients: str | None = None
    config_path: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> StageSettings:
        """Return a stage of a run's config.

        What the stage leaves out is the run's.
        """
        own = config["stages"][name]
        plain = ("epochs", "terms", "balance_gradients")
        values = {key: config[key] if own.get(key) is None else own[key] for key in plain}
        values |= {key: merge_component(config[key], own.get(key) or {}) for key in ("loss", "optimizer", "lr_scheduler")}
        return build(
            cls,
            {**values, "name": name, "losses": values, "train": own.get("train"), "config_path": f"stages.{name}."},
        )

    @classmethod
    def whole(cls, config: Mapping[str, Any]) -> StageSettings:
        """Return the one stage of a run without stages."""
        return build(cls, {**config, "name": ONLY_STAGE, "losses": config, "train": None, "config_path": ""})


def stages_of(config: Mapping[str, Any]) -> tuple[StageSettings, ...]:
    """Return the stages of a run's config in their order, one or more."""
    return tuple(StageSettings.from_config(config, name) for name in config.get("stages") or {}) or (StageSettings.whole(config),)


def merge_component(own: Component, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a component with keys changed.

    Changes that name a `_target_` replace the component.
    """
    return dict(changes) if "_target_" in changes else {**own, **changes}


@dataclass(frozen=True)
class ControlSettings:
    """A training beside the student's: the same network, without the teacher's terms.

    Attributes:
        name: in the report.
        training: its settings.
        stages: before the teacher's terms are replaced.
        match_steps: whether its batches are the student's, so that its epochs have as many steps.
        match_epochs: whether it ends with the student, also where the student stops early.
    """

    name: str
    training: TrainingSettings
    stages: tuple[StageSettings, ...]
    match_steps: bool = True
    match_epochs: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any], control: str | Mapping[str, Any]) -> ControlSettings:
        """Return a control of a run's config.

        It is ``scratch``, ``tuned``, or a `name` with what differs from the student.

        Raises:
            UserError: fewer epochs than stages.
        """
        if isinstance(control, str):
            return cls(control, TrainingSettings.from_config(config), stages_of(config))
        changes = {key: value for key, value in control.items() if key not in ("name", "stages")}
        training = TrainingSettings.from_config(config).changed(changes)
        stages = stages_of(config)
        if "stages" in control:  # one stage, as long as all the student's together unless it says otherwise
            epochs = changes.get("epochs", sum(stage.epochs for stage in stages))
            training, stages = replace(training, epochs=epochs), (StageSettings.whole(config),)
        return cls.changed(str(control["name"]), training, stages, changes, {*changes, *({"stages"} & {*control})})

    @classmethod
    def changed(
        cls,
        name: str,
        training: TrainingSettings,
        stages: Sequence[StageSettings],
        changes: Mapping[str, Any],
        keys: set[str] | None = None,
    ) -> ControlSettings:
        """Return a control whose training differs from the student's.

        Args:
            name: in the report.
            training: the student's with the changes.
            stages: the student's; `epochs` are shared among several as the student's are.
            changes: the keys of its training that it sets.
            keys: all keys that it sets, where there are others.
        """
        keys = set(changes) if keys is None else keys
        own = [change_stage(stage, training, changes) for stage in stages]
        if stages[0].config_path and "epochs" in changes:
            shares = split_epochs(changes["epochs"], [stage.epochs for stage in stages], name)
            own = [replace(stage, epochs=epochs) for stage, epochs in zip(own, shares, strict=True)]
        return cls(
            name,
            training,
            tuple(own),
            match_steps=not {"batch_size", "steps_per_epoch"} & keys,
            match_epochs=not {"epochs", "monitor", "early_stopping", "stages"} & keys,
        )


def change_stage(stage: StageSettings, training: TrainingSettings, changes: Mapping[str, Any]) -> StageSettings:
    """Return a stage of a control.

    It is the student's, with the optimizer and schedule that the control sets.
    """
    if not stage.config_path:  # the only one is the whole training
        return replace(stage, epochs=training.epochs, optimizer=training.optimizer, lr_scheduler=training.lr_scheduler)
    optimizer, lr_scheduler = (
        merge_component(own, changes.get(key, {}))
        for key, own in (("optimizer", stage.optimizer), ("lr_scheduler", stage.lr_scheduler))
    )
    return replace(stage, optimizer=optimizer, lr_scheduler=lr_scheduler)


def split_epochs(total: int, like: Sequence[int], control: str) -> list[int]:
    """Return `total` epochs over stages in the proportions `like`, at least one each.

    Raises:
        UserError: fewer epochs than stages.
    """
    if total < len(like):
        raise UserError(
            f"controls.{control}.epochs={total}: the run has {len(like)} stages; give one epoch each at least, or stages: {{}}"
        )
    ends = [round(total * sum(like[: n + 1]) / sum(like)) for n in range(len(like))]
    for n in range(len(like)):  # room for one epoch before, and for one in each stage to come
        ends[n] = min(max(ends[n], (ends[n - 1] if n else 0) + 1), total - (len(like) - 1 - n))
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
