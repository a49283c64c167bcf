"""Chart layers of means over seeds, with the single seeds as dots."""

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
        rows: one mean each, with ``row`` (row number in the table) and ``model``; the chart's own data.
        seeds: the score of one seed each, with the same keys.
        place: encoding of x and y.
        tips: fields of the tooltip of a mean.
    """
    looks = by_model(list(dict.fromkeys(str(row["model"]) for row in rows)), "color", "shape")
    dots = {"data": {"values": list(seeds)}, "mark": {"type": "point", "filled": True, "size": 16}}
    means: Spec = {"mark": {"type": "point", "filled": True, "size": 90, "style": "cell"}}
    return [
        {**dots, "encoding": {**place, **looks, "opacity": _filtered(0.5)}},
        {**means, "encoding": {**place, **looks, "opacity": _filtered(1), "tooltip": list(tips)}},
    ]


def axis(result: Leaderboard) -> Spec:
    """Return the axis of test scores, for the field ``score``."""
    return quantity("score", f"{all_metrics()[result.metric].title}, test")


def tips(result: Leaderboard, *more: Spec) -> list[Spec]:
    """Return the tooltip fields of a mean, followed by those given."""
    score = {"field": "score", "format": ".4f", "title": all_metrics()[result.metric].title}
    return [{"field": "method"}, {"field": "model"}, score, {"field": "n", "title": "seeds"}, *more]


def _filtered(opacity: float) -> Spec:
    return {"condition": {"test": "kept == null || indexof(kept, datum.row) >= 0", "value": opacity}, "value": FAINT}
