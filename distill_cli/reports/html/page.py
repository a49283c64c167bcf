"""The HTML page: template, style, script and Vega library in one file.

All text that comes from data is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli import __version__
from distill_cli.reports.html.components import Section
from distill_cli.reports.html.vega import vega

HERE = Path(__file__).parent


def render(template: str, title: str, sections: Sequence[Section], **context: Any) -> str:
    """Return the HTML text of a page.

    The content security policy allows only the page's own scripts to run, and nothing to be loaded.

    Args:
        template: ``run.html`` or ``sweep.html``.
        title: window title.
        sections: sections in page order.
        context: further template variables; the template escapes their text.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    scripts = [vega(), (HERE / "page.js").read_text(encoding="utf-8")]
    charts = [{"spec": chart.spec, "renderer": chart.renderer} for section in sections for chart in section.charts]
    return environment.get_template(template).render(
        title=title,
        sections=_numbered(sections),
        charts=charts,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        version=__version__,
        body_class=template.removesuffix(".html"),
        **context,
    )


def _numbered(sections: Sequence[Section]) -> list[Mapping[str, Any]]:
    """Return the sections, each with its charts numbered over the whole page."""
    numbered: list[Mapping[str, Any]] = []
    start = 0
    for section in sections:
        numbered.append({"section": section, "charts": list(enumerate(section.charts, start))})
        start += len(section.charts)
    return numbered


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
