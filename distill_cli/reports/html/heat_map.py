"""Heat map of a class-by-class matrix whose cells show their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.reports.html.components import Spec, category, spec

MOST_WITH_TEXT = 12  # classes; the numbers of more would not be readable
CELL, SMALL_CELL = 34, 12  # pixels
DARK = 0.55  # share above which a cell's text takes the other ink


def heat_map(
    cells: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    rows: str,
    columns: str,
    text: str,
    tips: Sequence[Mapping[str, Any]],
    params: Sequence[Mapping[str, Any]] = (),
    transform: Sequence[Mapping[str, Any]] = (),
) -> Spec:
    """Return the Vega-Lite chart of a class-by-class matrix.

    Args:
        cells: cells with ``row``, ``column``, ``share`` (0..1, the shade), and the fields that `text` and `tips` name.
        names: C names in class order.
        rows, columns: titles of the axes.
        text: field of the text in each cell.
        tips: Vega-Lite tooltip fields.
        params, transform: further parts of the specification.
    """
    y, x = category("row", rows, names), category("column", columns, names)
    large = len(names) > MOST_WITH_TEXT
    x["axis"] = {"orient": "top", "labelAngle": -45 if large or max(map(len, names), default=0) > 4 else 0, "labelLimit": 90}
    y["axis"] = {"labelLimit": 90}
    shade = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1], "range": "heatmap"}, "legend": None}
    layers: list[Spec] = [{"mark": {"type": "rect", "style": "cell"}, "encoding": {"color": shade, "tooltip": list(tips)}}]
    if not large:
        for style, test in (("strong", f"datum.share > {DARK}"), ("weak", f"!(datum.share > {DARK})")):
            layers.append(
                {
                    "transform": [{"filter": test}],
                    "mark": {"type": "text", "style": style, "fontSize": 11},
                    "encoding": {"text": {"field": text, "type": "nominal"}},
                }
            )
    height = (SMALL_CELL if large else CELL) * len(names)
    body = {"params": list(params), "transform": list(transform), "encoding": {"x": x, "y": y}, "layer": layers}
    return spec(cells, height, **body)
