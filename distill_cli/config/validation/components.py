"""Checks of a component's keys against its target's signature and type hints."""

from __future__ import annotations

import inspect
import logging
import pkgutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from distill_cli.config.validation.rules import format_value
from distill_cli.errors import UserError, did_you_mean

PLAIN_TYPES = {bool: "bool", int: "int", float: "float", str: "str", NoneType: "null"}


def check_component(path: str, node: Mapping[str, Any], typed: Collection[str] | None = None) -> None:
    """Check a component's keys, and those of components inside it.

    Args:
        path: place in the config.
        node: keys of the component.
        typed: overrides of the command line, or None; a key that was not typed came from a preset, for another option.

    Raises:
        UserError: `_target_` cannot be imported, a key is unknown, or a value has the wrong type.
    """
    target = find_target(path, node["_target_"])
    for key, value in node.items():
        check_inside(f"{path}.{key}", value)
    try:
        parameters = inspect.signature(target).parameters
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (ValueError, TypeError, NameError, AttributeError):
        return  # a builtin, or hints that only a type checker can read: no signature to check against
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters and not takes_any:
            preset = typed is not None and not any(override.lstrip("+").startswith(f"{path}.{key}=") for override in typed)
            hint = f", and a preset sets it; take it away with ~{path}.{key}" if preset else did_you_mean(key, parameters)
            raise UserError(f"{path}.{key}: {target.__qualname__} has no such parameter{hint}")
        built = isinstance(value, Mapping) and "_target_" in value
        if key in hints and not built and not matches_type_hint(value, hints[key]):
            raise UserError(f"{path}.{key}={format_value(value)}: expected {hint_text(hints[key])}")


def parameter_names(target: Callable[..., Any]) -> list[str] | None:
    """Return the names of a target's parameters, None if unknown or open."""
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else list(parameters)


def check_inside(path: str, value: Any) -> None:
    """Check the components that a value is or contains."""
    if isinstance(value, Mapping) and "_target_" in value:
        check_component(path, value)
    elif isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            check_inside(f"{path}.{key}", inner)


def find_target(path: str, name: Any) -> Callable[..., Any]:
    """Return the class or function that `_target_` names.

    Raises:
        UserError: there is none, or importing its module fails.
    """
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # get_object logs what it raises
    where = f"{path}._target_={name}"
    try:
        target = get_object(str(name))
    except Exception as e:
        cause: BaseException = e.__cause__ or e
        part_missing = isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}.")
        if part_missing or isinstance(cause, AttributeError):
            raise UserError(f"{where}: not found{suggest_import(str(name))}") from None
        raise UserError(f"{where}: {type(cause).__name__}: {' '.join(str(cause).split())}") from None
    if not callable(target):
        raise UserError(f"{where}: not a class or a function")
    return target


def suggest_import(name: str) -> str:
    """Return a hint for a dotted path: a similar name in its deepest module."""
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            room = get_object(".".join(parts[:n]))
        except Exception:
            continue
        return did_you_mean(parts[n], [*dir(room), *(m.name for m in pkgutil.iter_modules(getattr(room, "__path__", [])))])
    return f"; is '{parts[0]}' installed, or a file in {Path.cwd()}?"


def matches_type_hint(value: Any, hint: Any) -> bool:
    """Return whether a plain value fits a parameter with this type hint.

    Hints of other classes fit any value.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        known = [h for h in inner if h in PLAIN_TYPES or get_origin(h) is not None]
        return any(matches_type_hint(value, h) for h in known or inner)
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
            return isinstance(value, list | tuple) and all(matches_type_hint(v, h) for v in value for h in elements)
    return True


def hint_text(hint: Any) -> str:
    """Return a type hint in plain words."""
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
