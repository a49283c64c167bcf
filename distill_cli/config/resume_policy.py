"""``save_every``: a number of steps, or a time; ``resume``: whether a run goes on where an unfinished one stands."""

from __future__ import annotations

import math
import re

from distill_cli.errors import UserError

AUTO, NEVER = "auto", "never"
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def should_resume(resume: str | None, sweeping: bool) -> bool:
    """Return whether an unfinished run is gone on with: as `resume` says; by default in a sweep, with a folder by config."""
    return resume != NEVER and (resume is not None or sweeping)


def parse_interval(value: object) -> tuple[int | None, float | None]:
    """Return steps and seconds, one of them None; both for null.

    >>> read_every("5min"), read_every(1000), read_every(None)
    ((None, 300.0), (1000, None), (None, None))

    Raises:
        UserError: neither a number of steps >= 1 nor a time above 0.
    """
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value, None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", str(value))
    if found and 0 < (seconds := float(found[1]) * SECONDS[found[2]]) < math.inf:
        return None, seconds
    raise UserError(f"save_every={value}: expected a number of steps (1000), a time (30s, 5min, 1h) or null")
