"""The table over runs as results.csv, results.md and JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.reports.formatting import markdown_table, markdown_text, spreadsheet_cell
from distill_cli.reports.sweep.columns import caption, column_cells, default_columns, problems, sentences
from distill_cli.reports.sweep.leaderboard import mean
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.utils.files import write_text

TEXTS = ("method", "folders")  # columns with text from users


def markdown(result: Leaderboard, columns: Sequence[str] = ()) -> str:
    """Return the text of results.md.

    Args:
        result: the table.
        columns: column names; empty: those of `default_columns`.
    """
    known = column_cells(result)
    names = list(columns or default_columns(result))
    rows = [
        [markdown_text(known[name][1](row)) if name in TEXTS else known[name][1](row) for name in names] for row in result.rows
    ]
    lines = ["# Results", ""]
    if rows:
        lines += [*markdown_table([markdown_text(known[name][0]) for name in names], rows, left=int(names[0] == "method")), ""]
    lines += [f"- {markdown_text(line)}" for line in caption(result)]
    for title, entries in (("Verdicts", sentences(result)), ("Failed and unreadable", problems(result))):
        if entries:
            lines += ["", f"## {title}", "", *(f"- {markdown_text(line)}" for line in entries)]
    return "\n".join(lines) + "\n"


def as_dicts(result: Leaderboard) -> list[dict[str, Any]]:
    """Return one flat dict for each row, with the columns of results.csv.

    The columns are described in ``docs/report-schema.md``.
    """
    models = list(dict.fromkeys(["student", *result.controls, "teacher", *(name for row in result.rows for name in row.test)]))
    table = []
    for rank, row in enumerate(result.rows, 1):
        flat: dict[str, Any] = {"rank": rank, "method": row.label, "command": row.runs[0].report.get("command")}
        flat |= {"n": len(row.runs), "seeds": " ".join(str(seed) for seed in row.seeds)}
        flat |= {"folders": ";".join(str(run.folder) for run in row.runs), "metric": result.metric} | _spread("val", row.val)
        for name in models:
            flat |= _spread(f"test.{name}", row.test.get(name, []))
        by_control = {c.control: c.result for c in row.comparisons}
        for control in result.controls:
            comparison = by_control.get(control, {})
            low, high = comparison.get("ci95") or (None, None)
            flat |= {f"minus.{control}.{key}": comparison.get(key) for key in ("n", "mean", "sd")}
            flat |= {f"minus.{control}.low": low, f"minus.{control}.high": high}
            flat |= {
                f"minus.{control}.{key}": comparison.get(key) for key in ("p", "p_holm", "minimum_detectable_effect", "verdict")
            }
        table.append(flat)
    return table


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {f"{name}.mean": mean(values) if values else None, f"{name}.std": deviation}


def results_csv(result: Leaderboard) -> str:
    """Return the text of results.csv, with numbers in full and empty cells for None."""
    rows = as_dicts(result)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([spreadsheet_cell(name) for name in (rows[0] if rows else {"rank": 0, "method": 0, "n": 0})])
    for row in rows:
        writer.writerow(["" if v is None else spreadsheet_cell(v) if isinstance(v, str) else v for v in row.values()])
    return out.getvalue()


def as_json(result: Leaderboard) -> dict[str, Any]:
    """Return the table as `distill report --json` prints it."""
    collection = result.collection
    return {
        "metric": result.metric,
        "rows": as_dicts(result),
        "shared": result.shared,
        "notes": result.notes,
        "verdicts": sentences(result),
        "finished": len(collection.finished),
        "unfinished": [str(folder) for folder in collection.unfinished],
        "failed": {str(folder): line for folder, line in collection.failed},
        "unreadable": collection.unreadable,
    }


def write(result: Leaderboard, folder: str | Path, columns: Sequence[str] = ()) -> tuple[Path, Path]:
    """Write results.csv with all columns, and results.md, into a folder.

    Returns:
        The paths of the two files.

    Raises:
        UserError: the folder is not writable, or is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder for results.csv and results.md")
    written = write_text(folder / "results.csv", results_csv(result))
    return written, write_text(folder / "results.md", markdown(result, columns))
