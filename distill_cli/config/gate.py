"""Paths of a report: the `require` gate and a sweep's objective."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from distill_cli.errors import UserError, near

SHORT = "macro_f1"
# What report.json holds numbers under; a first word that is none of these is refused before anything is trained.
NUMERIC_PARTS = (SHORT, "models", "comparison", "terms", "stages", "data", "budget")


class RequirementMissed(Exception):
    """A finished run is worse than its `require` allows: exit code 3."""


def flatten(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted path, value)`` of every leaf."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def check_bounds(require: Mapping[str, Any]) -> None:
    """Check what can be known of `require` before training.

    Raises:
        UserError: a bound is no finite number, or a path starts with a word that no report has.
    """
    for path, bound in flatten(require):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
            raise UserError(f"require.{path}={bound}: expected a number")
        first = path.split(".")[0]
        if first not in NUMERIC_PARTS:
            raise UserError(f"require.{path}: a report has no '{first}'{near(first, NUMERIC_PARTS)}")


def look_up(report: Mapping[str, Any], path: str, command: str) -> float | None:
    """Return the number at a path of a report; `macro_f1` is short for the command's own model on test.

    Raises:
        UserError: the report has no number there.
    """
    if path == SHORT:
        models = report.get("models", {})
        model = "teacher" if command == "train-teacher" or "student" not in models else "student"
        path = f"models.{model}.test.macro_f1"
    numbers = {k: v for k, v in flatten(report) if v is None or (isinstance(v, (int, float)) and not isinstance(v, bool))}
    if path not in numbers:
        raise UserError(f"{path}: report.json has no number there{near(path, numbers)}")
    return numbers[path]


def check_require(report: Mapping[str, Any], require: Mapping[str, Any], command: str) -> None:
    """Hold a report against the least values that `require` asks for.

    Raises:
        RequirementMissed: a value is below its bound, or null.
        UserError: a path that the report does not have.
    """
    for path, bound in flatten(require):
        try:
            value = look_up(report, path, command)
        except UserError as e:
            raise UserError(f"require.{e}") from None
        if value is None or value < bound:
            raise RequirementMissed(f"require.{path}={bound} missed: {shown(value, bound)}")


def shown(value: float | None, bound: float) -> str:
    """Return a value with four digits, or with all of them where four would make it look like the bound it misses."""
    if value is None:
        return "null"
    return str(value if round(value, 4) >= bound else round(value, 4))


def objective_of(report: Mapping[str, Any], path: str) -> float:
    """Return what a sweeper maximises; NaN, with a word on stderr, where the report has no such number."""
    try:
        value = look_up(report, path, "")
    except UserError as e:
        sys.stderr.write(f"objective={e}\n")
        value = None
    return float("nan") if value is None else float(value)
