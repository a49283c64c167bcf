"""Teacher, student and controls side by side, with their scores on one axis."""

from __future__ import annotations

from typing import Any

from distill_cli.reports import formatting
from distill_cli.reports.html.components import Chart, Section, Spec, Table, by_model, category, quantity, spec
from distill_cli.reports.html.run.data import RunData
from distill_cli.reports.run import model_table
from distill_cli.tasks.registry import report_task

ROLES = {
    "teacher": "teaches",
    "student": "distilled",
    "scratch": "same network, without the teacher",
    "tuned": "without the teacher, its own search",
    "uncorrected": "the student before its bias fix",
}
LATENCY_BATCH = "1"


def cards(data: RunData) -> list[dict[str, Any]]:
    """Return the summary card of each model."""
    task, summaries = report_task(data.report), []
    metric = task.primary_metric
    for name in data.models:
        model, scores = data.report["models"][name], data.scores(name)
        latency = (model.get("latency_ms") or {}).get(LATENCY_BATCH) or {}
        facts = [
            ("95 % interval", formatting.interval(scores.get(f"{metric.name}_ci95"))),
            *((metric.title, formatting.score(scores.get(metric.name))) for metric in task.metrics[1:2]),
            ("parameters", formatting.count(model.get("parameters"))),
            ("weights", formatting.size(model.get("weight_bytes"))),
            ("MACs a sample", formatting.count(model.get("macs"))),
            ("latency, batch 1, median", formatting.milliseconds(latency.get("p50"))),
            ("latency, batch 1, p99", formatting.milliseconds(latency.get("p99"))),
        ]
        summaries.append(
            {
                "name": name,
                "role": ROLES.get(name, "control"),
                "score": formatting.score(scores.get(metric.name)),
                "scored": f"{metric.title}, {data.split}",
                "facts": [(what, value) for what, value in facts if value != formatting.MISSING],
            }
        )
    return summaries


def section(data: RunData) -> Section | None:
    """Return the primary metric of each model with its interval, and the table of all figures."""
    if data.split is None:
        return None
    metric, rows = model_table.primary_metric(data.report), []
    for name in data.models:
        scores = data.scores(name)
        low, high = scores.get(f"{metric.name}_ci95") or (None, None)
        if scores:
            rows.append({"model": name, "score": scores[metric.name], "low": low, "high": high})
    y = category("model", None, [row["model"] for row in rows])
    tips = [{"field": "model"}, *({"field": k, "format": ".4f"} for k in ("score", "low", "high"))]
    looks = by_model([row["model"] for row in rows], "color", "shape")
    for look in looks.values():
        look["legend"] = None
    title = f"{metric.title}, {data.split}"
    point = {"y": y, "x": quantity("score", title), **looks, "tooltip": tips}
    rule = {"y": y, "x": quantity("low", title), "x2": {"field": "high"}, "color": looks["color"]}
    layers: list[Spec] = [{"mark": {"type": "point", "filled": True, "size": 110, "opacity": 1}, "encoding": point}]
    if any(row["low"] is not None for row in rows):
        layers.insert(0, {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": rule})
    note = (
        "Bars: 95 % bootstrap intervals of this one run. The verdict rests on the paired difference, not on whether bars overlap."
    )
    chart = Chart(
        f"{metric.title[0].upper()}{metric.title[1:]} with intervals",
        spec(rows, 34 * len(rows) + 20, layer=layers),
        note,
        wide=True,
    )
    table = Table(["", *data.models], [[what, *line] for what, line in model_table.rows(data.report)])
    return Section("models", "Models side by side", "", [chart], tables=[table])
