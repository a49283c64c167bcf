"""What the keys of commands that open a finished run must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.config.rules import Rule, at_least, check_rules, one_of, shown
from distill_cli.errors import UserError, near

FORMATS = ("safetensors", "onnx", "onnx-int8", "c")
EXPORT_RULES = {
    "calibrate": one_of(True, False),
    "max_f1_drop": Rule(holds=lambda v: 0 <= v <= 1, says=">= 0 and at most 1"),
    "calibration_rows": at_least(1),
    "device.name": Rule(words=("cpu", "auto")),
}


def check_opening(config: Mapping[str, Any], command: str) -> None:
    """Check the keys of one of these commands.

    Raises:
        UserError: the first that is wrong.
    """
    if command == "export":
        check_rules(config, EXPORT_RULES)
        formats(config["format"])
        for key in ("output", "checkpoint_model"):
            if config.get(key) is not None and not str(config[key]).strip():
                raise UserError(f"{key} is empty: {'name a folder' if key == 'output' else 'name a model of the run'}")


def formats(value: Any) -> list[str]:
    """Return the formats that were asked for, each once.

    Raises:
        UserError: none, or one that does not exist.
    """
    wanted = value if isinstance(value, list | tuple) else [value]
    for word in wanted:
        if word not in FORMATS:
            raise UserError(f"format={shown(word)}: no such format{near(str(word), FORMATS)} (it has: {', '.join(FORMATS)})")
    if not wanted:
        raise UserError(f"format=[]: name one or more of {', '.join(FORMATS)}")
    return list(dict.fromkeys(wanted))
