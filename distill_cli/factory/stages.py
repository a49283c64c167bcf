"""Config -> the stages of one training of the student's network: the student's, and those of each control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.validation.check import TRAINING_KEYS
from distill_cli.config.validation.stages import merged, stage_names, stage_settings
from distill_cli.errors import UserError
from distill_cli.factory.controls import Plan
from distill_cli.factory.objective import build_objective
from distill_cli.losses.objective import Objective
from distill_cli.types import ONLY_STAGE

# Unless asked otherwise, gradients are measured on about one batch in this many steps, so that they cost about a hundredth.
STEPS_PER_MEASUREMENT = 100
Pairs = Sequence[tuple[str, str]]


@dataclass
class Part:
    """One stage, before its optimizer exists.

    Attributes:
        name: in metrics.csv and the report.
        where: its place in the config, for messages: ``stages.hint.``; empty without stages.
        objective: what is minimised.
        epochs: how many.
        optimizer, schedule: components.
        train: module paths of the student that are trained; None: all.
        gradients: ``every`` and ``batches`` of the measurement; None: never.
        balance: whether factors equalise the terms' gradients at its start.
    """

    name: str
    where: str
    objective: Objective
    epochs: int
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    train: tuple[str, ...] | None = None
    gradients: Mapping[str, Any] | None = None
    balance: bool = False

    def measure_every(self, steps_per_epoch: int) -> int:
        """Return the epochs from one measurement to the next, 0 for never; a single term has the whole gradient anyway."""
        if self.gradients is None or not self.gradients["batches"] or len(self.objective.names) < 2:
            return 0
        return self.gradients["every"] or -(-STEPS_PER_MEASUREMENT * self.gradients["batches"] // steps_per_epoch)


def pairs_of(parts: Sequence[Part]) -> Pairs:
    """Return the module paths (student's, teacher's) of the features that any stage compares, each once."""
    return list(dict.fromkeys(pair for part in parts for pair in part.objective.pairs))


def single(objective: Objective, settings: Mapping[str, Any], where: str = "") -> list[Part]:
    """Return the one stage of a training without stages; `settings` are the keys TRAINING_KEYS."""
    return [Part(ONLY_STAGE, where, objective, settings["epochs"], settings["optimizer"], settings["schedule"])]


def parts(cfg: Any, plan: Plan) -> list[Part]:
    """Return the stages of a plan: the student's, or a control's with cross-entropy in place of the teacher's terms.

    A control has the student's stages, with the same epochs, optimizers and schedules. What it sets itself holds in all
    of them; its `epochs` are those of all its stages together, shared among them as the student's are; ``stages={}``
    makes one stage of them, as long as all the student's together unless it sets `epochs`. Where a stage's loss needed the
    teacher, the control trains all layers: cross-entropy through a head that stands still would only hold it back.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else dict(cfg)
    config |= {"loss": plan.loss, "terms": plan.terms}
    names = [] if plan.changes.get("stages") == {} else stage_names(config)
    found = []
    for number, name in enumerate(names or [ONLY_STAGE]):
        where = f"stages.{name}." if names else ""
        node = stage_settings(config, name) if names else {key: config[key] for key in ("loss", "terms", "balance")}
        objective = build_objective(node["loss"], node["terms"], cfg.seed, where, number)
        train = node.get("train")
        if plan.is_control and objective.uses_teacher:
            objective, train = objective.without_teacher(), None
        training = {key: plan.settings[key] for key in TRAINING_KEYS}
        if names:
            for key in ("optimizer", "schedule"):
                training[key] = merged(node[key], plan.changes.get(key, {}))
            training["epochs"] = node["epochs"]
        found.append(
            Part(
                name, where, objective, training["epochs"], training["optimizer"], training["schedule"],
                None if train is None else tuple(train), config["gradients"], node["balance"] == "start",
            )
        )  # fmt: skip
    if names and "epochs" in plan.changes:
        for part, epochs in zip(found, shared(plan.changes["epochs"], [p.epochs for p in found], plan.name), strict=True):
            part.epochs = epochs
    if "stages" in plan.changes and "epochs" not in plan.changes:
        found[0].epochs = sum(stage_settings(config, name)["epochs"] for name in stage_names(config)) or config["epochs"]
    return found


def shared(total: int, like: Sequence[int], control: str) -> list[int]:
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
