"""Chart of every setting of a table on one axis: means, with seeds as dots."""

from __future__ import annotations

from distill_cli.reports.html.components import Chart, Section, category, spec
from distill_cli.reports.html.sweep import seeds
from distill_cli.reports.sweep.leaderboard import mean
from distill_cli.reports.sweep.table import Leaderboard

MOST_ROWS = 40
ROW = 15  # pixels a model and setting


def section(result: Leaderboard) -> Section | None:
    """Return the chart of the first rows of the table."""
    rows, dots = [], []
    labels = {n: f"{n + 1}. {row.label}" for n, row in enumerate(result.rows[:MOST_ROWS])}
    for n, label in labels.items():
        for model, values in result.rows[n].test.items():
            point = {"row": n, "method": label, "model": model, "n": len(values)}
            rows.append({**point, "score": mean(values)})
            dots += [{**point, "score": value} for value in values]
    if not rows:
        return None
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    place = {
        "y": category("method", None, list(labels.values()), axis={"labelLimit": 190}),
        "yOffset": {"field": "model", "type": "nominal", "sort": models},
        "x": seeds.axis(result),
    }
    height = (ROW * len(models) + 8) * len(labels)
    scores = spec(rows, height, params=seeds.PARAMS, layer=seeds.layers(rows, dots, place, seeds.tips(result)))
    left_out = len(result.rows) - MOST_ROWS
    note = f"The first {MOST_ROWS} rows of the table; {left_out} more are in it." if left_out > 0 else ""
    chart = Chart("Test scores", scores, note, marks=len(rows) + len(dots), wide=True)
    return Section("methods", "Settings", seeds.TEXT, [chart])
