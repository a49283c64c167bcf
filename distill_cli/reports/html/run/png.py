"""The page's charts as plots/*.png on a white ground, for papers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from distill_cli.reports.html.components import VEGA_LITE, Chart, Section, Spec
from distill_cli.reports.html.run import confusion, curves, per_class, reliability
from distill_cli.reports.html.run.data import RunData
from distill_cli.utils.files import ensure_no_symlinks, write_bytes

FOLDER = "plots"
DOTS_PER_INCH = 200
NOTE_WIDTH = 55  # characters
WIDTH = 300  # pixels of 1/72 inch
TALLEST_MATRIX = 400
FONT = "sans-serif"
PAGE_STYLE = Path(__file__).parents[1] / "page.css"
SECTIONS: dict[str, Callable[[RunData], Section | None]] = {
    "curves": curves.section, "confusion": confusion.section, "classes": per_class.section, "reliability": reliability.section,
}  # fmt: skip


def write(folder: Path, data: RunData) -> list[Path]:
    """Write the charts of a run as PNG files, and return their paths.

    Raises:
        UserError: the folder ``plots`` is not writable, or leads out of the run folder.
    """
    sections = {name: section for name, draw in SECTIONS.items() if (section := draw(data)) is not None}
    return [save(folder, name, section.charts) for name, section in sections.items()]


def save(folder: Path, name: str, charts: Iterable[Chart]) -> Path:
    """Write charts as one PNG file, and return its path.

    Args:
        folder: folder of the page; the file is written to ``plots/`` below it.
        name: file name without extension.
        charts: at least one chart.

    Raises:
        UserError: the folder is not writable, or leads out of the run folder.
    """
    from vl_convert import vegalite_to_png

    ensure_no_symlinks(folder, (FOLDER,))
    content = vegalite_to_png(picture(charts), config=look(), ppi=DOTS_PER_INCH, allowed_base_urls=[])
    return write_bytes(folder / FOLDER / f"{name}.png", content)


def picture(charts: Iterable[Chart]) -> Spec:
    """Return one Vega-Lite specification that holds several charts.

    The charts keep their own axes and legends.
    """
    params: dict[str, Any] = {}
    parts = []
    for chart in charts:
        part = {key: value for key, value in chart.spec.items() if key not in ("$schema", "autosize", "params")}
        params |= {param["name"]: param for param in chart.spec.get("params", ())}
        if "row" in (part.get("encoding") or {}).get("y", {}).values():  # a matrix is square
            part["height"] = part["width"] = min(part["height"], TALLEST_MATRIX)
        else:
            part["width"] = WIDTH
        parts.append(part | {"title": {"text": chart.title, "subtitle": textwrap.wrap(chart.note, NOTE_WIDTH)}})
    own = dict.fromkeys(("color", "shape", "strokeDash", "size"), "independent")
    columns = 2 if len(parts) in (2, 4) else 3
    return {"$schema": VEGA_LITE, "params": list(params.values()), "concat": parts, "columns": columns, "resolve": {"scale": own}}


def look() -> Spec:
    """Return the light theme of page.css as Vega's configuration.

    The mapping equals the one in page.js.
    """
    colours: dict[str, str] = {}
    for name, value in re.findall(r"--([\w-]+): (#\w+)", PAGE_STYLE.read_text(encoding="utf-8")):
        colours.setdefault(name, value)  # the light theme comes first
    ink, faint, line = colours["ink"], colours["faint"], colours["line"]
    text = {"labelColor": ink, "titleColor": faint, "labelFont": FONT, "titleFont": FONT, "titleFontWeight": "normal"}
    heat = [colours["heat0"], colours["heat1"]]
    return {
        "background": "#ffffff",
        "font": FONT,
        "range": {"category": [colours[f"m{n}"] for n in range(8)], "heatmap": heat, "ramp": heat},
        "axis": {**text, "domainColor": line, "gridColor": line, "gridOpacity": 0.6, "tickColor": line},
        "legend": {**text, "symbolStrokeWidth": 2, "labelLimit": 220},
        "title": {"color": ink, "font": FONT, "subtitleColor": faint, "subtitleFont": FONT},
        "view": {"stroke": None},
        "mark": {"color": colours["m0"]},
        "text": {"color": ink, "font": FONT},
        "rule": {"color": faint},
        "style": {
            "weak": {"color": ink},
            "strong": {"color": colours["on-heat"]},
            "diagonal": {"stroke": faint},
            "interval": {"color": faint, "strokeWidth": 1.5},
            "cell": {"stroke": colours["ground"]},
        },
    }
