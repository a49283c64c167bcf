"""The teacher's softmax of the same samples at T = 1, 2, 4, 8."""

from __future__ import annotations

import numpy as np

from distill_cli.reports.html.components import Chart, Section, category, quantity, spec
from distill_cli.reports.html.run.data import RunData
from distill_cli.reports.html.softmax import TEMPERATURES, at_temperature

MOST_CLASSES = 10
HEIGHT = 190
MIDDLE = (0.5, 0.9, 0.999)  # the teacher's confidence in the samples that are shown, about


def section(data: RunData) -> Section | None:
    """Return one chart for each of a few samples of rising teacher confidence."""
    if data.predictions is None or "teacher" not in data.predictions.probabilities or not data.shows_samples:
        return None
    p = data.predictions.probabilities["teacher"]
    charts = [_chart(data, p, row) for row in chosen(p)]
    text = (
        "softmax(z / T) of the teacher's outputs z for the same rows. At T = 1 the classes that it does not predict are hardly "
        "seen; a higher T shows how it ranks them, which is what a student learns from soft targets (Hinton et al. 2015, "
        "arXiv:1503.02531)."
    )
    used = _temperature(data)
    return Section(
        "temperature", "What temperature does", text + (f" This run's loss used T = {used:g}." if used else ""), charts
    )


def chosen(probabilities: np.ndarray) -> list[int]:
    """Return the rows whose confidence is nearest to each value of `MIDDLE`.

    Args:
        probabilities: ``[N, C]`` of the teacher.
    """
    confidence, rows = probabilities.max(axis=1), []
    for value in MIDDLE:
        row = int(np.abs(confidence - value).argmin())
        if row not in rows:
            rows.append(row)
    return rows


def _chart(data: RunData, p: np.ndarray, row: int) -> Chart:
    assert data.predictions is not None
    names, true = data.class_names, data.class_names[data.predictions.y[row]]
    shown = np.sort(np.argsort(-p[row])[:MOST_CLASSES])
    rows = [
        {"class": names[c], "T": f"T = {t}", "p": float(at_temperature(p[row : row + 1], t)[0, c])}
        for t in TEMPERATURES
        for c in shown
    ]
    order = [f"T = {t}" for t in TEMPERATURES]
    encoding = {
        "x": category("class", "class", [names[c] for c in shown], axis={"labelAngle": 0 if _short(names, shown) else -40}),
        "xOffset": {"field": "T", "type": "nominal", "sort": order},
        "y": quantity("p", "probability", zero=True, scale={"domain": [0, 1]}),
        "color": {
            "field": "T",
            "type": "ordinal",
            "sort": order,
            "scale": {"range": "ordinal"},
            "legend": {"title": None, "orient": "top", "symbolType": "square"},
        },
        "tooltip": [{"field": "class"}, {"field": "T"}, {"field": "p", "format": ".4f", "title": "probability"}],
    }
    group = None if data.predictions.groups is None else str(data.predictions.groups[row])
    title = f"{data.row_name(int(data.predictions.rows[row]), group)}: true class {true}"
    note = "In each class from left to right: T = 1, 2, 4, 8."
    if len(shown) < len(names):
        note += f" The {len(shown)} most probable of {len(names)} classes."
    return Chart(title, spec(rows, HEIGHT, mark={"type": "bar"}, encoding=encoding), note, marks=len(rows))


def _short(names: list[str], shown: np.ndarray) -> bool:
    return sum(len(names[c]) + 2 for c in shown) < 30


def _temperature(data: RunData) -> float | None:
    value = ((data.report.get("config") or {}).get("loss") or {}).get("temperature")
    return value if isinstance(value, (int, float)) else None
