"""From the words that a user typed to the words that Hydra wants. Standard library only."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
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
# Values that Hydra reads only between quotation marks, such as a path with an umlaut; lists and what is quoted stay as they are.
NEEDS_QUOTES = r"[^\x00-\x7f]|[;!#&<>^`~]"
HAS_SYNTAX = r"""[][{}(),"'\n]|\\$|^\s|\s$"""
# Settings that cannot change a job's result, so that a sweep is found again whatever they are.
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
    """Return flags (with their values) and overrides: Hydra 1.3 refuses overrides on both sides of a flag.

    Raises:
        UserError: a key with dashes, or a flag that would choose another config.
    """
    flags: list[str] = []
    overrides: list[str] = []
    words: Iterator[str] = iter([part for word in argv for part in (word.split("=", 1) if word.startswith(JOINED) else [word])])
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        if re.match(r"--[\w./@-]+=", word) and not word.startswith("--info="):
            raise UserError(f"{word}: drop the dashes: {word.lstrip('-')}")
        if word in CONFIG_FLAGS:
            raise UserError(f"{word}: the command chooses the config; use experiment=NAME with --config-dir DIR")
        if re.fullmatch(r"--?[a-zA-Z][\w.@/]+", word) and word not in PLAIN_FLAGS | VALUE_FLAGS:
            after = next(words, "")
            if after and "=" not in after and not after.startswith("-"):
                key = word.lstrip("-")
                raise UserError(f"{word} {after}: keys have no dashes, and values follow '='; did you mean '{key}={after}'?")
            words = itertools.chain([after] if after else [], words)
        flags.append(word)
        if word in VALUE_FLAGS:
            flags += [expanded(value) if word in FOLDER_FLAGS else value] if (value := next(words, None)) is not None else []
    if flags and flags[-1] in ("--info", "-i") and overrides and "=" not in overrides[0]:
        flags.append(overrides.pop(0))
    return flags, overrides


def config_folder(value: str) -> Path:
    """Return the folder of ``--config-dir``, for a command that does not hand it to Hydra.

    Raises:
        UserError: there is none.
    """
    folder = Path(expanded(value))
    if not folder.is_dir() or folder == Path():
        raise UserError(f"--config-dir {folder}: no such folder")
    return folder


def normalize_override(command: str, override: str) -> str:
    """Return an override as Hydra wants it: ``++`` where new keys are welcome, ``group@package`` for a nested group, quoted.

    Raises:
        UserError: the word is not an override at all, or its key has another name now.
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


def meaning(command: str, word: str) -> str:
    """Return what a word without '=' may be meant as: a run's folder, an option of some group, or a key."""
    if command in RUN_COMMANDS and "/" in word:
        return f"'run={word}'"
    groups = [group for group, names in options([conf_dir()]).items() if word in names and group != "model"]
    return " or ".join(f"'{group}={word}'" for group in groups) or f"'{word or 'KEY'}=VALUE'"


def by_job(override: str) -> str:
    """Return ``hydra.sweep.subdir=NAME`` as a name of the job's own: what another job has finished there is not taken for its."""
    key, _, value = override.partition("=")
    value = value.strip("\"'")
    return (
        f"{key}=\"${{job_folder:'{value}'}}\""
        if key == "hydra.sweep.subdir" and value and not re.search("[\"'\\\\]", value)
        else override
    )


def sweep_key(command: str, flags: list[str], overrides: list[str]) -> str:
    """Return a hash of a command line in which order does not matter: the name of its sweep's folder."""
    folder = next((f"{a} {b}" for a, b in itertools.pairwise(flags) if a in ("--config-dir", "-cd")), "")
    kept = sorted(o for o in overrides if not o.startswith(NOT_HASHED))
    return hashlib.sha256(json.dumps([command, kept, folder]).encode()).hexdigest()[:10]
