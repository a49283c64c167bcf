"""Checks of a composed config before anything is trained, and the building of its components.

A component is a mapping with `_target_`, a dotted path of a class or function. Its keys are held against the target's
signature and type hints, so that a slip is found before an hour of training and not after.
"""

from __future__ import annotations

import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from distill_cli.errors import UserError, near
from distill_cli.gate import check_bounds
from distill_cli.ranges import TRAINING_KEYS, check_typed, check_values, control_settings, shown
from distill_cli.trust import check_trusted, leaves, load_config

__all__ = ["TRAINING_KEYS", "build", "check", "check_component", "check_trusted", "load_config"]

# Keys beside a component's own, read by the pipeline.
BESIDE = {"loss": ("weight",), "terms": ("weight",), "dataset": ("label_fraction", "transfer_exclude")}
PLAIN_TYPES = {bool: "bool", int: "int", float: "float", str: "str", NoneType: "null"}


def check(cfg: DictConfig, command: str, typed: list[str] | None = None) -> None:
    """Check a composed config: nothing missing, every value in its range, every component's keys known.

    Args:
        cfg: the job's config.
        command: `distill`, `train-teacher` or `eval`.
        typed: the overrides of the command line.

    Raises:
        UserError: what is wrong first.
        OmegaConfBaseException: a mandatory value is missing, or an interpolation leads nowhere.
    """
    check_typed(command, typed or [])
    check_known(cfg)
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    if not isinstance(config["require"], Mapping):
        raise UserError(f"require={shown(config['require'])}: expected paths of report.json, such as require.macro_f1=0.8")
    check_bounds(config["require"])
    check_values(config, command)
    for path, node in components(config, command):
        extra = BESIDE.get(path.split(".")[0], ())
        check_component(path, {k: v for k, v in node.items() if k not in extra})


def check_known(cfg: DictConfig, prefix: str = "") -> None:
    """Refuse keys that ``+key=value`` added and nobody reads, and typed keys that ``~key`` took away.

    Raises:
        UserError: the first such key.
    """
    known = [f.name for f in fields(OmegaConf.get_type(cfg))]
    for key in cfg:
        if key not in known:
            raise UserError(f"unknown key '{prefix}{key}'{near(str(key), known)}")
    for key in set(known) - set(cfg.keys()):
        raise UserError(f"~{prefix}{key}: this key cannot be taken away; set it to another value")
    for key in known:
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and is_dataclass(OmegaConf.get_type(node)):
            check_known(node, f"{prefix}{key}.")


def components(config: Mapping[str, Any], command: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and node of all components that a command builds."""
    if command == "eval":
        if "_target_" in (config["dataset"] or {}):
            yield "dataset", config["dataset"]
        return
    paths = ["dataset", "teacher.model", "teacher.optimizer", "teacher.schedule"]
    if command == "distill":
        paths += ["student.model", "optimizer", "schedule", "loss"]
        yield from ((f"terms.{name}", node) for name, node in config["terms"].items())
        for name, settings in control_settings(config):
            for key in {"optimizer", "schedule"} & set(settings):
                yield f"controls.{name}.{key}", {**config[key], **settings[key]}
    for path in paths:
        node: Any = config
        for key in path.split("."):
            node = node[key]
        if not isinstance(node, Mapping) or "_target_" not in node:
            group = path.split(".")[-1]
            raise UserError(f"{path}={shown(node)}: has no _target_; choose one with {path}=OPTION; see distill ls {group}")
        yield path, node


def check_component(path: str, node: Mapping[str, Any]) -> None:
    """Hold a component's keys, and those of components inside it, against the signatures of their targets.

    Raises:
        UserError: `_target_` cannot be imported, a key is unknown, or a value has the wrong type.
    """
    target = find_target(path, node["_target_"])
    try:
        parameters = inspect.signature(target).parameters
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (ValueError, TypeError, NameError, AttributeError):
        return  # a builtin, or hints that only a type checker can read: nothing to hold the keys against
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters and not takes_any:
            raise UserError(f"{path}.{key}: {target.__qualname__} has no such parameter{near(key, parameters)}")
        if isinstance(value, Mapping) and "_target_" in value:
            check_component(f"{path}.{key}", value)
        elif key in hints and not fits(value, hints[key]):
            raise UserError(f"{path}.{key}={shown(value)}: expected {hint_text(hints[key])}")


def find_target(path: str, name: Any) -> Callable[..., Any]:
    """Return the class or function that `_target_` names.

    Raises:
        UserError: there is none, or importing its module fails.
    """
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # get_object logs what it raises
    where = f"{path}._target_={name}"
    try:
        found = get_object(str(name))
    except Exception as e:
        cause: BaseException = e.__cause__ or e
        if isinstance(cause, AttributeError) or (isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}.")):
            raise UserError(f"{where}: not found{near_part(str(name))}") from None
        raise UserError(f"{where}: {type(cause).__name__}: {' '.join(str(cause).split())}") from None
    if not callable(found):
        raise UserError(f"{where}: not a class or a function")
    return found  # type: ignore[no-any-return]


def near_part(name: str) -> str:
    """Return a hint at what the deepest module of a dotted path that exists has under a similar name."""
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            room = get_object(".".join(parts[:n]))
        except Exception:
            continue
        return near(parts[n], [*dir(room), *(m.name for m in pkgutil.iter_modules(getattr(room, "__path__", [])))])
    return f"; is '{parts[0]}' installed, or a file in {Path.cwd()}?"


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value can be meant for a parameter with this hint; hints of other classes say yes."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        known = [h for h in inner if h in PLAIN_TYPES or get_origin(h) is not None]
        return any(fits(value, h) for h in known or inner)
    if origin is Literal:
        return value in inner
    if hint in PLAIN_TYPES:
        if hint is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if inspect.isclass(origin) and origin is not type:
        if issubclass(origin, Mapping):
            return isinstance(value, Mapping)
        if origin is tuple or hasattr(origin, "__iter__"):
            elements = [h for h in inner if h is not Ellipsis][:1]
            return isinstance(value, list | tuple) and all(fits(v, h) for v in value for h in elements)
    return True


def hint_text(hint: Any) -> str:
    """Return a type hint in a user's words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(hint_text(h) for h in inner if h in PLAIN_TYPES or get_origin(h) is not None)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if hint in PLAIN_TYPES:
        return PLAIN_TYPES[hint]
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "keys with values"
    elements = [hint_text(h) for h in inner if h in PLAIN_TYPES][:1]
    return f"list of {elements[0]}" if elements else "list"


def permission(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument by which Hydra 1.4 is told what it may call; what comes from a run folder was held by check_trusted."""
    if "_execution_whitelist_" not in inspect.signature(instantiate).parameters:
        return {}
    return {"_execution_whitelist_": [str(value) for key, value in leaves(settings, "", "") if key.endswith("_target_")]}


def build(node: Mapping[str, Any], path: str, **given: Any) -> Any:
    """Build a component.

    Args:
        node: a mapping with `_target_`.
        path: its place in the config, for messages.
        given: arguments that are passed where the target's signature names them and the config does not set them.

    Raises:
        UserError: the target cannot be found, lacks an argument, or refuses one (ValueError, OSError).
    """
    settings = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(settings, dict)
    check_component(path, settings)
    target = find_target(path, settings["_target_"])
    try:
        parameters = dict(inspect.signature(target).parameters)
    except (ValueError, TypeError):
        parameters = {}
    arguments = {k: v for k, v in given.items() if k in parameters and k not in settings}
    if not {"_args_", "_partial_"} & set(settings):
        for name, p in parameters.items():
            named = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            if named and p.default is p.empty and name not in settings and name not in arguments:
                raise UserError(f"{path}: {target.__qualname__} needs '{name}'; set it with +{path}.{name}=VALUE")
    try:
        return instantiate({"_convert_": "all", **settings}, **arguments, **permission(settings))
    except UserError:
        raise
    except Exception as e:
        cause: BaseException = e
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError | OSError | HydraException):
            raise UserError(f"{path}: {' '.join(str(cause).split())}") from None
        raise cause from None
