"""The command line that ran a job, as it was typed."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

from distill_cli.config.overrides import TYPED_WORDS, normalize_override

MULTIRUN = ("-m", "--multirun")
OF_A_SWEEP = r"\+*(?:hydra[./](?:sweep|sweeper|launcher|mode)\b.*|sweep)"  # keys that mean nothing to one job


def typed_line(command: str, job: Sequence[str]) -> str:
    """Return the whole line as it was typed, quoted for a shell.

    Args:
        command: its first word.
        job: the overrides of the job, as Hydra has them; they stand in where no line was typed.
    """
    return shlex.join(["distill", command, *_typed(job)])


def job_line(command: str, job: Sequence[str]) -> str:
    """Return the command line that runs one job of a sweep alone.

    It is the line as it was typed, with the job's value where several were.

    Args:
        command: its first word.
        job: the overrides of the job, as Hydra has them.
    """
    values = {key.lstrip("+"): value for key, _, value in (argument.partition("=") for argument in job)}
    parser = OverridesParser.create()
    arguments: list[str] = []
    for argument in _typed(job):
        key = argument.partition("=")[0]
        if argument in MULTIRUN or re.fullmatch(OF_A_SWEEP, key):
            continue
        if argument.startswith(("-", "~")) or "=" not in argument:
            arguments.append(argument)
            continue
        override = normalize_override(command, argument)
        value = values.pop(override.partition("=")[0].lstrip("+"), None)
        is_swept = value is not None and parser.parse_override(override).is_sweep_override()
        arguments.append(f"{key}={value}" if is_swept else argument)
    sweeper_values = [f"{key}={v}" for key, v in values.items() if not key.startswith("~") and not re.fullmatch(OF_A_SWEEP, key)]
    return shlex.join(["distill", command, *arguments, *sweeper_values])  # of a sweeper, from its own settings


def _typed(job: Sequence[str]) -> list[str]:
    """Return the words after the command."""
    return list(json.loads(os.environ.get(TYPED_WORDS, "null")) or job)
