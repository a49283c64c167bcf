"""The rows on which teacher and student differ most, drawn as what they are: a signal, an image, or a row's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.pages.inputs import RunData
from distill_cli.pages.parts import Chart, Section, Spec, quantity, spec

HEIGHT = 130
MOST_CLASSES = 3  # whose probabilities are named below a picture


def section(data: RunData) -> Section | None:
    """Return a picture a row."""
    if not data.samples or not data.samples.get("rows"):
        return None
    charts = [_chart(data, sample) for sample in data.samples["rows"]]
    text = (
        f"Of the {data.samples['split']} split, those with the largest total variation distance (half the summed absolute "
        "differences, 0 to 1) between the probabilities of teacher and student, the largest first."
    )
    return Section("gallery", "Where teacher and student differ most", text, charts)


def _chart(data: RunData, sample: Mapping[str, Any]) -> Chart:
    group = f", group {sample['group']}" if sample.get("group") is not None else ""
    title = f"Row {sample['row']}{group}: true class {sample['true']}"
    said = "; ".join(f"{name} says {_said(sample[name], data.class_names)}" for name in ("teacher", "student"))
    note = f"{said}. Distance {sample['distance']:.3f}"
    drawn, marks = picture(sample["x"], data.samples["shape"] if data.samples else [], HEIGHT)
    return Chart(title, drawn, note, marks=marks)


def _said(probabilities: Sequence[float], names: Sequence[str]) -> str:
    order = sorted(range(len(names)), key=lambda c: -probabilities[c])[:MOST_CLASSES]
    kept = [c for n, c in enumerate(order) if n == 0 or probabilities[c] >= 0.005]
    return ", ".join(f"{names[c]}: {probabilities[c]:.2f}" for c in kept)


def picture(values: Any, shape: Sequence[int], height: int) -> tuple[Spec, int]:
    """Return a chart of one sample and how many marks it has: of one axis bars, of two a curve a channel, of three an image."""
    if len(shape) == 1:
        return _bars(values, height), len(values)
    if len(shape) == 2:
        return _curves(values, height), len(values) + 2
    return image(_grey(values), height), len(values[0]) * len(values[0][0])


def _bars(values: Sequence[float], height: int) -> Spec:
    rows = [{"n": n, "value": value} for n, value in enumerate(values)]
    x = {"field": "n", "type": "ordinal", "title": "feature", "axis": {"labelOverlap": True, "labelAngle": 0}}
    tips = [{"field": "n", "title": "feature"}, {"field": "value", "format": ".4g"}]
    return spec(rows, height, mark="bar", encoding={"x": x, "y": quantity("value", "value", zero=True), "tooltip": tips})


def _curves(values: Sequence[Sequence[float]], height: int) -> Spec:
    rows = [{"step": n, "value": value, "channel": str(c)} for c, line in enumerate(values) for n, value in enumerate(line)]
    encoding: Spec = {"x": quantity("step", "time step", scale={"nice": False}), "y": quantity("value", "value")}
    if len(values) > 1:
        legend = {"title": "channel", "orient": "top"}
        encoding |= {key: {"field": "channel", "type": "nominal", "legend": legend} for key in ("color", "strokeDash")}
    return spec(rows, height, mark={"type": "line", "strokeWidth": 1.5}, encoding=encoding)


def _grey(values: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return the mean over the channels of ``[channels][rows][columns]``."""
    return [[sum(cell) / len(cell) for cell in zip(*lines, strict=True)] for lines in zip(*values, strict=True)]


def shade(title: str, height: int) -> Spec:
    """Return the shade of a cell by its ``value``, with a legend that fits beside a chart of that height."""
    legend = {"title": title, "gradientLength": height * 0.7}
    return {"field": "value", "type": "quantitative", "scale": {"range": "ramp"}, "legend": legend}


def image(lines: Sequence[Sequence[float]], height: int) -> Spec:
    """Return a chart of ``[rows][columns]``, the more the darker on a light page (and the lighter on a dark one)."""
    rows = [{"row": r, "column": c, "value": value} for r, line in enumerate(lines) for c, value in enumerate(line)]
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False}
    encoding = {
        "x": {"field": "column", "type": "ordinal", "title": "column, pixels", "axis": axis, "scale": {"padding": 0}},
        "y": {"field": "row", "type": "ordinal", "title": "row, pixels", "axis": axis, "scale": {"padding": 0}},
        "color": shade("value", height),
        "tooltip": [{"field": "row"}, {"field": "column"}, {"field": "value", "format": ".4g"}],
    }
    side = height * len(lines[0]) / max(1, len(lines))
    return {**spec(rows, height, mark="rect", encoding=encoding), "width": side, "autosize": "pad"}
