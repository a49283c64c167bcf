"""Reliability diagrams: accuracy against the probability of the predicted class."""

from __future__ import annotations

from typing import Any

import numpy as np

from distill_cli.reports import formatting
from distill_cli.reports.html.components import Chart, Section, Spec, quantity, spec
from distill_cli.reports.html.run.data import RunData

BINS = 15  # as of the ECE in the report
HEIGHT = 240


def bins(probabilities: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """Return the non-empty bins of a reliability diagram.

    Rows are binned by the probability of the predicted class, as in `metrics.classification.ece`.

    Args:
        probabilities: ``[N, C]``, rows that sum to 1.
        y: ``[N]`` true classes.

    Returns:
        For each bin ``rows``, ``confidence`` (mean, 0..1), ``accuracy`` (0..1), and ``low`` and ``high``, the 95 % Wilson
        interval of the accuracy.
    """
    from scipy.stats import binomtest

    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    at = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    filled = []
    for number in np.unique(at):
        inside = at == number
        n, right = int(inside.sum()), int(hit[inside].sum())
        low, high = binomtest(right, n).proportion_ci(0.95, "wilson")
        row = {"rows": n, "confidence": float(confidence[inside].mean()), "accuracy": right / n}
        filled.append({**row, "low": float(low), "high": float(high)})
    return filled


def section(data: RunData) -> Section | None:
    """Return the section with one diagram for each model."""
    if data.predictions is None:
        return None
    charts = [_chart(data, name, p) for name, p in data.predictions.probabilities.items()]
    text = (
        "Rows in bins by the probability that a model gives to the class it predicts. On the dashed diagonal it is right as "
        "often as it says; below it, it is too sure of itself. Bars are 95 % Wilson intervals; a small mark stands for few rows."
    )
    return Section("reliability", "Reliability", text, charts) if charts else None


def _chart(data: RunData, name: str, probabilities: np.ndarray) -> Chart:
    assert data.predictions is not None
    rows = bins(probabilities, data.predictions.y)
    unit = {"domain": [0, 1]}
    x = quantity("confidence", "mean probability of the predicted class", scale=unit)
    y = quantity("accuracy", "share that is right", scale=unit)
    tips = [
        {"field": "rows", "format": ",d"},
        *({"field": key, "format": ".3f"} for key in ("confidence", "accuracy", "low", "high")),
    ]
    diagonal: Spec = {
        "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "style": "diagonal"},
        "encoding": {"x": x, "y": y},
    }
    rule = {"x": x, "y": quantity("low", "share that is right", scale=unit), "y2": {"field": "high"}}
    size = {"field": "rows", "type": "quantitative", "scale": {"type": "sqrt", "range": [20, 240]}, "legend": None}
    layers = [
        diagonal,
        {"mark": {"type": "rule", "style": "interval"}, "encoding": rule},
        {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {"x": x, "y": y}},
        {"mark": {"type": "point", "filled": True, "opacity": 1}, "encoding": {"x": x, "y": y, "size": size, "tooltip": tips}},
    ]
    scores = data.scores(name)
    note = f"ECE {formatting.score(scores.get('ece'))}, NLL {formatting.score(scores.get('nll'))} nats"
    return Chart(name, spec(rows, HEIGHT, layer=layers), note, marks=3 * len(rows))
