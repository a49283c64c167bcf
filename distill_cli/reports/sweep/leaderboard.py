"""The table over runs: settings, means over seeds, differences, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from distill_cli.metrics.statistics import MIN_SEEDS, holm, minimum_detectable_effect, paired_t, verdict_label
from distill_cli.reports.sweep.collect import Run, RunCollection
from distill_cli.reports.sweep.settings import labels, same_setting
from distill_cli.reports.sweep.sort_and_filter import sort
from distill_cli.reports.sweep.table import Comparison, Leaderboard, Row
from distill_cli.tasks.registry import all_metrics, report_task


def build_leaderboard(collection: RunCollection, metric: str | None = None) -> Leaderboard:
    """Return the table of the finished runs, best first by mean validation score.

    Test scores never decide the order.

    Args:
        collection: the runs.
        metric: metric of any task; None: the primary one of the runs' task.
    """
    metric = metric or usual_metric(collection)
    notes: list[str] = []
    groups = [_one_a_seed(group, notes) for group in _groups(collection.finished)]
    names, shared = labels(groups)
    rows = [_row(label, group, metric) for label, group in zip(names, groups, strict=True)]
    controls = list(dict.fromkeys(c.control for row in rows for c in row.comparisons))
    controls.sort(key=control_order)
    table = Leaderboard(metric, rows, controls, shared, collection, notes)
    _correct(table)
    sort(table, "validation")
    if any(row.one_teacher and len(row.runs) > 1 for row in rows):
        notes.append("a teacher without +- served all seeds of its row: intervals over seeds say nothing about other teachers")
    return table


def usual_metric(collection: RunCollection) -> str:
    """Return the primary metric of the task of the first finished run.

    Of classification where there is none.
    """
    return report_task(collection.finished[0].report if collection.finished else None).primary_metric.name


def control_order(name: str) -> tuple[bool, bool]:
    """Return a sort key for controls: tuned, then scratch, then the others.

    Why: the control that is harder to beat comes first.
    """
    return name != "tuned", name != "scratch"


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values, 0 for none."""
    return sum(values) / len(values) if values else 0.0


def score(run: Run, model: str, split: str, metric: str) -> float | None:
    """Return a model's score on a split, or None."""
    part = (run.report["models"].get(model) or {}).get(split)
    value = part.get(metric) if isinstance(part, dict) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    groups: list[list[Run]] = []
    for run in runs:
        group = next((g for g in groups if same_setting(g[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _one_a_seed(group: Sequence[Run], notes: list[str]) -> list[Run]:
    newest: dict[int | None, Run] = {}
    for run in sorted(group, key=lambda run: run.written):
        if run.seed in newest:
            notes.append(f"seed {run.seed} is there twice: {newest[run.seed].folder} is not counted, {run.folder} is newer")
        newest[run.seed] = run
    return [newest[seed] for seed in sorted(newest, key=lambda seed: (seed is None, seed or 0))]


def _row(label: str, runs: list[Run], metric: str) -> Row:
    models = list(dict.fromkeys(name for run in runs for name, model in run.report["models"].items() if model))
    test = {name: [s for run in runs if (s := score(run, name, "test", metric)) is not None] for name in models}
    leader = "student" if "student" in models else "teacher"
    val = [s for run in runs if (s := score(run, leader, "val", metric)) is not None]
    comparisons = []
    for control in (name for name in models if name not in ("teacher", "student")):
        both = [(score(run, "student", "test", metric), score(run, control, "test", metric)) for run in runs]
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        comparisons.append(Comparison(control, [a for a, _ in pairs], [b for _, b in pairs], {}))
    comparisons.sort(key=lambda c: control_order(c.control))
    return Row(label, runs, val, {name: values for name, values in test.items() if values}, comparisons)


def _correct(table: Leaderboard) -> None:
    """Compute the paired tests and their verdicts, corrected by Holm's method."""
    metric = all_metrics()[table.metric]
    sign = 1 if metric.higher_is_better else -1
    comparisons = [comparison for _, comparison in table.comparisons]
    for c in comparisons:
        bounds = None if metric.bounds is None else (metric.bounds[0] - metric.bounds[1], metric.bounds[1] - metric.bounds[0])
        c.result = paired_t([sign * (a - b) for a, b in zip(c.student, c.scores, strict=True)], bounds=bounds)
    tested = [c for c in comparisons if c.result["n"] >= MIN_SEEDS]
    adjusted = holm([c.result["p"] for c in tested]) if len(tested) > 1 else [None] * len(tested)
    corrected = sum(p is not None for p in adjusted)
    for c, p in zip(tested, adjusted, strict=True):
        c.result["p_holm"] = p
        if p is not None:
            c.result["minimum_detectable_effect"] = minimum_detectable_effect(c.result["n"], c.result["sd"], corrected)
        c.result["verdict"] = verdict_label(c.result["n"], c.result["mean"], c.result["p"] if p is None else p)
    for c in comparisons if sign < 0 else ():
        c.result["mean"] = None if c.result["mean"] is None else -c.result["mean"]
        c.result["ci95"] = c.result["ci95"] and [-c.result["ci95"][1], -c.result["ci95"][0]]
    if corrected > 1:
        table.notes.append(f"p and verdicts are corrected for {corrected} comparisons (Holm)")
