"""Vega, Vega-Lite and Vega-Embed (BSD-3-Clause) as one JavaScript text.

The package vl-convert-python bundles the text in about two seconds, so the bundle is cached on disk.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from distill_cli.errors import UserError
from distill_cli.utils.files import write_text

SMALLEST = 100_000  # characters; the bundle has about 900,000


@cache
def vega() -> str:
    """Return the JavaScript bundle, which defines ``vegaEmbed`` and needs no network."""
    home = cache_folder()
    cached = None if home is None else home / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, ValueError):
        text = "" if cached is None else cached.read_text(encoding="utf-8")
        if len(text) >= SMALLEST:
            return text
    from vl_convert import javascript_bundle

    text = _harmless(javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    if cached is not None:
        with contextlib.suppress(UserError, OSError):  # without the cache the next page is only slower
            write_text(cached, text)
    return text


def cache_folder() -> Path | None:
    """Return the user's cache folder of this tool, or None without a home.

    The folder is ``$XDG_CACHE_HOME/distill`` or ``~/.cache/distill``.
    """
    place = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(place) / "distill" if os.path.isabs(place) else None


def _harmless(text: str) -> str:
    """Return JavaScript that is safe between script tags."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
