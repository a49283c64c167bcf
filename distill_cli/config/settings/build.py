"""Conversion of plain mappings into frozen dataclasses.

The mappings are resolved and checked; the fields have the names of the config's keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Component = Mapping[str, Any]  # {"_target_": ..., **arguments}: checked against the target's signature
T = TypeVar("T")


def build(cls: type[T], config: Mapping[str, Any]) -> T:
    """Return a dataclass filled with the keys of a config that it has fields for.

    Args:
        cls: a dataclass; fields of dataclasses are filled from the config's groups, tuples from its lists.
        config: plain, resolved and checked; a key that is missing keeps the field's default.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls) if f.name in config]  # type: ignore[arg-type]
    return cls(**{name: _value(hints[name], config[name]) for name in names})


def merge(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with changes merged into it.

    Groups are merged key by key, lists are replaced.
    """
    inner = {
        key: merge(config[key], value) if isinstance(value, Mapping) and isinstance(config.get(key), Mapping) else value
        for key, value in changes.items()
    }
    return {**config, **inner}


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value)  # type: ignore[arg-type]
    if hint is Path:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
