"""Feature maps of teacher and student for the layers that a loss compared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from distill_cli.reports.html.components import Chart, Section, Spec, quantity, spec
from distill_cli.reports.html.run.data import RunData
from distill_cli.reports.html.run.gallery import image, shade

HEIGHT = 150
WHO = ("teacher", "student")


def section(data: RunData) -> Section | None:
    """Return one chart for each layer pair, sample and model."""
    pairs = (data.samples or {}).get("features")
    if not data.samples or not pairs:
        return None
    charts = [
        _chart(name, pair, n, data.row_name(data.samples["rows"][n]["row"]))
        for pair in pairs
        for n in range(len(pair["maps"][WHO[0]]["values"]))
        for name in WHO
    ]
    text = (
        "What the layers say of samples of the gallery. Channels are chosen evenly, positions averaged down; "
        "channel numbers of teacher and student do not correspond: an adapter or the loss brings them together."
    )
    return Section("features", "Feature maps", text, charts)


def _chart(name: str, pair: Mapping[str, Any], n: int, row: str) -> Chart:
    part = pair["maps"][name]
    shape, values = part["shape"], part["values"][n]
    size = " x ".join(map(str, shape))
    title = f"{name}, {pair['layers'][name]}, {row}"
    if len(shape) == 1:
        rows = [{"feature": i, "value": value} for i, value in enumerate(values)]
        x = {"field": "feature", "type": "ordinal", "title": "feature, in order", "axis": {"labelOverlap": True, "labelAngle": 0}}
        feature_spec = spec(rows, HEIGHT, mark="bar", encoding={"x": x, "y": quantity("value", "activation", zero=True)})
        return Chart(title, feature_spec, f"{len(values)} of {size} features", marks=len(values))
    if len(shape) == 2:
        feature_spec = _channels(values)
        return Chart(title, feature_spec, f"{len(values)} channels of {size}", marks=sum(map(len, values)))
    wide = [list(chain.from_iterable(lines)) for lines in zip(*values, strict=True)]  # channels side by side
    fitted = image(wide, HEIGHT)
    fitted |= {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return Chart(title, fitted, f"{len(values)} channels of {size}, side by side", marks=len(wide) * len(wide[0]), wide=True)


def _channels(values: list[list[float]]) -> Spec:
    rows = [{"channel": c, "position": p, "value": value} for c, line in enumerate(values) for p, value in enumerate(line)]
    axis = {"labelOverlap": True, "labelAngle": 0, "ticks": False}
    encoding = {
        "x": {"field": "position", "type": "ordinal", "title": "position", "axis": axis, "scale": {"padding": 0}},
        "y": {"field": "channel", "type": "ordinal", "title": "channel", "axis": axis, "scale": {"padding": 0.1}},
        "color": shade("activation", HEIGHT),
        "tooltip": [{"field": "channel"}, {"field": "position"}, {"field": "value", "format": ".4g"}],
    }
    return spec(rows, HEIGHT, mark="rect", encoding=encoding)
