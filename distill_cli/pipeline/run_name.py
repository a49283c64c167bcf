"""What tables and pages call a run: its data, its networks and its losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.option_names import model_name, target_name
from distill_cli.config.validation.stages import stage_names, stage_settings


def run_name(cfg: Any, command: str, data: str) -> str:
    """Return the name of a run, such as ``digits: mlp_small from mlp, soft_target``.

    Args:
        cfg: the composed config.
        command: ``distill`` or ``train-teacher``.
        data: the name of the data set.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    teacher = teacher_name(config["teacher"])
    if command == "train-teacher":
        return f"{data}: {teacher}"
    nodes = [stage_settings(config, name) for name in stage_names(config)] or [config]
    losses = ", then ".join(" + ".join(_losses(node)) for node in nodes)
    between = [str(link["name"]) for link in reversed(config["generations"])]
    return f"{data}: {' from '.join([model_name(config['student']['model']), *between, teacher])}, {losses}"


def teacher_name(teacher: Mapping[str, Any]) -> str:
    """Return what a teacher is called: its file or folder where it is not trained here, else its architecture."""
    for key in ("logits_file", "weights", "run"):
        if isinstance(teacher.get(key), str):
            return Path(teacher[key]).name
    name = model_name(teacher["model"])
    size = teacher["ensemble"]["size"]
    return name if size == 1 else f"{size} x {name}"


def _losses(node: Mapping[str, Any]) -> list[str]:
    return [target_name(loss.get("_target_")) for loss in [node["loss"], *node["terms"].values()]]
