"""Who is trained beside the student, and with what settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.validate import TRAINING_KEYS
from distill_cli.pipeline.scoring import SCRATCH, STUDENT

MATCHED = "matched"


@dataclass
class Plan:
    """One training of the student's network.

    Attributes:
        name: in the report.
        settings: the keys TRAINING_KEYS.
        seed: of weights, order, augmentation, mixup and dropout.
        same_batches: whether its batches are the student's, so that its epochs have as many steps.
        same_length: whether it ends with the student, also where the student's patience runs out.
    """

    name: str
    settings: dict[str, Any]
    seed: int
    same_batches: bool = True
    same_length: bool = True

    @property
    def is_control(self) -> bool:
        """Whether the teacher's terms are replaced by cross-entropy."""
        return self.name != STUDENT


def plan(cfg: Any, controls: Sequence[Any] | None) -> list[Plan]:
    """Return the student's plan, then those of its controls.

    Args:
        cfg: the composed config; the student's settings are its keys TRAINING_KEYS.
        controls: ``matched`` (named scratch in the report), or mappings of `name` and whatever differs from the student.
    """
    own = {key: _plain(cfg[key]) for key in TRAINING_KEYS}
    plans = [Plan(STUDENT, dict(own), cfg.seed)]
    for control in controls or []:
        if control == MATCHED:
            plans.append(Plan(SCRATCH, dict(own), cfg.seed))
            continue
        changes = {key: value for key, value in _plain(control).items() if key != "name"}
        merged = _plain(OmegaConf.merge(OmegaConf.create(own), OmegaConf.create(changes)))
        same = not {"batch_size", "steps_per_epoch"} & set(changes)
        plans.append(Plan(str(control["name"]), merged, cfg.seed, same, not {"epochs", "select"} & set(changes)))
    return plans


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
