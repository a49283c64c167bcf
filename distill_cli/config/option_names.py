"""What the parts of a config are called: the options of conf/ that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.options import conf_dir, options

NAMED = ("loss", "model", "optimizer", "lr_scheduler", "dataset")  # groups whose options have a `_target_`


def model_name(node: Mapping[str, Any]) -> str:
    """Return the option of `model` that has all of these values, else the class."""
    found = (name for name, option in _options("model").items() if all(node.get(k) == v for k, v in option.items()))
    return next(found, class_name(node.get("_target_")))


def target_name(target: object) -> str:
    """Return the one option whose class this is, whatever its values; the class where several or none have it."""
    found = [name for group in NAMED for name, option in _options(group).items() if option["_target_"] == target]
    return found[0] if len(found) == 1 else class_name(target)


def class_name(target: object) -> str:
    """Return the last part of a dotted path, ``?`` where there is none."""
    return str(target or "?").rpartition(".")[2]


@cache
def _options(group: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the tool's own options of a group that name a class, with the values in their files."""
    found: dict[str, Any] = {
        name: OmegaConf.to_container(OmegaConf.load(file)) for name, file in options([conf_dir()])[group].items()
    }
    return {name: option for name, option in found.items() if isinstance(option, dict) and option.get("_target_", "???") != "???"}
