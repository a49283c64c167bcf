"""Paths into a report: the `require` gate and a sweep's optimized metric."""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distill_cli.errors import UserError, did_you_mean

# Sections of report.json that hold numbers.
NUMERIC_PARTS = ("models", "comparison", "terms", "stages", "data", "budget", "bench", "export")
MODELS, SPLITS = ("student", "teacher", "scratch", "tuned"), ("train", "val", "test")
SIZES = ("parameters", "macs", "weight_bytes", "file_bytes", "peak_activation_bytes", "latency_ms")
# First parts of a path, beside metrics; any other is rejected before anything is trained.
FIRST_WORDS = (*NUMERIC_PARTS, *MODELS, *SPLITS, *SIZES)
UNITS = {
    "": 1, "%": 0.01, "k": 1e3, "M": 1e6, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024, "MiB": 1024**2, "ms": 1, "s": 1e3,
}  # fmt: skip
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "": operator.ge,
}  # fmt: skip


class RequirementMissed(Exception):
    """A finished run that misses a bound of `require`, with exit code 3."""


def flatten(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of every leaf."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def check_bounds(require: Mapping[str, Any]) -> None:
    """Check the paths and bounds of `require` before training.

    Raises:
        UserError: a bound cannot be parsed, or no report has the first part of a path.
    """
    from distill_cli.tasks.registry import all_metrics, part_keys  # tasks import numpy: composing a config does not

    for path, bound in flatten(require):
        read_bound(path, bound)
        first = path.split(".")[0]
        known = (*FIRST_WORDS, *all_metrics(), "agreement", *part_keys(), "confusion")
        if first not in known:
            raise UserError(f"require.{path}: a report has no '{first}'{did_you_mean(first, known)}")


def read_bound(path: str, bound: Any) -> tuple[Callable[[float, float], bool], float]:
    """Return the comparison and the number of a bound.

    A plain number means "at least".

    >>> read_bound("weight_bytes", "<=50kB")
    (<built-in function le>, 50000.0)

    Raises:
        UserError: the bound is neither a finite number nor a comparison with one.
    """
    if isinstance(bound, (int, float)) and not isinstance(bound, bool) and math.isfinite(bound):
        return operator.ge, float(bound)
    match = re.fullmatch(r"(>=|<=|==|>|<|) *([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?) *([A-Za-z%]*)", str(bound).strip(), re.I)
    if isinstance(bound, bool) or not match or match[3] not in UNITS:
        hint = did_you_mean(match[3], UNITS) if match and match[3] not in UNITS else ""
        raise UserError(f"require.{path}={bound}: expected a number, or a comparison such as '>=0.9' or '<=50kB'{hint}")
    return COMPARISONS[match[1]], float(match[2]) * UNITS[match[3]]


def look_up(report: Mapping[str, Any], path: str, command: str) -> float | None:
    """Return the number at a path of a report.

    A path may leave out `models`, the command's own model and the split `test`: ``val.accuracy``, ``per_class.V.f1``,
    ``weight_bytes``, ``latency_ms`` (the median of single samples).

    Raises:
        UserError: the report has no number there.
    """
    numbers = {k: v for k, v in flatten(report) if v is None or (isinstance(v, (int, float)) and not isinstance(v, bool))}
    for full in full_paths(report, path, command):
        if full in numbers:
            return numbers[full]
    raise UserError(
        f"{path}: report.json has no number there{did_you_mean(path, [key for key in numbers if not key.startswith('config.')])}"
    )


def full_paths(report: Mapping[str, Any], path: str, command: str) -> Iterator[str]:
    """Yield the full paths that a path may stand for, the nearest first."""
    models = report.get("models", {})
    model = report.get("exported_model") or ("teacher" if command == "train-teacher" or "student" not in models else "student")
    for start in ("", "models.", f"models.{model}.", f"models.{model}.test.", "bench.results.", f"bench.results.{model}."):
        for end in ("", ".p50", ".1.p50"):
            yield f"{start}{path}{end}"


def check_require(report: Mapping[str, Any], require: Mapping[str, Any], command: str) -> None:
    """Check a report against the bounds of `require`.

    Raises:
        RequirementMissed: a value misses its bound, or is null.
        UserError: the report does not have a path.
    """
    for path, bound in flatten(require):
        holds, number = read_bound(path, bound)
        try:
            value = look_up(report, path, command)
        except UserError as e:
            raise UserError(f"require.{e}") from None
        if value is None or not holds(value, number):
            raise RequirementMissed(f"require.{path}={bound} missed: {format_value(value, number, holds)}")


def format_value(value: float | None, bound: float, holds: Callable[[float, float], bool] = operator.ge) -> str:
    """Return a value with four decimals, or all if rounding hides the miss."""
    if value is None:
        return "null"
    return str(value if holds(round(value, 4), bound) else round(value, 4))


def optimized_metric(report: Mapping[str, Any], path: str) -> float:
    """Return the number that a sweeper maximizes, or NaN with a line on stderr.

    NaN stands for a report without such a number.
    """
    try:
        value = look_up(report, path, "")
    except UserError as e:
        sys.stderr.write(f"optimized_metric={e}\n")
        value = None
    return float("nan") if value is None else float(value)
