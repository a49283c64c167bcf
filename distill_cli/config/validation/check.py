"""Checks of a composed config before anything is trained, and the building of its components.

A component is a mapping with `_target_`, a dotted path of a class or function. Its keys are held against the target's
signature and type hints, so that a slip is found before an hour of training and not after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.options import RUN_COMMANDS
from distill_cli.config.requirements import check_bounds
from distill_cli.config.trust import check_trusted, load_config, targets_in
from distill_cli.config.validation.components import check_component
from distill_cli.config.validation.generations import generations
from distill_cli.config.validation.rules import format_value
from distill_cli.config.validation.stages import COMPONENTS, stage_names, stage_settings
from distill_cli.config.validation.unlabeled import check_unlabeled
from distill_cli.config.validation.values import TRAINING_KEYS, check_typed, check_values, control_settings
from distill_cli.errors import UserError, did_you_mean

__all__ = ["TRAINING_KEYS", "check", "check_component", "check_trusted", "instantiate_component", "load_config", "targets_in"]

# Keys beside a component's own, read by the pipeline.
EXTRA_KEYS = {"loss": ("weight",), "terms": ("weight",), "dataset": ("label_fraction", "transfer_exclude", "unlabeled")}


def check(cfg: DictConfig, command: str, typed: list[str] | None = None) -> None:
    """Check a composed config: nothing missing, every value in its range, every component's keys known.

    Args:
        cfg: the job's config.
        command: `distill`, `layers`, `train-teacher`, or one that opens a run.
        typed: the overrides of the command line.

    Raises:
        UserError: what is wrong first.
        OmegaConfBaseException: a mandatory value is missing, or an interpolation leads nowhere.
    """
    check_typed(command, typed or [])
    command = "distill" if command == "layers" else command  # it takes what `distill` takes
    check_known(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    if not isinstance(config["require"], Mapping):
        raise UserError(f"require={format_value(config['require'])}: expected paths of report.json, such as require.macro_f1=0.8")
    check_bounds(config["require"])
    check_config(config, command, typed)
    for link in generations(config) if command == "distill" else ():
        try:
            check_config(link.config, command)
        except UserError as e:
            raise link.prefixed(e) from None


def check_config(config: Mapping[str, Any], command: str, typed: list[str] | None = None) -> None:
    """Check values and components of a plain, resolved config; `typed` are the overrides of the command line, where it has any.

    Raises:
        UserError: what is wrong first.
    """
    check_values(config, command)
    check_unlabeled(config.get("dataset") or {})
    for path, node in components(config, command):
        extra = EXTRA_KEYS.get(path.removeprefix("stages.").split(".")[path.startswith("stages.")], ())
        chosen = typed if any(re.match(r"\+?(experiment|hparams)=", word) for word in typed or ()) else None
        check_component(path, {k: v for k, v in node.items() if k not in extra}, chosen)


def check_known(cfg: DictConfig, prefix: str = "") -> None:
    """Refuse keys that ``+key=value`` added and nobody reads, and typed keys that ``~key`` took away.

    Raises:
        UserError: the first such key.
    """
    schema: Any = OmegaConf.get_type(cfg)
    known = [f.name for f in fields(schema)]
    for key in map(str, cfg):
        if key not in known:
            raise UserError(f"unknown key '{prefix}{key}'{did_you_mean(key, known)}")
    for key in set(known) - set(cfg.keys()):
        raise UserError(f"~{prefix}{key}: this key cannot be taken away; set it to another value")
    for key in known:
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and is_dataclass(OmegaConf.get_type(node)):
            check_known(node, f"{prefix}{key}.")


def components(config: Mapping[str, Any], command: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and node of all components that a command builds."""
    if command in RUN_COMMANDS:
        if "_target_" in (config.get("dataset") or {}):
            yield "dataset", config["dataset"]
        return
    if isinstance(config["dataset"].get("unlabeled"), Mapping):
        yield "dataset.unlabeled", config["dataset"]["unlabeled"]
    if config.get("task") is not None:
        yield "task", config["task"]
    yield from ((f"logger.{name}", node) for name, node in (config["logger"] or {}).items())
    paths = ["dataset", "teacher.model", "teacher.optimizer", "teacher.schedule"]
    if command == "distill":
        paths += ["student.model", "optimizer", "schedule", "loss"]
        yield from ((f"terms.{name}", node) for name, node in config["terms"].items())
        for name in stage_names(config):
            own, whole = config["stages"][name], stage_settings(config, name)
            yield from ((f"stages.{name}.{key}", whole[key]) for key in COMPONENTS if own.get(key))
            yield from ((f"stages.{name}.terms.{term}", whole["terms"][term]) for term in own.get("terms") or {})
        for name, settings in control_settings(config):
            for key in sorted({"optimizer", "schedule"} & set(settings)):
                yield f"controls.{name}.{key}", {**config[key], **settings[key]}
    for path in paths:
        node: Any = config
        for key in path.split("."):
            node = node[key]
        if not isinstance(node, Mapping) or "_target_" not in node:
            group = path.split(".")[-1]
            raise UserError(
                f"{path}={format_value(node)}: has no _target_; choose one with {path}=OPTION; see distill ls {group}"
            )
        yield path, node
