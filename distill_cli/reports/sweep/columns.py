"""The columns of a table over runs, and the sentences around the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_cli.metrics.statistics import INTERVAL_SEEDS, MIN_SEEDS, bracket, mean_std, p_text, verdict_over_seeds
from distill_cli.reports import formatting
from distill_cli.reports.formatting import MISSING
from distill_cli.reports.sweep.sort_and_filter import latency, size
from distill_cli.reports.sweep.table import Comparison, Leaderboard, Row
from distill_cli.tasks.registry import all_metrics

FOLDERS_TITLE = "run folders"


def default_columns(result: Leaderboard) -> list[str]:
    """Return the columns of a table where none are named."""
    return ["method", "n", "val", "student", *result.controls, "teacher", "difference", "p", "verdict", "folders"]


def column_cells(result: Leaderboard) -> dict[str, tuple[str, Callable[[Row], str]]]:
    """Return title and cell function of every column."""
    columns: dict[str, tuple[str, Callable[[Row], str]]] = {
        "method": ("method", lambda row: row.label),
        "n": ("n", lambda row: str(len(row.runs))),
        "seeds": ("seeds", lambda row: " ".join(str(seed) for seed in row.seeds)),
        "val": (f"val {all_metrics()[result.metric].title}", lambda row: mean_std(row.val) if row.val else MISSING),
    }
    for name in ("student", *result.controls, "teacher"):
        columns[name] = (f"{name}, test", _model_cell(name))
    control = result.controls[0] if result.controls else "control"
    columns["difference"] = (f"student - {control}", _difference_cell)
    columns["p"] = ("p", _first(_p_cell))
    columns["detectable"] = ("detectable", _first(_detectable_cell))
    columns["verdict"] = ("verdict", lambda row: row.comparisons[0].result["verdict"] if row.comparisons else MISSING)
    columns["folders"] = (FOLDERS_TITLE, lambda row: " ".join(result.folders(row)))
    columns["parameters"] = ("parameters", lambda row: formatting.count(size(row, "parameters")))
    columns["weights"] = ("weights", lambda row: formatting.size(size(row, "weight_bytes")))
    columns["latency"] = ("latency, batch 1", lambda row: formatting.milliseconds(latency(row)))
    return columns


def _model_cell(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        values = row.test.get(name)
        if not values:
            return MISSING
        return f"{values[0]:.3f}" if name == "teacher" and row.one_teacher else mean_std(values)

    return cell


def _first(show_result: Callable[[Mapping[str, Any]], str]) -> Callable[[Row], str]:
    return lambda row: show_result(row.comparisons[0].result) if row.comparisons else MISSING


def _difference_cell(row: Row) -> str:
    if not row.comparisons or row.comparisons[0].result["mean"] is None:
        return MISSING
    comparison, result = row.comparisons[0], row.comparisons[0].result
    around = "" if result["ci95"] is None else f" {bracket(result['ci95'])}"
    if _has_two_values(comparison):
        around = f" ({', '.join(f'{a - b:+.3f}' for a, b in zip(comparison.student, comparison.scores, strict=True))})"
    return f"{result['mean']:+.3f}{around}"


def _has_two_values(comparison: Comparison) -> bool:
    """Return whether a cell shows each seed's difference instead of an interval."""
    return 1 < comparison.result["n"] < INTERVAL_SEEDS


def _p_cell(result: Mapping[str, Any]) -> str:
    p = result["p"] if result.get("p_holm") is None else result["p_holm"]
    return MISSING if p is None or result["n"] < MIN_SEEDS else p_text(p)


def _detectable_cell(result: Mapping[str, Any]) -> str:
    return MISSING if result["minimum_detectable_effect"] is None else f"{result['minimum_detectable_effect']:.3f}"


def caption(result: Leaderboard) -> list[str]:
    """Return the sentences below the table: counts of runs, order, legend."""
    collection = result.collection
    counts = {"finished": len(collection.finished), "unfinished": len(collection.unfinished), "failed": len(collection.failed)}
    counts["unreadable"] = len(collection.unreadable)
    lines = [f"{collection.total} runs: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)]
    if result.rows:
        order = "best first by validation, never by test" if result.sorted_by == "validation" else f"sorted by {result.sorted_by}"
        lines.append(f"{all_metrics()[result.metric].title}, mean +- sample standard deviation over n seeds; {order}")
    if result.rows:
        lines.append(f"run folders, in the order of their seeds, are named as seen from {result.home}")
    if any(c.result["ci95"] is not None for _, c in result.comparisons):
        lines.append("in brackets: 95 % paired t interval over seeds")
    if any(_has_two_values(c) for _, c in result.comparisons):
        lines.append(f"in parentheses: the difference of each seed; a t interval needs {INTERVAL_SEEDS} seeds or more")
    if result.shared:
        lines.append(f"all: {' '.join(result.shared)}")
    return lines + result.notes


def problems(result: Leaderboard) -> list[str]:
    """Return one line for each run that failed or cannot be read."""
    failed = [f"failed: {folder}: {line}" for folder, line in result.collection.failed]
    return failed + [f"unreadable: {line}" for line in result.collection.unreadable]


def sentences(result: Leaderboard, only: Sequence[Comparison] | None = None) -> list[str]:
    """Return the verdict on each row against each of its controls.

    Args:
        result: the table.
        only: the comparisons to write about; None: all.
    """
    several = len(result.rows) > 1
    comparisons = [(row, c) for row, c in result.comparisons if only is None or any(c is selected for selected in only)]
    return [(f"{row.label}: " if several else "") + _sentence(c, result.metric) for row, c in comparisons]


def _sentence(comparison: Comparison, metric: str) -> str:
    return verdict_over_seeds(
        comparison.student, comparison.scores, comparison.result, comparison.control, all_metrics()[metric].title
    )
