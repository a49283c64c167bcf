"""The keys that each command reads, so that none is accepted and ignored.

Neither torch nor numpy is imported, so that composing stays fast.
"""

from __future__ import annotations

from dataclasses import fields

from distill_cli.config.options import UNREAD
from distill_cli.config.schema import COMMANDS

TRAINING_COMMANDS = ("distill", "train-teacher", "layers")
PRESETS = ("experiment", "hparams")


def unread(command: str, key: str, package: str | None) -> str | None:
    """Return the message on a key that only other commands read, else None.

    Args:
        command: name of the command.
        key: key as passed to Hydra, without a plus.
        package: place of a group's option, such as ``teacher.optimizer``.
    """
    place = package or key
    readers = [name for name in COMMANDS if name != "layers" and reads(name, place)]
    if reads(command, place) or not readers:
        return None
    verb = "do" if len(readers) > 1 else "does"
    return f"{place}: {command} does not read it; {' and '.join(readers)} {verb}"


def reads(command: str, place: str) -> bool:
    """Return whether a command reads a place of its config."""
    first = place.partition(".")[0]
    known = first in PRESETS if command in TRAINING_COMMANDS else False
    known = known or first in {field.name for field in fields(COMMANDS[command])}
    return known and not any(place == path or place.startswith(f"{path}.") for path in UNREAD.get(command, ()))
