"""Sections -> one HTML text: template, style, script and library put together, and everything from data escaped."""

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


def render(template: str, title: str, sections: Sequence[Section], **given: Any) -> str:
    """Return a page.

    A content security policy lets the page's own scripts run and nothing else, and lets it load nothing at all.

    Args:
        template: ``run.html`` or ``sweep.html``.
        title: of the window.
        sections: in order.
        given: what else the template shows; text is escaped there.
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
        **given,
    )


def _numbered(sections: Sequence[Section]) -> list[Mapping[str, Any]]:
    """Return each section with the numbers of its charts among all of the page."""
    numbered: list[Mapping[str, Any]] = []
    start = 0
    for section in sections:
        numbered.append({"section": section, "charts": list(enumerate(section.charts, start))})
        start += len(section.charts)
    return numbered


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
