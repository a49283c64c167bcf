"""Which command reads which key, so that none is accepted and ignored. Neither torch nor numpy, so that composing stays fast."""

from __future__ import annotations

from dataclasses import fields

from distill_cli.config.options import UNREAD
from distill_cli.config.schema import COMMANDS

TRAINING_COMMANDS = ("distill", "train-teacher", "layers")
PRESETS = ("experiment", "hparams")


def unread(command: str, key: str, package: str | None) -> str | None:
    """Return the line for a key or group that a command does not read and another does; else None.

    Args:
        command: the first word of the line.
        key: as it is handed to Hydra, without a plus.
        package: where the option of a group goes, such as ``teacher.optimizer``.
    """
    place = package or key
    readers = [other for other in COMMANDS if other != "layers" and reads(other, place)]
    if reads(command, place) or not readers:
        return None
    verb = "do" if len(readers) > 1 else "does"
    return f"{place}: {command} does not read it; {' and '.join(readers)} {verb}"


def reads(command: str, place: str) -> bool:
    """Return whether a command reads what stands at a place of its config."""
    first = place.partition(".")[0]
    known = first in PRESETS if command in TRAINING_COMMANDS else False
    known = known or first in {field.name for field in fields(COMMANDS[command])}
    return known and not any(place == path or place.startswith(f"{path}.") for path in UNREAD.get(command, ()))
