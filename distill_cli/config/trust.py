"""Check of the code that a config from a run folder may name.

Run folders may come from untrusted sources, and a `_target_` names code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from distill_cli.config.options import conf_dir, options
from distill_cli.errors import UserError
from distill_cli.utils.files import read_text

# Targets that the tool writes into model.json and no option names.
INTERNAL_TARGETS = ("distill_cli.models.ensemble.Ensemble",)
LARGEST_BYTES = 1_000_000
LARGEST_NODES = 100_000
PLAIN_KEYS = {"_partial_": (True, False), "_recursive_": (True, False), "_convert_": ("none", "partial", "object", "all")}


def load_config(path: str | Path) -> dict[str, Any]:
    """Return a run's config.yaml as plain values.

    No value is resolved, imported or built.

    Raises:
        UserError: the file is missing, too large, or not a mapping in YAML.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(f"{path}: larger than {LARGEST_BYTES // 1000} kB, so not a config that this tool wrote")
        # Not the loader in C, which deep nesting crashes; this one raises.
        config = yaml.safe_load(read_text(path))
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror})") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        raise UserError(f"{path}: not YAML{f' (line {mark.line + 1})' if mark else ''}; the file is damaged") from None
    except (UnicodeDecodeError, RecursionError, ValueError):
        raise UserError(f"{path}: not YAML; the file is damaged") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds no keys; the file is damaged")
    for n, _ in enumerate(iter_leaves(config, "", str(path))):
        if n > LARGEST_NODES:
            raise UserError(f"{path}: more than {LARGEST_NODES} values, so not a config that this tool wrote")
    return config


def dump_config(config: Mapping[str, Any]) -> str:
    """Return the text of config.yaml, which Hydra reads as these values again."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))


def targets_in(config: Any) -> frozenset[str]:
    """Return every `_target_` that a plain config names.

    Why: classes in this run's own config are the user's choice, and so trusted.
    """
    return frozenset(str(value) for key, value in iter_leaves(config, "", "config") if key.rpartition(".")[2] == "_target_")


def check_trusted(node: Mapping[str, Any], path: str, also: Collection[str] = (), *, own: bool = False) -> None:
    """Check that an untrusted config names only trusted code.

    Trusted are this tool's targets, torch.nn, torch.optim, and the patterns of DISTILL_TRUST.

    Args:
        node: plain values, as read from config.yaml or model.json.
        path: file they come from, for messages: ``run/config.yaml``.
        also: targets that this run's own config names.
        own: whether the folder is this user's, who may name any class.

    Raises:
        UserError: names the first key that is rejected, and the variable that would allow it.
    """
    for key, value in iter_leaves(node, "", path):
        last = key.rpartition(".")[2]
        if "${" in key or "${" in str(value):
            raise UserError(f"{path}: {key}={value}: interpolations are not allowed in a config from a run folder")
        if last == "_target_":
            if not isinstance(value, str) or not (own or value in also or trusted(value)):
                remedy = f"set DISTILL_TRUST='{value}' if you trust it, or type --trust '{value}'"
                raise UserError(f"{path}: {key}={value} is not trusted; {remedy}")
        elif re.fullmatch(r"_\w+_", last) and not plain_setting(last, value):
            raise UserError(f"{path}: {key}={value} is not allowed in a config from a run folder")


def plain_setting(key: str, value: Any) -> bool:
    """Return whether one of Hydra's special keys holds only values allowed there."""
    if key == "_args_":
        return isinstance(value, list) and all(v is None or isinstance(v, bool | int | float | str) for v in value)
    return isinstance(value, bool | str) and value in PLAIN_KEYS.get(key, ())


def iter_leaves(node: Any, key: str, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of all plain values.

    Lists and mappings under a special key are its value.
    """
    if depth > 50:
        raise UserError(f"{path}: {key[:60]}...: nested too deep, so not a config that this tool wrote")
    special = re.fullmatch(r"_\w+_", key.rpartition(".")[2]) is not None
    if isinstance(node, Mapping) and not special:
        for name, value in node.items():
            yield from iter_leaves(value, f"{key}.{name}".lstrip("."), path, depth + 1)
    elif isinstance(node, list | tuple) and not special:
        for n, value in enumerate(node):
            yield from iter_leaves(value, f"{key}.{n}", path, depth + 1)
    if special or not isinstance(node, Mapping | list | tuple) or not node:
        yield key, node


def trusted(target: str) -> bool:
    """Return whether an untrusted config may name this target."""
    if target in own_targets() or any(fnmatchcase(target, p) for p in os.environ.get("DISTILL_TRUST", "").split()):
        return True
    module, _, name = target.rpartition(".")
    if module not in ("torch.nn", "torch.optim", "torch.optim.lr_scheduler"):
        return False
    import torch

    room, base = {
        "torch.nn": (torch.nn, torch.nn.Module),
        "torch.optim": (torch.optim, torch.optim.Optimizer),
        "torch.optim.lr_scheduler": (torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler),
    }[module]
    member = getattr(room, name, None)
    return isinstance(member, type) and issubclass(member, base)


@cache
def own_targets() -> frozenset[str]:
    """Return every `_target_` in the tool's own options, and the internal ones."""
    files = [file for group in options([conf_dir()]).values() for file in group.values()]
    named = (name for f in files for name in re.findall(r"^\s*_target_:\s*([\w.]+)", f.read_text(encoding="utf-8"), re.M))
    return frozenset((*named, *INTERNAL_TARGETS))
