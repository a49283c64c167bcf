"""Score against cost: parameters, bytes, MACs and latency, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from distill_cli.reports.html.components import Chart, Section, Spec, quantity, spec
from distill_cli.reports.html.sweep import seeds
from distill_cli.reports.sweep.leaderboard import mean, score
from distill_cli.reports.sweep.table import Leaderboard, Row
from distill_cli.tasks.registry import all_metrics

COSTS = {
    "parameters": ("Against parameters", "parameters"),
    "weight_bytes": ("Against the bytes of the weights", "weights, bytes"),
    "macs": ("Against multiply-accumulates", "multiply-accumulates a sample"),
    "latency": ("Against latency", "median latency of a sample, CPU, ms"),
}
HEIGHT = 280


def section(result: Leaderboard) -> Section | None:
    """Return the section with one chart for each known cost."""
    means = [point for n, row in enumerate(result.rows) for point in points(row, n, result.metric)]
    charts = [chart for cost in COSTS if (chart := _chart(result, means, cost))]
    if not charts:
        return None
    text = (
        f"{seeds.TEXT} The dashed line is the Pareto front of the means: whatever lies on its bad side costs at least as much as "
        "something that scores at least as well."
    )
    return Section("cost", "Score against cost", text, charts)


def points(row: Row, number: int, metric: str) -> list[dict[str, Any]]:
    """Return one point for each model of a row: scores and costs."""
    model_points = []
    for model, values in row.test.items():
        parts = [run.report["models"].get(model) or {} for run in row.runs]
        latencies = [p for part in parts if (p := ((part.get("latency_ms") or {}).get("1") or {}).get("p50")) is not None]
        costs = {key: next((part[key] for part in parts if part.get(key) is not None), None) for key in COSTS if key != "latency"}
        costs["latency"] = median(latencies) if latencies else None
        each = [s for run in row.runs if (s := score(run, model, "test", metric)) is not None]
        point = {"row": number, "method": row.label, "model": model, "score": mean(values), "n": len(values)}
        model_points.append({**point, "seeds": each, **costs})
    return model_points


def front(candidates: Sequence[Mapping[str, Any]], cost: str, lower_is_better: bool) -> list[Mapping[str, Any]]:
    """Return the Pareto front of the points, cheapest first.

    A point is on the front if no other costs at most as much and scores at least as well.

    Args:
        candidates: points with ``score`` and the cost.
        cost: key of the cost, of `COSTS`.
        lower_is_better: whether a lower score is better.
    """
    sign = -1 if lower_is_better else 1
    best, optimal = float("-inf"), []
    for point in sorted(candidates, key=lambda p: (p[cost], -sign * p["score"])):
        if sign * point["score"] > best:
            best = sign * point["score"]
            optimal.append(point)
    return optimal


def _chart(result: Leaderboard, means: Sequence[Mapping[str, Any]], cost: str) -> Chart | None:
    known = [point for point in means if point[cost] is not None]
    if not known:
        return None
    title, unit = COSTS[cost]
    rows = [{key: point[key] for key in ("row", "method", "model", "score", "n", cost)} for point in known]
    dots = [{**row, "score": s} for row, point in zip(rows, known, strict=True) for s in point["seeds"]]
    best = front(rows, cost, not all_metrics()[result.metric].higher_is_better)
    format = "~g" if cost == "latency" else "~s"
    x = quantity(cost, unit, scale={"type": "log", "nice": False, "padding": 20}, axis={"format": format})
    place = {"x": x, "y": seeds.axis(result)}
    line = {"type": "line", "interpolate": "step-after", "strokeDash": [6, 3], "style": "diagonal"}
    layers: list[Spec] = [
        {"data": {"values": best}, "mark": line, "encoding": place},
        *seeds.layers(rows, dots, place, seeds.tips(result, {"field": cost, "title": unit, "format": ",.4~g"})),
    ]
    return Chart(title, spec(rows, HEIGHT, params=seeds.PARAMS, layer=layers), marks=len(rows) + len(dots))
