"""Which finished run a report of `eval`, `export` or `bench` is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPENED = ("evaluated_run", "exported_run", "benched_run")  # keys of such a report that name the run folder


def origin(report: Mapping[str, Any]) -> str:
    """Return in words the run that was opened, empty for a report of a run of its own."""
    folder = next((report[key] for key in OPENED if report.get(key)), None)
    return "" if folder is None else f"run {folder}, seed {report.get('seed')}"
