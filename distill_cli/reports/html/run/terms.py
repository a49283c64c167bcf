"""Charts of the loss terms over the epochs: weighted value and gradients."""

from __future__ import annotations

from typing import Any

from distill_cli.reports.html.components import DASHES, Chart, Section, quantity, spec
from distill_cli.reports.html.run.data import RunData

HEIGHT = 220
KINDS = {
    "term.": ("Loss terms of the {model}", "weighted loss"),
    "weight.": ("Weights of the terms", "weight"),
    "share.": ("Share of the gradient", "share of the summed lengths"),
    "cosine.": ("Angles between gradients", "cosine"),
}


def section(data: RunData) -> Section | None:
    """Return one chart for each kind of value that the student's epochs hold.

    With a single term there is no chart of loss terms, since the term is the loss.
    """
    model = "student" if any(epoch["model"] == "student" for epoch in data.epochs) else "teacher"
    epochs = [epoch for epoch in data.epochs if epoch["model"] == model]
    charts = []
    for prefix, (title, unit) in KINDS.items():
        rows = _rows(epochs, prefix)
        names = list(dict.fromkeys(row["term"] for row in rows))
        if len(names) >= (2 if prefix == "term." else 1):
            charts.append(_chart(rows, names, title.format(model=model), unit))
    if not charts:
        return None
    text = (
        "Gradients are measured on the layers that are trained, before an epoch's first step, on a few batches. A share says how "
        "much of the pull a term has; a cosine below 0 says that two terms pull apart."
    )
    return Section("terms", "Loss terms", text if any("radient" in chart.title for chart in charts) else "", charts)


def _rows(epochs: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    return [
        {"term": key.removeprefix(prefix), "epoch": epoch["epoch"], "value": value}
        for epoch in epochs
        for key, value in epoch.items()
        if key.startswith(prefix) and value is not None
    ]


def _chart(rows: list[dict[str, Any]], names: list[str], title: str, unit: str) -> Chart:
    dashes = {"domain": names, "range": [DASHES[i % len(DASHES)] for i in range(len(names))]}
    legend = {"title": None, "orient": "top", "columns": 3}
    kind = {"field": "term", "type": "nominal", "sort": names, "legend": legend}
    encoding = {
        "x": quantity("epoch", "epoch", axis={"tickMinStep": 1}),
        "y": quantity("value", unit),
        "color": {**kind, "scale": {"domain": names}},
        "strokeDash": {**kind, "scale": dashes},
        "tooltip": [{"field": "term"}, {"field": "epoch"}, {"field": "value", "format": ".4g", "title": unit}],
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 16}}
    return Chart(title, spec(rows, HEIGHT, mark=mark, encoding=encoding), marks=len(rows))
