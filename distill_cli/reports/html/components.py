"""Parts of a page: sections of charts, and the encodings that all charts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
# Colours are the page's, one palette a theme, by position; shapes and dashes tell models apart without them.
MODELS = ("teacher", "student", "scratch", "tuned")
SHAPES = ("diamond", "circle", "square", "triangle-up", "cross", "triangle-down", "triangle-left", "triangle-right")
DASHES = ([8, 3], [1, 0], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3], [12, 4], [6, 2])
TICKS = 7
FAINT = 0.06
MANY_MARKS = 2500  # above it a chart is drawn on a canvas: as many elements would make the page slow


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart.

    Attributes:
        title: text above the chart.
        spec: Vega-Lite specification; no text from data may stand in its expressions.
        note: text below the chart: what is shown and how it was computed.
        marks: approximate number of marks.
        wide: whether the chart takes the whole width of the page.
    """

    title: str
    spec: Spec
    note: str = ""
    marks: int = 0
    wide: bool = False

    @property
    def renderer(self) -> str:
        """Vega's renderer: ``svg``, whose text can be searched, or ``canvas``."""
        return "canvas" if self.marks > MANY_MARKS else "svg"


@dataclass(frozen=True)
class Switch:
    """Buttons above a section that set one parameter in all of its charts.

    Attributes:
        param: name of the Vega parameter.
        label: text before the buttons.
        options: value and text of each button.
    """

    param: str
    label: str
    options: Sequence[tuple[Any, str]]


@dataclass(frozen=True)
class Table:
    """A table of text cells, the first `left` columns left-aligned.

    Attributes:
        header: column titles.
        rows: cells of each row, as many as there are columns.
        left: number of left-aligned text columns.
        caption: text above the table.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        key: anchor.
        title: heading.
        text: sentences below the heading.
        charts: charts of the section.
        switch: buttons that change all charts, or None.
        tables: tables below the charts.
        cards: gallery samples as the template draws them.
    """

    key: str
    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    switch: Switch | None = None
    tables: Sequence[Table] = ()
    cards: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def spec(values: Sequence[Mapping[str, Any]], height: int, **body: Any) -> Spec:
    """Return a Vega-Lite chart as wide as its container.

    Args:
        values: data rows.
        height: height in pixels.
        body: ``mark`` and ``encoding``, or ``layer``.
    """
    return {
        "$schema": VEGA_LITE,
        "data": {"values": list(values)},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **body,
    }


def quantity(name: str, title: str, zero: bool = False, **more: Any) -> Spec:
    """Return the encoding of a numeric field, with quantity and unit as its title."""
    scale = dict(more.pop("scale", {}))
    if scale.get("type") != "log":
        scale["zero"] = zero
    axis = {"tickCount": TICKS, "labelOverlap": True, **more.pop("axis", {})}
    return {"field": name, "type": "quantitative", "title": title, "scale": scale, "axis": axis, **more}


def category(name: str, title: str | None, order: Sequence[Any] | None = None, **more: Any) -> Spec:
    """Return the encoding of a nominal field, in the order given."""
    return {"field": name, "type": "nominal", "title": title, "sort": list(order) if order is not None else None, **more}


def by_model(present: Sequence[str], *channels: str) -> Spec:
    """Return the encodings that distinguish models: color, shape and dash.

    A model has the same color, shape and dash in every chart of every page.

    Args:
        present: the models of this chart, in legend order.
        channels: names of ``color``, ``shape``, ``strokeDash``.
    """
    names = [*MODELS, *(name for name in present if name not in MODELS)]
    ranges: Mapping[str, Sequence[Any]] = {"shape": SHAPES, "strokeDash": DASHES}
    encodings: Spec = {}
    for channel in channels:
        scale: Spec = {"domain": names}
        if channel in ranges:
            scale["range"] = [ranges[channel][i % len(ranges[channel])] for i in range(len(names))]
        legend = {"values": list(present), "title": None, "orient": "top", "columns": 4, "symbolOpacity": 1}
        encodings[channel] = {"field": "model", "type": "nominal", "scale": scale, "legend": legend}
    return encodings
