"""Learning curves of all models on one axis."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from distill_cli.reports.html.components import Chart, Section, by_model, quantity, spec
from distill_cli.reports.html.run.data import RunData
from distill_cli.tasks.registry import report_task

LOSS = ("Training loss: the weighted sum of each model's own terms", "loss")
HEIGHT = 260
BEST = 110  # area of the point at the best epoch, square pixels


def section(data: RunData) -> Section | None:
    """Return one chart for each measure in metrics.csv."""
    charts = [chart for measure in measures(data) if (chart := _chart(data, measure))]
    if not charts:
        return None
    missing = [name for name in data.models if name not in _models(data)]
    text = "Each epoch of each model; the large mark is the epoch whose weights were kept."
    if missing:
        text += f" Not trained in this run, so without a curve here: {', '.join(missing)}."
    return Section("curves", "Learning curves", text, charts)


def measures(data: RunData) -> dict[str, tuple[str, str]]:
    """Return title and axis of each column of metrics.csv that is drawn: the task's metrics of every epoch, and the loss."""
    metrics = [metric for metric in report_task(data.report).metrics if metric.per_epoch]
    titles = {f"val.{m.name}": (f"{m.title[0].upper()}{m.title[1:]} on validation", m.label) for m in metrics}
    return {**titles, "loss": LOSS}


def _models(data: RunData) -> list[str]:
    known = list(dict.fromkeys(str(epoch["model"]) for epoch in data.epochs))
    return [name for name in data.models if name in known] + [name for name in known if name not in data.models]


def rows_of(data: RunData, measure: str) -> list[dict[str, Any]]:
    """Return one row for each epoch that has the measure.

    Args:
        data: the finished run.
        measure: column of metrics.csv, of `MEASURES`.

    Returns:
        Rows with ``model``, ``stage``, ``epoch``, ``value``, and ``best``: 1 for the epoch whose weights were saved, else 0.
    """
    last: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for epoch in data.epochs:
        if epoch.get(measure) is None:
            continue
        if epoch.get("best"):
            last[epoch["model"]] = len(rows)
        rows.append(
            {"model": epoch["model"], "stage": epoch["stage"], "epoch": epoch["epoch"], "value": epoch[measure], "best": 0}
        )
    for position in last.values():
        rows[position]["best"] = 1
    return rows


def _chart(data: RunData, measure: str) -> Chart | None:
    title, unit = measures(data)[measure]
    rows = rows_of(data, measure)
    if not rows:
        return None
    names = [name for name in _models(data) if any(row["model"] == name for row in rows)]
    x, y = quantity("epoch", "epoch", axis={"tickMinStep": 1}), quantity("value", unit)
    tips = [{"field": "model"}, {"field": "stage"}, {"field": "epoch"}, {"field": "value", "format": ".4f", "title": unit}]
    looks = by_model(names, "color", "strokeDash", "shape")
    colour, dash, shape = looks["color"], looks["strokeDash"], looks["shape"]
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash}},
        {
            "transform": [{"filter": {"field": "best", "equal": 1}}],
            "mark": {"type": "point", "filled": True, "size": BEST, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tips},
        },
        {"mark": {"type": "point", "opacity": 0, "size": 60}, "encoding": {"x": x, "y": y, "tooltip": tips}},
    ]
    if stages := _stage_starts(rows):
        rule = {
            "data": {"values": stages},
            "mark": {"type": "rule", "strokeDash": [2, 4]},
            "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
        }
        layers.insert(0, rule)
    note = f"Dotted lines: a stage of the student begins ({', '.join(stage['stage'] for stage in stages)})." if stages else ""
    return Chart(title, spec(rows, HEIGHT, layer=layers), note, marks=2 * len(rows), wide=measure == next(iter(measures(data))))


def _stage_starts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return epoch and name of each stage of the student after the first."""
    starts = []
    student = [row for row in rows if row["model"] == "student"]
    for before, after in pairwise(student):
        if before["stage"] != after["stage"]:
            starts.append({"epoch": after["epoch"] - 0.5, "stage": after["stage"]})
    return starts
