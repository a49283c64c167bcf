"""Parallel coordinates (Inselberg 1985): the settings that differ and the score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_cli.reports.html.components import FAINT, Chart, Section, Spec, category, spec
from distill_cli.reports.html.sweep import seeds
from distill_cli.reports.html.sweep.varied_settings import Swept, shown
from distill_cli.reports.sweep.leaderboard import mean
from distill_cli.reports.sweep.table import Leaderboard, Row
from distill_cli.tasks.registry import all_metrics

MOST_AXES = 7  # of settings; more are too narrow to read
MOST_TICKS = 6
LEAST_AXES = 2  # of settings; one is drawn better by parameters.py
HEIGHT = 300
ABSENT = -0.15  # where a row stands that has no such setting
TEXT = (
    "A line is a row of the table, from its settings to the mean of its test scores; the thick one is the table's first row. "
    "A mark below an axis: the row has no such setting, as another loss has none of this one's. Point at a mark to follow its "
    "line."
)


@dataclass(frozen=True)
class Axis:
    """One vertical axis.

    Attributes:
        title: text below the axis.
        places: position of each row, 0 (bottom) to 1 (top), `ABSENT`, or None where there is no value to draw.
        labels: text of the value of each row.
    """

    title: str
    places: Sequence[float | None]
    labels: Sequence[str]

    def ticks(self) -> list[tuple[float, str]]:
        """Return position and text of the ticks, at most `MOST_TICKS`."""
        known = sorted({(place, label) for place, label in zip(self.places, self.labels, strict=True) if place is not None})
        if len(known) <= MOST_TICKS:
            return known
        targets = (n / (MOST_TICKS - 1) for n in range(MOST_TICKS))
        return list(dict.fromkeys(min(known, key=lambda tick: abs(tick[0] - place)) for place in targets))


def section(result: Leaderboard, varied: Sequence[Swept]) -> Section | None:
    """Return the chart, or None where fewer than two settings differ."""
    model = {n: name for n, row in enumerate(result.rows) if (name := _model(row))}
    differing = [axis for parameter in varied if len(set((axis := _of_setting(parameter)).places)) > 1]
    settings = differing[:MOST_AXES]
    if len(settings) < LEAST_AXES or len(model) < 2:
        return None
    scores = [mean(row.test[model[n]]) if n in model else None for n, row in enumerate(result.rows)]
    axes = [
        *settings,
        Axis(f"{all_metrics()[result.metric].title}, test", _spread(scores, False), [_score(score) for score in scores]),
    ]
    marks = [mark for n in model for mark in _marks(axes, n, result.rows[n].label)]
    ticks = [{"axis": axis.title, "place": place, "label": label} for axis in axes for place, label in axis.ticks()]
    left = len(differing) - len(settings)
    note = f"{left} more settings differ; they are in the table." if left > 0 else ""
    chart = Chart("Settings and score", _chart_spec(axes, marks, ticks), note, marks=len(marks) + len(ticks), wide=True)
    return Section("parallel", "Settings side by side", TEXT, [chart])


def _model(row: Row) -> str | None:
    return next((name for name in ("student", "teacher") if row.test.get(name)), None)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _of_setting(parameter: Swept) -> Axis:
    """Return the axis of a setting: numbers by size, words at equal distances.

    Rows without the setting are placed at `ABSENT`, below the axis.
    """
    labels = [shown(value) for value in parameter.values]
    if parameter.is_number:
        places = _spread(parameter.values, parameter.is_logarithmic)
    else:
        levels = list(dict.fromkeys(label for label, value in zip(labels, parameter.values, strict=True) if value is not None))
        order = {level: float(n) for n, level in enumerate(levels)}
        places = _spread([None if value is None else order[shown(value)] for value in parameter.values], False)
    return Axis(parameter.path, [ABSENT if place is None else place for place in places], labels)


def _spread(values: Sequence[Any], logarithmic: bool) -> list[float | None]:
    """Return values scaled linearly to 0..1, or logarithmically.

    All values are 0.5 where they are equal, and None where a value is missing or not finite.
    """
    scaled = [None if v is None or not math.isfinite(v) else math.log(v) if logarithmic else float(v) for v in values]
    known = [value for value in scaled if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in scaled]


def _marks(axes: Sequence[Axis], n: int, method: str) -> list[dict[str, Any]]:
    at = [(axis.title, axis.places[n], axis.labels[n]) for axis in axes]
    return [{"row": n, "method": method, "axis": title, "place": place, "label": label} for title, place, label in at]


def _chart_spec(axes: Sequence[Axis], marks: Sequence[Mapping[str, Any]], ticks: Sequence[Mapping[str, Any]]) -> Spec:
    low = min(ABSENT if mark["place"] == ABSENT else 0.0 for mark in marks)
    tilted = {"labelAngle": -30, "labelLimit": 150, "domain": False}
    x = category("axis", None, [axis.title for axis in axes], scale={"padding": 0.9}, axis=tilted)
    y: Spec = {"field": "place", "type": "quantitative", "axis": None, "scale": {"domain": [low, 1], "nice": False}}
    place = {"x": x, "y": y, "detail": {"field": "row"}}
    unfiltered = "kept == null || indexof(kept, datum.row) >= 0"
    picked = {"param": "picked", "empty": False}
    opacity = {"condition": [{**picked, "value": 1}, {"test": unfiltered, "value": 0.55}], "value": FAINT}
    width = {"condition": [{**picked, "value": 4}, {"test": "datum.row == 0", "value": 3}], "value": 1.2}
    tips = [{"field": "method"}, {"field": "axis", "title": "setting"}, {"field": "label", "title": "value"}]
    pick = {"name": "picked", "select": {"type": "point", "fields": ["row"], "on": "pointerover", "clear": "pointerout"}}
    layers = [
        {"mark": {"type": "rule", "style": "interval"}, "data": {"values": list(ticks)}, "encoding": {"x": x}},
        {"mark": {"type": "line"}, "encoding": {**place, "opacity": opacity, "strokeWidth": width}},
        {
            "params": [pick],
            "mark": {"type": "point", "filled": True, "size": 60, "style": "cell"},
            "encoding": {**place, "opacity": opacity, "tooltip": tips},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 8, "style": "weak", "limit": 90},
            "data": {"values": list(ticks)},
            "encoding": {"x": x, "y": y, "text": {"field": "label"}},
        },
    ]
    return spec(marks, HEIGHT, params=seeds.PARAMS, layer=layers)
