"""Config -> the stages of one training of the student's network: the student's, and those of each control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.validation.check import TRAINING_KEYS
from distill_cli.config.validation.stages import merged, stage_names, stage_settings
from distill_cli.errors import UserError
from distill_cli.factory.controls import TrainingPlan
from distill_cli.factory.objective import build_objective
from distill_cli.factory.task import supervised_loss
from distill_cli.losses.objective import Objective
from distill_cli.tasks.task import Task
from distill_cli.types import DEFAULT_STAGE

# Unless asked otherwise, gradients are measured on about one batch in this many steps, so that they cost about a hundredth.
STEPS_PER_MEASUREMENT = 100
Pairs = Sequence[tuple[str, str]]


@dataclass
class StageSpec:
    """One stage, before its optimizer exists.

    Attributes:
        name: in metrics.csv and the report.
        config_path: its place in the config, for messages: ``stages.hint.``; empty without stages.
        objective: what is minimised.
        epochs: how many.
        optimizer, lr_scheduler: components.
        trainable_modules: module paths of the student that are trained; None: all.
        log_gradients: ``every`` and ``batches`` of the measurement; None: never.
        balance_gradients: whether factors equalise the terms' gradients at its start.
    """

    name: str
    config_path: str
    objective: Objective
    epochs: int
    optimizer: Mapping[str, Any]
    lr_scheduler: Mapping[str, Any]
    trainable_modules: tuple[str, ...] | None = None
    log_gradients: Mapping[str, Any] | None = None
    balance_gradients: bool = False

    def gradient_log_every(self, steps_per_epoch: int) -> int:
        """Return the epochs from one measurement to the next, 0 for never; a single term has the whole gradient anyway."""
        if self.log_gradients is None or not self.log_gradients["batches"] or len(self.objective.names) < 2:
            return 0
        return self.log_gradients["every"] or -(-STEPS_PER_MEASUREMENT * self.log_gradients["batches"] // steps_per_epoch)


def feature_pairs(parts: Sequence[StageSpec]) -> Pairs:
    """Return the module paths (student's, teacher's) of the features that any stage compares, each once."""
    return list(dict.fromkeys(pair for part in parts for pair in part.objective.pairs))


def single_stage(objective: Objective, settings: Mapping[str, Any], where: str = "") -> list[StageSpec]:
    """Return the one stage of a training without stages; `settings` are the keys TRAINING_KEYS."""
    return [StageSpec(DEFAULT_STAGE, where, objective, settings["epochs"], settings["optimizer"], settings["schedule"])]


def build_stages(cfg: Any, plan: TrainingPlan, task: Task) -> list[StageSpec]:
    """Return the stages of a plan: the student's, or a control's with the task's supervised loss in place of the teacher's terms.

    A control has the student's stages, with the same epochs, optimizers and schedules. What it sets itself holds in all
    of them; its `epochs` are those of all its stages together, shared among them as the student's are; ``stages={}``
    makes one stage of them, as long as all the student's together unless it sets `epochs`. Where a stage's loss needed the
    teacher, the control trains all layers: cross-entropy through a head that stands still would only hold it back.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else dict(cfg)
    config |= {"loss": plan.loss, "terms": plan.terms}
    names = [] if plan.overrides.get("stages") == {} else stage_names(config)
    found = []
    for number, name in enumerate(names or [DEFAULT_STAGE]):
        where = f"stages.{name}." if names else ""
        node = stage_settings(config, name) if names else {key: config[key] for key in ("loss", "terms", "balance")}
        objective = build_objective(node["loss"], node["terms"], cfg.seed, where, number)
        train = node.get("train")
        if plan.is_control and objective.uses_teacher:
            objective, train = objective.without_teacher(task.supervised_loss, partial(supervised_loss, task)), None
        training = {key: plan.settings[key] for key in TRAINING_KEYS}
        if names:
            for key in ("optimizer", "schedule"):
                training[key] = merged(node[key], plan.overrides.get(key, {}))
            training["epochs"] = node["epochs"]
        found.append(
            StageSpec(
                name, where, objective, training["epochs"], training["optimizer"], training["schedule"],
                None if train is None else tuple(train), config["gradients"], node["balance"] == "start",
            )
        )  # fmt: skip
    if names and "epochs" in plan.overrides:
        for part, epochs in zip(found, split_epochs(plan.overrides["epochs"], [p.epochs for p in found], plan.name), strict=True):
            part.epochs = epochs
    if "stages" in plan.overrides and "epochs" not in plan.overrides:
        found[0].epochs = sum(stage_settings(config, name)["epochs"] for name in stage_names(config)) or config["epochs"]
    return found


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
