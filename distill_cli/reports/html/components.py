"""What a page is made of: sections of charts, and how the charts of all sections look alike."""

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
    """One picture.

    Attributes:
        title: above it.
        spec: Vega-Lite, without data's text in any expression.
        note: below it: what is seen and how it was computed.
        marks: about how many things it draws.
        wide: over the whole width of the page.
    """

    title: str
    spec: Spec
    note: str = ""
    marks: int = 0
    wide: bool = False

    @property
    def renderer(self) -> str:
        """How the browser draws it: ``svg``, whose text can be searched, or ``canvas``."""
        return "canvas" if self.marks > MANY_MARKS else "svg"


@dataclass(frozen=True)
class Switch:
    """Buttons above the charts of a section that set a parameter in all of them.

    Attributes:
        param: its name in the charts.
        label: what is chosen.
        options: value and text of each.
    """

    param: str
    label: str
    options: Sequence[tuple[Any, str]]


@dataclass(frozen=True)
class Table:
    """Cells, the first `left` columns of which are text.

    Attributes:
        header: one a column.
        rows: as many cells each.
        left: how many columns are text.
        caption: above it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        key: its anchor.
        title: its heading.
        text: sentences below the heading.
        charts: pictures.
        switch: what changes them all.
        tables: below the pictures.
        cards: samples of the gallery, as the template draws them.
        open: whether it is unfolded.
    """

    key: str
    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    switch: Switch | None = None
    tables: Sequence[Table] = ()
    cards: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def spec(values: Sequence[Mapping[str, Any]], height: int, **body: Any) -> Spec:
    """Return a Vega-Lite chart as wide as its place on the page.

    Args:
        values: rows.
        height: pixels.
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
    """Return an axis of numbers: `title` says what and in which unit."""
    scale = dict(more.pop("scale", {}))
    if scale.get("type") != "log":
        scale["zero"] = zero
    axis = {"tickCount": TICKS, "labelOverlap": True, **more.pop("axis", {})}
    return {"field": name, "type": "quantitative", "title": title, "scale": scale, "axis": axis, **more}


def category(name: str, title: str | None, order: Sequence[Any] | None = None, **more: Any) -> Spec:
    """Return an axis of names in the order given."""
    return {"field": name, "type": "nominal", "title": title, "sort": list(order) if order is not None else None, **more}


def by_model(present: Sequence[str], *channels: str) -> Spec:
    """Return how models are told apart: the same colour, shape and dash for a name in every chart of every page.

    Args:
        present: the models of this chart, in the legend's order.
        channels: of ``color``, ``shape``, ``strokeDash``.
    """
    names = [*MODELS, *(name for name in present if name not in MODELS)]
    ranges: Mapping[str, Sequence[Any]] = {"shape": SHAPES, "strokeDash": DASHES}
    found: Spec = {}
    for channel in channels:
        scale: Spec = {"domain": names}
        if channel in ranges:
            scale["range"] = [ranges[channel][i % len(ranges[channel])] for i in range(len(names))]
        legend = {"values": list(present), "title": None, "orient": "top", "columns": 4, "symbolOpacity": 1}
        found[channel] = {"field": "model", "type": "nominal", "scale": scale, "legend": legend}
    return found
