"""Charts of the student's score against each setting that differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_cli.reports.html.components import Chart, Section, Spec, category, quantity, spec
from distill_cli.reports.html.sweep import seeds
from distill_cli.reports.html.sweep.varied_settings import Swept, shown
from distill_cli.reports.sweep.leaderboard import mean
from distill_cli.reports.sweep.table import Leaderboard

HEIGHT = 220


def section(result: Leaderboard, varied: Sequence[Swept]) -> Section | None:
    """Return the section with one chart for each setting."""
    charts = [chart for parameter in varied if (chart := _chart(result, parameter))]
    text = f"{seeds.TEXT} Other settings may differ along with the one that is shown."
    return Section("parameters", "Score against each setting", text, charts) if charts else None


def _chart(result: Leaderboard, parameter: Swept) -> Chart | None:
    rows: list[dict[str, Any]] = []
    dots: list[dict[str, Any]] = []
    for n, (row, value) in enumerate(zip(result.rows, parameter.values, strict=True)):
        model = next((name for name in ("student", "teacher") if row.test.get(name)), None)
        if value is None or model is None:
            continue
        point = {"row": n, "method": row.label, "model": model, "value": value if parameter.is_number else shown(value)}
        rows.append({**point, "score": mean(row.test[model]), "n": len(row.test[model])})
        dots += [{**point, "score": score} for score in row.test[model]]
    if len({row["value"] for row in rows}) < 2:
        return None
    scale = {"type": "log", "nice": False, "padding": 16} if parameter.is_logarithmic else {"nice": False, "padding": 16}
    x: Spec = category("value", parameter.path, axis={"labelAngle": -30, "labelLimit": 120})
    if parameter.is_number:
        x = quantity("value", parameter.path, scale=scale, axis={"format": "~r"})
    tips = seeds.tips(result, {"field": "value", "title": parameter.path})
    chart = spec(rows, HEIGHT, params=seeds.PARAMS, layer=seeds.layers(rows, dots, {"x": x, "y": seeds.axis(result)}, tips))
    return Chart(parameter.path, chart, marks=len(rows) + len(dots))
