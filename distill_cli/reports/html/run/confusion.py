"""Confusion matrices of all models: counts, and shares of the true class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.reports.html.components import Chart, Section, Switch
from distill_cli.reports.html.heat_map import heat_map
from distill_cli.reports.html.run.data import RunData

SWITCH = Switch("shown", "cells show", [("count", "rows"), ("share", "share of the true class")])


def section(data: RunData) -> Section | None:
    """Return the section with one confusion matrix for each model."""
    charts = [_chart(name, data.scores(name)) for name in data.models if data.scores(name).get("confusion")]
    if not charts:
        return None
    text = (
        f"Rows of the {data.split} split by true class (down) and predicted class (across). The shade is the share of the true "
        "class's rows, so that rare classes are seen as well as common ones; a perfect model has a dark diagonal."
    )
    return Section("confusion", "Confusion", text, charts, SWITCH)


def _chart(name: str, scores: Mapping[str, Any]) -> Chart:
    classes = [str(label) for label in scores["per_class"]]
    cells = []
    for true, line in zip(classes, scores["confusion"], strict=True):
        total = sum(line)
        for predicted, n in zip(classes, line, strict=True):
            cells.append({"row": true, "column": predicted, "count": n, "share": n / total if total else 0.0})
    matrix = heat_map(
        cells,
        classes,
        "true class",
        "predicted class",
        "cell_text",
        [
            {"field": "row", "title": "true"},
            {"field": "column", "title": "predicted"},
            {"field": "count", "title": "rows", "format": ",d"},
            {"field": "share", "title": "share of the true class", "format": ".2%"},
        ],
        [{"name": "shown", "value": "count"}],
        [{"calculate": "shown == 'share' ? format(datum.share, '.1%') : format(datum.count, ',d')", "as": "cell_text"}],
    )
    return Chart(name, matrix, marks=2 * len(cells))
