"""Texts of values in reports, with units, and escaping of text from data."""

from __future__ import annotations

import re
from collections.abc import Sequence

MISSING = "-"


def score(value: float | None, digits: int = 3) -> str:
    """Return a score such as ``0.912``, or ``-`` for None."""
    return MISSING if value is None else f"{value:.{digits}f}"


def interval(low_high: Sequence[float] | None) -> str:
    """Return an interval such as ``0.931..0.949``, or ``-`` for None."""
    return MISSING if low_high is None else f"{low_high[0]:.3f}..{low_high[1]:.3f}"


def count(value: float | None) -> str:
    """Return a whole number with commas, or ``-`` for None."""
    return MISSING if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return bytes as ``512 B``, ``15.6 kB`` or ``4.8 MB``, or ``-`` for None.

    Units are powers of 1000.
    """
    if value is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """Return seconds as ``12 s``, ``4 min 05 s`` or ``1 h 02 min``, or ``-`` for None.

    Below ten seconds there is one decimal, ``0.4 s``.
    """
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """Return a time such as ``0.062 ms``, ``12.3 ms`` or ``1,960 ms``, or ``-``.

    Three significant digits, and all digits before the point.
    """
    if value is None:
        return MISSING
    return f"{value:,.0f} ms" if value >= 999.5 else f"{value:#.3g}".rstrip(".") + " ms"


def markdown_text(text: object) -> str:
    """Return text on one line, escaped for a markdown paragraph or table cell."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*|~]|\](?=[(\[:]))", r"\\\1", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    return re.sub(r"^(#|[+-](?=\s|$))", r"\\\1", line)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a markdown table.

    Args:
        header: column titles, already markdown.
        rows: cells, already markdown.
        left: number of left-aligned columns; the others are right-aligned.
    """
    align = [":--" if i < left else "--:" for i in range(len(header))]
    return ["| " + " | ".join(cells) + " |" for cells in (header, align, *rows)]


def markdown_code(text: str, language: str = "") -> list[str]:
    """Return the lines of a markdown code block.

    The fence is longer than any run of backticks in the text.
    """
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}{language}", *text.splitlines(), fence]


def spreadsheet_cell(text: object) -> str:
    """Return text that a spreadsheet does not evaluate as a formula.

    An apostrophe is put before a leading ``= + - @``, tab or carriage return. Numbers stay as they are.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-1")
    ("'=1+1", '-1')
    """
    text = str(text)
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
