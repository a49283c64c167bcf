"""Mean soft targets of teacher and student for each true class."""

from __future__ import annotations

from typing import Any

import numpy as np

from distill_cli.reports.html.components import Chart, Section, Switch
from distill_cli.reports.html.heat_map import heat_map
from distill_cli.reports.html.run.data import RunData
from distill_cli.reports.html.softmax import TEMPERATURES, at_temperature

SWITCH = Switch("temperature", "temperature", [(str(t), f"T = {t}") for t in TEMPERATURES])
MOST_CLASSES = 60  # a matrix at each temperature of more would weigh too much


def section(data: RunData) -> Section | None:
    """Return the section with the matrices of teacher and student."""
    if data.predictions is None or "teacher" not in data.predictions.probabilities:
        return None
    if len(data.class_names) > MOST_CLASSES:
        return None
    known = data.predictions.probabilities
    charts = [_chart(data, name, known[name]) for name in ("teacher", "student") if name in known]
    text = (
        f"Mean softmax(z / T) over the rows of each true class of the {data.split} split. Beside the diagonal stands what "
        "a teacher says beyond the label: which classes it finds alike."
    )
    return Section("soft-targets", "Mean soft targets", text, charts, SWITCH)


def mean_targets(probabilities: np.ndarray, y: np.ndarray, classes: int, temperature: float) -> np.ndarray:
    """Return the mean soft target of each true class, ``[C, C]``.

    Args:
        probabilities: ``[N, C]`` at T = 1.
        y: ``[N]`` true classes.
        classes: number of classes C.
        temperature: T > 0.

    Returns:
        Row i is the mean over the samples of class i, NaN where there are none.
    """
    p, counts = at_temperature(probabilities, temperature), np.bincount(y, minlength=classes)
    sums = np.zeros((classes, classes))
    np.add.at(sums, y, p)
    return np.divide(sums, counts[:, None], out=np.full_like(sums, np.nan), where=counts[:, None] > 0)


def _chart(data: RunData, name: str, probabilities: np.ndarray) -> Chart:
    assert data.predictions is not None
    names = data.class_names
    targets = [mean_targets(probabilities, data.predictions.y, len(names), t) for t in TEMPERATURES]
    cells: list[dict[str, Any]] = []
    for i, true in enumerate(names):
        for j, label in enumerate(names):
            if np.isfinite(targets[0][i, j]):
                cells.append(
                    {"row": true, "column": label}
                    | {f"t{t}": float(f"{m[i, j]:.4g}") for t, m in zip(TEMPERATURES, targets, strict=True)}
                )
    tips = [
        {"field": "row", "title": "true"},
        {"field": "column", "title": "class"},
        {"field": "share", "format": ".4f", "title": "mean probability"},
    ]
    matrix = heat_map(
        cells, names, "true class", "class", "cell_text", tips,
        [{"name": "temperature", "value": str(TEMPERATURES[0])}],
        [
            {"calculate": "datum['t' + temperature]", "as": "share"},
            {"calculate": "datum.share < 0.0005 ? '<.001' : format(datum.share, '.3~f')", "as": "cell_text"},
        ],
    )  # fmt: skip
    return Chart(name, matrix, marks=2 * len(cells))
