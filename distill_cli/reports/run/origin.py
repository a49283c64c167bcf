"""The finished run that a report of `eval`, `export` or `bench` is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def origin(report: Mapping[str, Any]) -> str:
    """Return the text on the run that was opened.

    The text is empty for a report on a run of its own.
    """
    folder = report.get("source_run")
    return (
        "" if folder is None else "; ".join([f"run {folder}, seed {report.get('seed')}", *other_data(report.get("data") or {})])
    )


def other_data(data: Mapping[str, Any]) -> list[str]:
    """Return warnings where scores are of other data than the run's, else none.

    Args:
        data: section ``data`` of the report.
    """
    if "run_fingerprint" not in data or data["run_fingerprint"] == data.get("fingerprint"):
        return []
    lines = [f"NOT on the data of the run: fingerprint {data.get('fingerprint')}, the run's is {data['run_fingerprint']}"]
    sizes = {split: sum(counts.values()) for split, counts in (data.get("class_counts") or {}).items()}
    for model, counts in (data.get("trained_on") or {}).items():
        rows = ", ".join(f"{n:,} of {sizes.get(split, 0):,} rows of {split}" for split, n in counts.items())
        lines.append(f"{model} was trained on {rows}")
    return lines
