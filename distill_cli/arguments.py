"""From the words that a user typed to the words that Hydra wants. Standard library only."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path

from distill_cli.config.groups import RUN_COMMANDS, moved
from distill_cli.errors import UserError

VALUE_FLAGS = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--experimental-rerun"}
CONFIG_FLAGS = {"--config-name", "-cn", "--config-path", "-cp"}
JOINED = tuple(f"{flag}=" for flag in VALUE_FLAGS | CONFIG_FLAGS if flag.startswith("--"))
OPEN_KEYS = ("require", "teacher.rename")  # dictionaries that users fill with keys of their own
NESTED_GROUP = r"((?:teacher\.(?=\w+=)|student\.(?=model=))(model|optimizer|schedule|augment|mixup|sampling))=([^{\[].*)"
# Values that Hydra reads only between quotation marks, such as a path with an umlaut; lists and what is quoted stay as they are.
FOREIGN = r"[^\x00-\x7f]|[;!#&<>^`~]"
STRUCTURE = r"""[][{}(),"'\n]|\\$|^\s|\s$"""
# Settings that cannot change a job's result, so that a sweep is found again whatever they are.
NOT_HASHED = ("hydra.launcher", "hydra/launcher", "hydra.verbose", "require", "++require", "outputs=", "logger", "progress.")


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return flags (with their values) and overrides: Hydra 1.3 refuses overrides on both sides of a flag.

    Raises:
        UserError: a key with dashes, or a flag that would choose another config.
    """
    flags: list[str] = []
    overrides: list[str] = []
    words = iter([part for word in argv for part in (word.split("=", 1) if word.startswith(JOINED) else [word])])
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        if re.match(r"--[\w./@-]+=", word) and not word.startswith("--info="):
            raise UserError(f"{word}: drop the dashes: {word.lstrip('-')}")
        if word in CONFIG_FLAGS:
            raise UserError(f"{word}: the command chooses the config; use experiment=NAME with --config-dir DIR")
        flags.append(word)
        if word in VALUE_FLAGS:
            flags += [value] if (value := next(words, None)) is not None else []
    if flags and flags[-1] in ("--info", "-i") and overrides and "=" not in overrides[0]:
        flags.append(overrides.pop(0))
    return flags, overrides


def config_folder(value: str) -> Path:
    """Return the folder of ``--config-dir``, for a command that does not hand it to Hydra.

    Raises:
        UserError: there is none.
    """
    folder = Path(value)
    if not folder.is_dir() or folder == Path():
        raise UserError(f"--config-dir {folder}: no such folder")
    return folder


def rewrite(command: str, override: str) -> str:
    """Return an override as Hydra wants it: ``++`` where new keys are welcome, ``group@package`` for a nested group, quoted.

    Raises:
        UserError: the word is not an override at all, or its key has moved.
    """
    if override.startswith("~"):
        return override
    key, equals, value = override.partition("=")
    if not equals or not key:
        hint = f"run={key}" if command in RUN_COMMANDS and "/" in key else f"{key or 'KEY'}=VALUE"
        raise UserError(f"'{override}' is not key=value; did you mean '{hint}'?")
    if line := moved(key):
        raise UserError(line)
    if nested := re.fullmatch(NESTED_GROUP, override, re.S):
        package, group, option = nested.groups()
        return f"{group}@{package}={option}"
    override = f'{key}="{value}"' if re.search(FOREIGN, value) and not re.search(STRUCTURE, value) else override
    open_keys = (*OPEN_KEYS, "dataset") if command in RUN_COMMANDS else OPEN_KEYS
    chooses_group = key == "dataset"
    if not chooses_group and any(key == k or key.startswith(f"{k}.") for k in open_keys):
        return f"++{override}"
    return override


def sweep_key(command: str, flags: list[str], overrides: list[str]) -> str:
    """Return a hash of a command line in which order does not matter: the name of its sweep's folder."""
    folder = next((f"{a} {b}" for a, b in itertools.pairwise(flags) if a in ("--config-dir", "-cd")), "")
    kept = sorted(o for o in overrides if not o.startswith(NOT_HASHED))
    return hashlib.sha256(json.dumps([command, kept, folder]).encode()).hexdigest()[:10]
