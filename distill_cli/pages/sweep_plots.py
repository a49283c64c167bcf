"""plots/cost.png of a sweep: score against parameters, bytes and latency, with the Pareto front."""

from __future__ import annotations

from pathlib import Path

from distill_cli.metrics.scores import LOWER_IS_BETTER
from distill_cli.pages import cost, plots
from distill_cli.reports.columns import TITLES
from distill_cli.reports.standings import Standings

DRAWN = ("parameters", "weight_bytes", "latency")


def write(folder: Path, result: Standings) -> Path | None:
    """Write the picture and return its path, None where no cost is known."""
    points = [point for n, row in enumerate(result.rows) for point in cost.points(row, n, result.metric)]
    known = [key for key in DRAWN if any(point[key] is not None for point in points)]
    if not known:
        return None
    figure = plots.figure_of(3.6 * len(known), 3.2)
    models = list(dict.fromkeys(str(point["model"]) for point in points))
    for axes, key in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        priced = [point for point in points if point[key] is not None]
        best = cost.front(priced, key, result.metric in LOWER_IS_BETTER)
        axes.step([p[key] for p in best], [p["score"] for p in best], where="post", color="grey", linewidth=0.8, linestyle="--")
        for model in models:
            mine = [p for p in priced if p["model"] == model]
            look = {**plots.look_of(model, models), "linestyle": "none"}
            seeds = [(p[key], score) for p in mine for score in p["seeds"]]
            axes.plot([x for x, _ in seeds], [y for _, y in seeds], **look, markersize=2, alpha=0.4)
            axes.plot([p[key] for p in mine], [p["score"] for p in mine], label=plots.plain(model), **look, markersize=5)
        axes.set(xscale="log", xlabel=cost.COSTS[key][1], ylabel=f"{TITLES[result.metric]}, test")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return plots.save(folder / plots.FOLDER / "cost.png", figure)
