"""Means over seeds, with the seeds as dots behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.reports.html.components import FAINT, Spec, by_model, quantity
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.tasks.registry import all_metrics

TEXT = "Large marks are means over seeds, small ones the seeds."
PARAMS = [{"name": "kept", "value": None}]  # rows that the page's filter keeps; null: all


def layers(
    rows: Sequence[Mapping[str, Any]], seeds: Sequence[Mapping[str, Any]], place: Spec, tips: Sequence[Spec]
) -> list[Spec]:
    """Return two layers, dots and means, that follow the page's filter.

    Args:
        rows: a mean each, with ``row`` (its number in the table) and ``model``; the chart's own data.
        seeds: a seed's score each, alike.
        place: encoding of x and y.
        tips: what a mean says when it is pointed at.
    """
    looks = by_model(list(dict.fromkeys(str(row["model"]) for row in rows)), "color", "shape")
    dots = {"data": {"values": list(seeds)}, "mark": {"type": "point", "filled": True, "size": 16}}
    means: Spec = {"mark": {"type": "point", "filled": True, "size": 90, "style": "cell"}}
    return [
        {**dots, "encoding": {**place, **looks, "opacity": _kept(0.5)}},
        {**means, "encoding": {**place, **looks, "opacity": _kept(1), "tooltip": list(tips)}},
    ]


def axis(result: Leaderboard) -> Spec:
    """Return the axis of test scores; the field is ``score``."""
    return quantity("score", f"{all_metrics()[result.metric].title}, test")


def tips(result: Leaderboard, *more: Spec) -> list[Spec]:
    """Return what a mean says when it is pointed at, and more."""
    score = {"field": "score", "format": ".4f", "title": all_metrics()[result.metric].title}
    return [{"field": "method"}, {"field": "model"}, score, {"field": "n", "title": "seeds"}, *more]


def _kept(opacity: float) -> Spec:
    return {"condition": {"test": "kept == null || indexof(kept, datum.row) >= 0", "value": opacity}, "value": FAINT}
