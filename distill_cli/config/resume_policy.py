"""Policy of training checkpoints: how often, and whether a run is resumed.

The keys are ``save_every`` (a number of steps, or a time) and ``resume``.
"""

from __future__ import annotations

import math
import re

from distill_cli.errors import UserError

AUTO, NEVER = "auto", "never"
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def should_resume(resume: str | None, sweeping: bool) -> bool:
    """Return whether an unfinished run is resumed.

    By default a job of a sweep is resumed, since its folder is named by its config.
    """
    return resume != NEVER and (resume is not None or sweeping)


def parse_interval(value: object) -> tuple[int | None, float | None]:
    """Return steps and seconds of an interval, one or both None.

    Both are None for null.

    >>> parse_interval("5min"), parse_interval(1000), parse_interval(None)
    ((None, 300.0), (1000, None), (None, None))

    Raises:
        UserError: the value is neither a number of steps >= 1 nor a time above 0.
    """
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value, None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", str(value))
    if match and 0 < (seconds := float(match[1]) * SECONDS[match[2]]) < math.inf:
        return None, seconds
    raise UserError(f"save_every={value}: expected a number of steps (1000), a time (30s, 5min, 1h) or null")
