"""The command line that trains a run's setting with the seeds of a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

SEEDS = "seed=5,6,7,8,9"
OF_ONE_RUN = ("seed", "hydra.run.dir", "resume")


def command_line(report: Mapping[str, Any]) -> str | None:
    """Return the command line for five seeds of a run's setting, or None.

    None stands for a command that trains no student, and for a report without a command line.
    """
    typed = (report.get("provenance") or {}).get("command_line")
    if report.get("command") != "distill" or not typed:
        return None
    try:
        arguments = shlex.split(str(typed))
    except ValueError:  # not a command line of this tool
        return None
    shared = [
        argument
        for argument in arguments
        if argument.lstrip("+").partition("=")[0] not in OF_ONE_RUN and argument not in ("-m", "--multirun")
    ]
    return shlex.join([*shared, "-m", SEEDS])
