"""Who is trained beside the student, and with what settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.validate import TRAINING_KEYS
from distill_cli.pipeline.scoring import SCRATCH, STUDENT, TUNED
from distill_cli.pipeline.search import Search

MATCHED = "matched"
HEAVY_CLASSES = "class_weight"


@dataclass
class Plan:
    """One training of the student's network.

    Attributes:
        name: in the report.
        settings: the keys TRAINING_KEYS.
        changes: what a control sets itself.
        loss: the node of the term `loss`; a control takes its cross-entropy from it.
        seed: of weights, order, augmentation, mixup and dropout.
        same_batches: whether its batches are the student's, so that its epochs have as many steps.
        same_length: whether it ends with the student, also where the student's patience runs out.
    """

    name: str
    settings: dict[str, Any]
    seed: int
    loss: Any = None
    changes: dict[str, Any] = field(default_factory=dict)
    same_batches: bool = True
    same_length: bool = True

    @property
    def is_control(self) -> bool:
        """Whether the teacher's terms are replaced by cross-entropy."""
        return self.name != STUDENT


def plan(cfg: Any, controls: Sequence[Any] | None, search: Search | None = None) -> list[Plan]:
    """Return the student's plan, then those of its controls.

    Args:
        cfg: the composed config; the student's settings are its keys TRAINING_KEYS.
        controls: ``matched`` (named scratch in the report), ``tuned``, or mappings of `name` and whatever
            differs from the student.
        search: where the tuned control's settings come from.
    """
    own = {key: _plain(cfg[key]) for key in TRAINING_KEYS}
    loss = _plain(cfg.loss)
    plans = [Plan(STUDENT, dict(own), cfg.seed, loss)]
    for control in controls or []:
        if control == MATCHED:
            plans.append(Plan(SCRATCH, dict(own), cfg.seed, loss))
            continue
        if control == TUNED and search is not None:
            found = dict(search.control.settings)
            weights = {HEAVY_CLASSES: found.pop(HEAVY_CLASSES)} if HEAVY_CLASSES in found else {}
            if HEAVY_CLASSES not in loss and weights.get(HEAVY_CLASSES) == "none":
                weights = {}  # the student found a loss without class weights
            same = not {"batch_size", "steps_per_epoch"} & set(found)
            length = not {"epochs", "select"} & set(found)
            plans.append(Plan(TUNED, {**own, **found}, cfg.seed, {**loss, **weights}, found, same, length))
            continue
        changes = {key: value for key, value in _plain(control).items() if key != "name"}
        merged = _plain(OmegaConf.merge(OmegaConf.create(own), OmegaConf.create(changes)))
        same = not {"batch_size", "steps_per_epoch"} & set(changes)
        length = not {"epochs", "select", "stages"} & set(changes)
        plans.append(Plan(str(control["name"]), merged, cfg.seed, loss, changes, same, length))
    return plans


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
