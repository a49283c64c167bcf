"""Overrides as a user types them, rewritten to Hydra's syntax.

Only the standard library is imported.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import deque
from pathlib import Path

from distill_cli.config.options import RUN_COMMANDS, conf_dir, moved, options
from distill_cli.config.paths import as_typed, expanded, is_path
from distill_cli.errors import UserError

VALUE_FLAGS = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--experimental-rerun"}
FOLDER_FLAGS = ("--config-dir", "-cd", "--experimental-rerun")
CONFIG_FLAGS = {"--config-name", "-cn", "--config-path", "-cp"}
PLAIN_FLAGS = {
    "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc",
    "--info", "-i",
}  # fmt: skip
JOINED = tuple(f"{flag}=" for flag in VALUE_FLAGS | CONFIG_FLAGS if flag.startswith("--"))
OPEN_KEYS = ("require", "teacher.rename")  # dictionaries that users fill with keys of their own
NESTED_GROUP = r"((?:teacher\.(?=\w+=)|student\.(?=model=))(model|optimizer|lr_scheduler|augment|mixup|sampling))=([^{].*)"
TYPED_WORDS = "DISTILL_TYPED_WORDS"  # the variable that hands the words of the line, as a JSON list, to the jobs
# Values that Hydra reads only between quotation marks, such as a path with an umlaut. Lists and quoted values stay.
NEEDS_QUOTES = r"[^\x00-\x7f]|[;!#&<>^`~]"
HAS_SYNTAX = r"""[][{}(),"'\n]|\\$|^\s|\s$"""
# Settings that cannot change a job's result, so that they do not change a sweep's folder.
NOT_HASHED = (
    "hydra.launcher",
    "hydra/launcher",
    "hydra.verbose",
    "require",
    "++require",
    "outputs=",
    "logger",
    "verbosity",
    "log_every_seconds",
)


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the flags with their values, and the overrides.

    Why: Hydra 1.3 rejects overrides on both sides of a flag.

    Raises:
        UserError: a key has dashes, or a flag would choose another config.
    """
    flags: list[str] = []
    overrides: list[str] = []
    arguments = deque(part for text in argv for part in (text.split("=", 1) if text.startswith(JOINED) else [text]))
    while arguments:
        argument = arguments.popleft()
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        if re.match(r"--[\w./@-]+=", argument) and not argument.startswith("--info="):
            raise UserError(f"{argument}: drop the dashes: {argument.lstrip('-')}")
        if argument in CONFIG_FLAGS:
            raise UserError(f"{argument}: the command chooses the config; use experiment=NAME with --config-dir DIR")
        odd = re.fullmatch(r"--?[a-zA-Z][\w.@/]+", argument) and argument not in PLAIN_FLAGS | VALUE_FLAGS
        if odd and arguments and is_value(after := arguments[0]):
            key = argument.lstrip("-")
            raise UserError(f"{argument} {after}: keys have no dashes, and values follow '='; did you mean '{key}={after}'?")
        flags.append(argument)
        if argument in VALUE_FLAGS:
            flags += [expanded(arguments.popleft()) if argument in FOLDER_FLAGS else arguments.popleft()] if arguments else []
        elif argument in ("--info", "-i") and arguments and is_value(arguments[0]):  # it may stand without one
            flags.append(arguments.popleft())
    return flags, overrides


def is_value(argument: str) -> bool:
    """Return whether a word is neither a flag nor an override."""
    return bool(argument) and "=" not in argument and not argument.startswith(("-", "~"))


def config_folder(value: str) -> Path:
    """Return the folder of ``--config-dir``, for a command without Hydra.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(expanded(value))
    if not folder.is_dir() or folder == Path():
        raise UserError(f"--config-dir {folder}: no such folder")
    return folder


def normalize_override(command: str, override: str) -> str:
    """Return an override in Hydra's syntax.

    ``++`` is added where new keys are allowed, ``group@package`` stands for a nested group, and values are quoted if needed.

    Raises:
        UserError: the text is no override, or its key has another name now.
    """
    if re.match(r"[+~]*hydra[./]callbacks\b", override):
        raise UserError(f"{override}: by these the tool learns where Hydra writes; leave them as they are")
    if override.startswith("~"):
        return override
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"'{override}' is not key=value; did you mean {meaning(command, key)}?")
    if line := moved(key):
        raise UserError(line)
    if nested := re.fullmatch(NESTED_GROUP, override, re.S):
        package, group, option = nested.groups()
        return f"{group}@{package}={option}"
    if is_path(key.lstrip("+")):
        override = f"{key}={as_typed(key.lstrip('+'), value)}"
    elif re.search(NEEDS_QUOTES, value) and not re.search(HAS_SYNTAX, value):
        override = f'{key}="{value}"'
    open_keys = (*OPEN_KEYS, "dataset") if command in RUN_COMMANDS else OPEN_KEYS
    chooses_group = key == "dataset"
    if not chooses_group and any(key == k or key.startswith(f"{k}.") for k in open_keys):
        return f"++{override}"
    return override


def meaning(command: str, text: str) -> str:
    """Return possible meanings of a word without '=': a run, an option or a key."""
    if command in RUN_COMMANDS and "/" in text:
        return f"'run={text}'"
    groups = [group for group, names in options([conf_dir()]).items() if text in names and group != "model"]
    return " or ".join(f"'{group}={text}'" for group in groups) or f"'{text or 'KEY'}=VALUE'"


def by_job(override: str) -> str:
    """Return ``hydra.sweep.subdir=NAME`` with a name for each job.

    Why: a finished run of another job in that folder must not be taken for this job's.
    """
    key, _, value = override.partition("=")
    value = value.strip("\"'")
    return (
        f"{key}=\"${{job_folder:'{value}'}}\""
        if key == "hydra.sweep.subdir" and value and not re.search("[\"'\\\\]", value)
        else override
    )


def sweep_key(command: str, flags: list[str], overrides: list[str]) -> str:
    """Return a hash of a command line that ignores order: the sweep's folder name."""
    folder = next((f"{a} {b}" for a, b in itertools.pairwise(flags) if a in ("--config-dir", "-cd")), "")
    hashed = sorted(o for o in overrides if not o.startswith(NOT_HASHED))
    return hashlib.sha256(json.dumps([command, hashed, folder]).encode()).hexdigest()[:10]
