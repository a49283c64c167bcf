"""Entry point of the checks of a composed config before training.

A component is a mapping with `_target_`, a dotted path of a class or function. Its keys are checked against the target's
signature and type hints, so that an error is found before training.
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
from distill_cli.config.settings.dataset import SELECTION_KEYS
from distill_cli.config.settings.training import StageSettings
from distill_cli.config.trust import check_trusted, load_config, targets_in
from distill_cli.config.validation.components import check_component
from distill_cli.config.validation.generations import generations
from distill_cli.config.validation.rules import format_value
from distill_cli.config.validation.stages import COMPONENTS
from distill_cli.config.validation.unlabeled import check_unlabeled
from distill_cli.config.validation.values import check_typed, check_values, control_settings
from distill_cli.errors import UserError, did_you_mean

__all__ = ["check", "check_component", "check_trusted", "instantiate_component", "load_config", "targets_in"]

# Keys in addition to a component's own, read by the pipeline.
EXTRA_KEYS = {"loss": ("weight",), "terms": ("weight",), "dataset": SELECTION_KEYS}


def check(cfg: DictConfig, command: str, typed: list[str] | None = None) -> None:
    """Check a composed config: missing values, ranges, unknown keys.

    Args:
        cfg: the job's config.
        command: `distill`, `layers`, `train-teacher`, or one that opens a run.
        typed: overrides of the command line.

    Raises:
        UserError: the first fault.
        OmegaConfBaseException: a mandatory value is missing, or an interpolation has no target.
    """
    check_typed(command, typed or [])
    command = "distill" if command == "layers" else command  # both have the same keys
    check_known(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    if not isinstance(config["require"], Mapping):
        raise UserError(f"require={format_value(config['require'])}: expected paths of report.json, such as require.macro_f1=0.8")
    check_bounds(config["require"])
    check_run(config, command, typed)


def check_run(config: Mapping[str, Any], command: str, typed: list[str] | None = None) -> None:
    """Check a plain, resolved config, and those of the generations that it makes.

    Raises:
        UserError: what is wrong first.
    """
    check_config(config, command, typed)
    for link in generations(config) if command == "distill" else ():
        try:
            check_config(link.config, command)
        except UserError as e:
            raise link.prefixed(e) from None


def check_config(config: Mapping[str, Any], command: str, typed: list[str] | None = None) -> None:
    """Check values and components of a plain, resolved config.

    Args:
        config: the config.
        command: name of the command.
        typed: overrides of the command line, or None.

    Raises:
        UserError: the first fault.
    """
    check_values(config, command)
    check_unlabeled(config.get("dataset") or {})
    for path, node in components(config, command):
        extra = EXTRA_KEYS.get(path.removeprefix("stages.").split(".")[path.startswith("stages.")], ())
        chosen = typed if any(re.match(r"\+?(experiment|hparams)=", override) for override in typed or ()) else None
        check_component(path, {k: v for k, v in node.items() if k not in extra}, chosen)


def check_known(cfg: DictConfig, prefix: str = "") -> None:
    """Check that a config has exactly the keys of its schema.

    Unknown keys come from ``+key=value``, missing ones from ``~key``.

    Raises:
        UserError: names the first such key.
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
    paths = ["dataset", "teacher.model", "teacher.optimizer", "teacher.lr_scheduler"]
    if command == "distill":
        paths += ["student.model", "optimizer", "lr_scheduler", "loss"]
        yield from ((f"terms.{name}", node) for name, node in config["terms"].items())
        for name, own in (config["stages"] or {}).items():
            stage = StageSettings.from_config(config, name)
            whole = {"loss": stage.losses.loss, "optimizer": stage.optimizer, "lr_scheduler": stage.lr_scheduler}
            yield from ((f"stages.{name}.{key}", whole[key]) for key in COMPONENTS if own.get(key))
            yield from ((f"stages.{name}.terms.{term}", stage.losses.terms[term]) for term in own.get("terms") or {})
        for name, settings in control_settings(config):
            for key in sorted({"optimizer", "lr_scheduler"} & set(settings)):
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
