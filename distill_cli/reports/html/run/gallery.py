"""The samples on which teacher and student differ most.

A sample is drawn as a signal, as an image, or as the values of a table row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from distill_cli.reports.html.components import Chart, Section, Spec, quantity, spec
from distill_cli.reports.html.run.data import ROW_IDS, RunData

HEIGHT = 130
MOST_CLASSES = 3  # whose probabilities are named below a picture
MOST_CELLS = 24  # of a row of a table; of more, the most unusual
CELL_HEIGHT, CELL_WIDTH = 17, 190  # pixels of a cell, and of its label at most
LONGEST_NAME = 20  # characters of a column's name
CHANNELS = 3  # of a colour image


def section(data: RunData) -> Section | None:
    """Return the section with one chart for each sample."""
    if not data.samples or not data.samples.get("rows"):
        return None
    charts = [_chart(data, sample) for sample in data.samples["rows"]]
    text = (
        f"Of the {data.samples['split']} split, those with the largest total variation distance (half the summed absolute "
        f"differences, 0 to 1) between the probabilities of teacher and student, the largest first. {ROW_IDS}"
    )
    if data.samples.get("columns"):
        text += " Bars: how many standard deviations a value lies above or below its column's mean over the training rows."
    return Section("gallery", "Where teacher and student differ most", text, charts)


def _chart(data: RunData, sample: Mapping[str, Any]) -> Chart:
    title = f"{data.row_name(sample['row'], sample.get('group'))}: true class {sample['true']}"
    predictions = "; ".join(f"{name} says {_top_classes(sample[name], data.class_names)}" for name in ("teacher", "student"))
    note = f"{predictions}. Distance {sample['distance']:.3f}"
    samples = data.samples or {}
    if samples.get("columns"):
        return _cells(title, note, sample["x"], samples["columns"])
    sample_spec, marks = picture(sample["x"], samples.get("shape") or [], HEIGHT)
    return Chart(title, sample_spec, note, marks=marks)


def _top_classes(probabilities: Sequence[float], names: Sequence[str]) -> str:
    order = sorted(range(len(names)), key=lambda c: -probabilities[c])[:MOST_CLASSES]
    shown = [c for n, c in enumerate(order) if n == 0 or probabilities[c] >= 0.005]
    return ", ".join(f"{names[c]}: {probabilities[c]:.2f}" for c in shown)


def _cells(title: str, note: str, values: Sequence[float], columns: Sequence[Mapping[str, Any]]) -> Chart:
    """Return the chart of a table row: a bar for each column's deviation.

    The bar is the distance of the value from the column's mean, in standard deviations of the training rows.
    """
    rows = []
    for n, (value, column) in enumerate(zip(values, columns, strict=True)):
        far = (value - column["mean"]) / column["deviation"] if column["deviation"] else 0.0
        cell = f"{_short(column['name'])}: {value:.4g}"
        rows.append({"n": n, "column": column["name"], "cell": cell, "value": value, "far": far})
    if len(rows) > MOST_CELLS:
        rows = sorted(sorted(rows, key=lambda row: -abs(row["far"]))[:MOST_CELLS], key=lambda row: row["n"])
        note += f". The {MOST_CELLS} of {len(columns)} columns that lie farthest from their mean"
    axis = {"labelLimit": CELL_WIDTH, "ticks": False, "labelExpr": "cells[datum.value]"}
    y = {"field": "n", "type": "ordinal", "title": None, "axis": axis}
    tips = [{"field": "column"}, {"field": "value"}, {"field": "far", "format": "+.2f", "title": "deviations from the mean"}]
    x = quantity("far", "standard deviations", zero=True)
    bars = spec(rows, CELL_HEIGHT * len(rows), mark="bar", encoding={"x": x, "y": y, "tooltip": tips})
    bars["params"] = [{"name": "cells", "value": {str(row["n"]): row["cell"] for row in rows}}]
    return Chart(title, bars, note, marks=len(rows))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def picture(values: Any, shape: Sequence[int], height: int) -> tuple[Spec, int]:
    """Return the chart of one sample, and the number of its marks.

    One axis is drawn as bars, two as a curve for each channel, three as an image. Three channels, first or last, are red, green
    and blue. Of any other number of channels the mean is drawn.

    Args:
        values: nested lists of the given shape.
        shape: shape of the sample, 1 to 3 axes.
        height: height in pixels.
    """
    if len(shape) == 1:
        return _bars(values, height), len(values)
    if len(shape) == 2:
        return _curves(values, height), len(values) + 2
    if shape[0] == CHANNELS:
        return _color_image(list(zip(*map(chain.from_iterable, values), strict=True)), shape[1:], height), shape[1] * shape[2]
    if shape[2] == CHANNELS and shape[0] > 1:
        return _color_image(list(chain.from_iterable(values)), shape[:2], height), shape[0] * shape[1]
    return image(_gray(values), height), len(values[0]) * len(values[0][0])


def _color_image(pixels: Sequence[Sequence[float]], size: Sequence[int], height: int) -> Spec:
    """Return the chart of an image in its own colors.

    Values within 0..1 or 0..255 are used as they are. Others, such as standardized ones, are stretched from the least to the
    largest.

    Args:
        pixels: red, green and blue of each pixel, row by row.
        size: rows and columns of the image.
        height: height in pixels.
    """
    known = list(chain.from_iterable(pixels))
    low, high = min(known), max(known)
    low, high = (0.0, 1.0 if high <= 1 else 255.0) if low >= 0 and high <= 255 else (low, high)
    columns = size[1]
    rows = []
    for n, pixel in enumerate(pixels):
        red, green, blue = (round(255 * (value - low) / (high - low)) if high > low else 0 for value in pixel)
        rows.append({"row": n // columns, "column": n % columns, "colour": f"#{red:02x}{green:02x}{blue:02x}"})
    encoding = {**_pixels(), "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None}}
    encoding["tooltip"] = [{"field": "row"}, {"field": "column"}, {"field": "colour"}]
    return _fitted(rows, size, height, encoding)


def _pixels() -> Spec:
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False}
    return {
        "x": {"field": "column", "type": "ordinal", "title": "column, pixels", "axis": axis, "scale": {"padding": 0}},
        "y": {"field": "row", "type": "ordinal", "title": "row, pixels", "axis": axis, "scale": {"padding": 0}},
    }


def _fitted(rows: Sequence[Mapping[str, Any]], size: Sequence[int], height: int, encoding: Spec) -> Spec:
    """Return a chart of square pixels."""
    side = height * size[1] / max(1, size[0])
    return {**spec(rows, height, mark="rect", encoding=encoding), "width": side, "autosize": "pad"}


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


def _gray(values: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return the mean over the channels of ``[channels][rows][columns]``."""
    return [[sum(cell) / len(cell) for cell in zip(*lines, strict=True)] for lines in zip(*values, strict=True)]


def shade(title: str, height: int) -> Spec:
    """Return the color encoding of ``value``.

    Args:
        title: title of the legend.
        height: height of the chart in pixels, which the legend fits.
    """
    legend = {"title": title, "gradientLength": height * 0.7}
    return {"field": "value", "type": "quantitative", "scale": {"range": "ramp"}, "legend": legend}


def image(lines: Sequence[Sequence[float]], height: int) -> Spec:
    """Return the chart of a gray image ``[rows][columns]``.

    Larger values are darker on a light page and lighter on a dark one.
    """
    rows = [{"row": r, "column": c, "value": value} for r, line in enumerate(lines) for c, value in enumerate(line)]
    tips = [{"field": "row"}, {"field": "column"}, {"field": "value", "format": ".4g"}]
    return _fitted(rows, (len(lines), len(lines[0])), height, {**_pixels(), "color": shade("value", height), "tooltip": tips})
