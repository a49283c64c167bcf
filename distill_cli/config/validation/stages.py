"""What a run's stages may set. Works on plain, resolved configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from distill_cli.config.settings.training import LOSS_KEYS, LogGradientsSettings, StageSettings, merge_component
from distill_cli.config.validation.rules import Rule, at_least, check_keys, check_rules, format_value, one_of
from distill_cli.errors import UserError
from distill_cli.losses.weight_schedule import SHAPES, parse_weight
from distill_cli.utils.files import safe_name

COMPONENTS = ("loss", "optimizer", "lr_scheduler")
STAGE_KEYS = (*LOSS_KEYS, *(f.name for f in fields(StageSettings) if f.name not in ("name", "losses", "config_path")))
BALANCE = Rule(choices=("at_start",), optional=True)
WEIGHT_KEYS = ("from", "to", "shape", "start", "end")


def check_stages(config: Mapping[str, Any]) -> None:
    """Check the names, keys and values of all stages.

    Raises:
        UserError: the first fault.
    """
    check_rules(config, {"balance_gradients": BALANCE})
    gradients = config["log_gradients"]
    if not isinstance(gradients, Mapping):
        raise UserError(f"log_gradients={format_value(gradients)}: has keys of its own; set log_gradients.KEY=VALUE")
    check_keys(gradients, [f.name for f in fields(LogGradientsSettings)], "log_gradients.")
    check_rules(config, {"log_gradients.every": at_least(1, optional=True), "log_gradients.batches": at_least(0)})
    stages = config["stages"]
    if not isinstance(stages, Mapping):
        raise UserError(
            f"stages={format_value(stages)}: expected stages by name; choose some with stages=OPTION; see distill ls stages"
        )
    for name, node in stages.items():
        if not isinstance(name, str) or safe_name(name) != name or "." in name:
            raise UserError(f"stages.{name}: a stage is named by one word of letters, digits, '_' and '-'; choose another name")
        if not isinstance(node, Mapping):
            raise UserError(f"stages.{name}={format_value(node)}: expected keys, such as {{epochs: 10}}")
        check_stage(config, f"stages.{name}.", node)


def check_stage(config: Mapping[str, Any], prefix: str, node: Mapping[str, Any]) -> None:
    """Check one stage."""
    check_keys(node, STAGE_KEYS, prefix)
    check_rules(node, {"epochs": at_least(1, optional=True), "balance_gradients": BALANCE}, prefix)
    for key in COMPONENTS:
        if not isinstance(node.get(key, {}), Mapping):
            raise UserError(
                f"{prefix}{key}={format_value(node[key])}: expected keys, or an option with {key}@{prefix}{key}=OPTION"
            )
    train = node.get("train")
    if train is not None and not (isinstance(train, list) and train and all(isinstance(path, str) and path for path in train)):
        raise UserError(
            f"{prefix}train={format_value(train)}: expected a list of modules of the student, such as [conv1], or null"
        )
    check_losses(merge_component(config["loss"], node.get("loss") or {}), node.get("terms") or {}, prefix)


def check_losses(loss: Mapping[str, Any], terms: Any, prefix: str) -> None:
    """Check the weights of a loss and its further terms, and the terms' names."""
    check_weight(loss, f"{prefix}loss.weight")
    if not isinstance(terms, Mapping):
        raise UserError(
            f"{prefix}terms={format_value(terms)}: expected losses by name; add one with +loss@{prefix}terms.NAME=OPTION"
        )
    for name, node in terms.items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UserError(f"{prefix}terms.{name}: not a loss; add one with +loss@{prefix}terms.{name}=OPTION")
        check_weight(node, f"{prefix}terms.{name}.weight")


def check_weight(node: Mapping[str, Any], path: str) -> None:
    """Check a weight: a number, or a schedule over the stage's steps."""
    weight = node.get("weight", 1.0)
    if not isinstance(weight, Mapping):
        check_rules({"weight": weight}, {"weight": at_least(0, "number")}, path.removesuffix("weight"))
        return
    check_keys(weight, WEIGHT_KEYS, f"{path}.")
    for key in ("from", "to"):
        if key not in weight:
            raise UserError(f"{path}.{key} is required: a weight that moves is written {{from: 1.0, to: 0.0}}")
    numbers = {key: at_least(0, "number") for key in ("from", "to", "start", "end")}
    check_rules(weight, {**numbers, "shape": one_of(*SHAPES)}, f"{path}.")
    try:
        parse_weight(weight)
    except ValueError as e:
        raise UserError(f"{path}: {e}") from None
