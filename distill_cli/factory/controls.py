"""Who is trained beside the student, and with what settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.validation.check import TRAINING_KEYS
from distill_cli.factory.tuned_settings import SearchResult
from distill_cli.types import SCRATCH, STUDENT, TUNED


@dataclass
class TrainingPlan:
    """One training of the student's network.

    Attributes:
        name: in the report.
        settings: the keys TRAINING_KEYS.
        overrides: what a control sets itself.
        loss, terms: the nodes of its losses; a control keeps what needs no teacher.
        seed: of weights, order, augmentation, mixup and dropout.
        match_steps: whether its batches are the student's, so that its epochs have as many steps.
        match_epochs: whether it ends with the student, also where the student's patience runs out.
    """

    name: str
    settings: dict[str, Any]
    seed: int
    loss: Any
    terms: Any
    overrides: dict[str, Any] = field(default_factory=dict)
    match_steps: bool = True
    match_epochs: bool = True

    @property
    def is_control(self) -> bool:
        """Whether the teacher's terms are replaced by cross-entropy."""
        return self.name != STUDENT


def build_plans(cfg: Any, controls: Sequence[Any] | None, search: SearchResult | None = None) -> list[TrainingPlan]:
    """Return the student's plan, then those of its controls.

    Args:
        cfg: the composed config; the student's settings are its keys TRAINING_KEYS.
        controls: ``scratch`` (named scratch in the report), ``tuned``, or mappings of `name` and whatever
            differs from the student.
        search: where the tuned control's settings come from.
    """
    own = {key: _plain(cfg[key]) for key in TRAINING_KEYS}
    losses = (_plain(cfg.loss), _plain(cfg.terms))
    plans = [TrainingPlan(STUDENT, dict(own), cfg.seed, *losses)]
    for control in controls or []:
        if control == SCRATCH:
            plans.append(TrainingPlan(SCRATCH, dict(own), cfg.seed, *losses))
            continue
        if control == TUNED and search is not None:
            found, theirs = search.control_training, search.control_losses
            loss, terms = theirs.get("loss", losses[0]), theirs.get("terms", losses[1])
            same = not {"batch_size", "steps_per_epoch"} & set(found)
            length = not {"epochs", "monitor", "early_stopping"} & set(found)
            plans.append(TrainingPlan(TUNED, {**own, **found}, cfg.seed, loss, terms, found, same, length))
            continue
        changes = {key: value for key, value in _plain(control).items() if key != "name"}
        merged = _plain(OmegaConf.merge(OmegaConf.create(own), OmegaConf.create(changes)))
        same = not {"batch_size", "steps_per_epoch"} & set(changes)
        length = not {"epochs", "monitor", "early_stopping", "stages"} & set(changes)
        plans.append(TrainingPlan(str(control["name"]), merged, cfg.seed, *losses, changes, same, length))
    return plans


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
