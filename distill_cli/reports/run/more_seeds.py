"""The line that trains a run's setting with the seeds that a verdict needs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

SEEDS = "seed=5,6,7,8,9"
OF_ONE_RUN = ("seed", "hydra.run.dir", "resume")


def command_line(report: Mapping[str, Any]) -> str | None:
    """Return what to type for five seeds of a run of one seed; None of a command that trains no student."""
    typed = (report.get("provenance") or {}).get("command_line")
    if report.get("command") != "distill" or not typed:
        return None
    try:
        words = shlex.split(str(typed))
    except ValueError:  # a report from elsewhere
        return None
    kept = [word for word in words if word.lstrip("+").partition("=")[0] not in OF_ONE_RUN and word not in ("-m", "--multirun")]
    return shlex.join([*kept, "-m", SEEDS])
