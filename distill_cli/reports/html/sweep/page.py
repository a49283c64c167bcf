"""The report.html of a sweep: a table to sort and filter, and its charts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill_cli.metrics.statistics import INTERVAL_SEEDS, paired_t
from distill_cli.reports import formatting
from distill_cli.reports.html.page import render
from distill_cli.reports.html.run import png
from distill_cli.reports.html.run.models import LATENCY_BATCH, ROLES
from distill_cli.reports.html.run.page import PAGE
from distill_cli.reports.html.sweep import cost, methods, parallel, parameters
from distill_cli.reports.html.sweep.varied_settings import Swept, shown, swept
from distill_cli.reports.sweep.columns import caption, column_cells, default_columns, problems, sentences
from distill_cli.reports.sweep.sort_and_filter import numbers
from distill_cli.reports.sweep.table import Leaderboard, Row
from distill_cli.tasks.registry import all_metrics
from distill_cli.utils.files import write_text

MORE_COLUMNS = ("parameters", "weights", "latency")
RUNS = "runs"  # the column of links, after the columns that a reader needs first


def write(result: Leaderboard, folder: Path, columns: Sequence[str] = (), *, pictures: bool = True) -> Path:
    """Write report.html of a sweep into a folder, and return its path.

    Args:
        result: the table, sorted and filtered.
        folder: folder of ``report.html``; links to the runs' pages are relative to it.
        columns: column names; empty: those of `default_columns`, the settings that differ, size and latency.
        pictures: whether plots/cost.png is drawn, too.

    Raises:
        UserError: the folder is not writable.
    """
    if pictures and (priced := cost.section(result)) is not None:
        png.save(folder, "cost", priced.charts)
    return write_text(folder / PAGE, page(result, folder, columns))


def page(result: Leaderboard, folder: Path, columns: Sequence[str] = ()) -> str:
    """Return the HTML text of a sweep's page."""
    varied = swept(result.rows)
    pictures = [
        methods.section(result), parallel.section(result, varied), cost.section(result), parameters.section(result, varied),
    ]  # fmt: skip
    verdicts = sentences(result, only=[c for row in result.rows for c in row.comparisons[:1]])
    name = folder.resolve().name
    return render(
        "sweep.html",
        f"{title(result)}, {name}",
        [section for section in pictures if section is not None],
        kind=f"table over {result.collection.total} run{'s' if result.collection.total != 1 else ''} in {name}",
        name=title(result),
        verdict=verdicts[0] if verdicts else "no control was trained, so nothing is said about distillation",
        more_verdicts=verdicts[1:],
        cards=cards(result),
        leader=result.rows[0].label if result.rows else "",
        metric=all_metrics()[result.metric].title,
        table=table(result, varied, folder, columns),
        captions=caption(result),
        problems=problems(result),
        command=command(result, folder),
    )


def cards(result: Leaderboard) -> list[dict[str, Any]]:
    """Return the summary card of each model of the first row."""
    summaries: list[dict[str, Any]] = []
    if not result.rows:
        return summaries
    row = result.rows[0]
    for point in cost.points(row, 0, result.metric):
        values, bounds = row.test[point["model"]], all_metrics()[result.metric].bounds
        over = paired_t(values, bounds=bounds)
        if over["ci95"]:
            spread = [
                ("95 % t interval over seeds", formatting.interval(over["ci95"])),
                ("deviation", formatting.score(over["sd"])),
            ]
        elif over["sd"] is not None and over["n"] < INTERVAL_SEEDS and over["p"] is not None:
            each = ", ".join(formatting.score(value) for value in values)
            spread = [(f"each seed ({INTERVAL_SEEDS} make a t interval)", each)]
        else:
            of_one = row.runs[0].report["models"][point["model"]].get("test") or {}
            spread = [("95 % interval of one run", formatting.interval(of_one.get(f"{result.metric}_ci95")))]
        facts = [
            *spread,
            ("parameters", formatting.count(point["parameters"])),
            ("weights", formatting.size(point["weight_bytes"])),
            (f"latency, batch {LATENCY_BATCH}, median", formatting.milliseconds(point["latency"])),
        ]
        averaged_over = f"mean of {len(values)} seeds" if len(values) > 1 else "one seed"
        if point["model"] == "teacher" and row.one_teacher and len(values) > 1:
            averaged_over = f"the same in all {len(values)} runs"
        summaries.append(
            {
                "name": point["model"],
                "role": ROLES.get(point["model"], "control"),
                "score": formatting.score(point["score"]),
                "scored": f"{all_metrics()[result.metric].title}, test, {averaged_over}",
                "facts": [(what, value) for what, value in facts if value != formatting.MISSING],
            }
        )
    return summaries


def table(result: Leaderboard, varied: Sequence[Swept], folder: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Return the header and the rows of the page's table.

    Each cell has a text, and either the value to sort by (a number, None for text) or links. By default the columns stand in the
    order in which a reader needs them, the settings that differ last.
    """
    known, sortable = column_cells(result), numbers(result)
    names = list(columns) or page_columns(result)
    head = [{"key": name, "title": known[name][0], "number": name in sortable} for name in names]
    place = names.index("verdict") + 1 if "verdict" in names and not columns else len(names)
    head.insert(place, {"key": RUNS, "title": "runs, by seed", "number": False})
    settings = [] if columns else list(varied)
    head += [{"key": s.path, "title": s.path, "number": s.is_number} for s in settings]
    body = []
    for n, row in enumerate(result.rows):
        line = [_cell(known[name][1](row), sortable[name](row) if name in sortable else None) for name in names]
        line.insert(place, _cell("", None, _links(row, folder)))
        line += [_cell(shown(s.values[n]), s.values[n] if s.is_number else None) for s in settings]
        body.append({"cells": line, "label": row.label})
    return {"head": head, "rows": body}


def _cell(text: str, value: float | None, links: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    return {"text": text, "value": value, "links": links}


def page_columns(result: Leaderboard) -> list[str]:
    """Return the columns of the page: method and gain first, then selection and cost."""
    first = ["method", "student", *result.controls[:1], "difference", "verdict"]
    known = column_cells(result)
    further = [name for name in (*default_columns(result), *MORE_COLUMNS) if name in known and name not in first]
    return [*first, *further]


def _links(row: Row, folder: Path) -> list[tuple[str, str]]:
    """Return the seed and the relative address of each run.

    The address is the run's page, or the run folder where there is no page.
    """
    places = [(str(run.seed), path if (path := run.folder / PAGE).is_file() else run.folder) for run in row.runs]
    return [(seed, Path(os.path.relpath(path, folder)).as_posix()) for seed, path in places]


def title(result: Leaderboard) -> str:
    """Return the title of the table.

    The title is the name that all runs share, its part before the loss, or the names of the data sets.
    """
    reports = [run.report for row in result.rows for run in row.runs]
    names = list(dict.fromkeys(str(report.get("name") or report.get("command")) for report in reports))
    if len(names) == 1:
        return names[0]
    if not names:
        return "no finished run"
    settings = f"{len(result.rows)} setting{'s' if len(result.rows) != 1 else ''}"
    networks = {name.rpartition(", ")[0] for name in names}
    if len(networks) == 1 and (shared := networks.pop()):
        return f"{shared}, {settings}"
    data = dict.fromkeys(str((report.get("data") or {}).get("name") or "?") for report in reports)
    return f"{', '.join(data)}: {settings}"


def command(result: Leaderboard, folder: Path) -> str | None:
    """Return the command line typed last for the sweep in a folder.

    None where the folder is no sweep.
    """
    if not (folder / "multirun.yaml").is_file():
        return None
    runs = sorted(result.collection.finished, key=lambda run: run.written, reverse=True)
    lines = ((run.report.get("provenance") or {}).get("sweep_command_line") for run in runs)
    return next((line for line in lines if isinstance(line, str)), None)
