"""The table and the page of a finished sweep."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from distill_cli.reports.sweep.collect import Run, collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard
from distill_cli.reports.sweep.print_leaderboard import show
from distill_cli.reports.sweep.results_files import write
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.reports.terminal import console, print_line


def sweep_report(folder: str | Path, metric: str | None = None, file: IO[str] | None = None) -> Leaderboard:
    """Print the table of a sweep's runs, and write its files into the folder.

    The files are results.csv, results.md and report.html. The page is left out where every run has ``report.html=false``.

    Args:
        folder: folder of the sweep, which may still be running.
        metric: metric of any task; None: the primary one of the runs' task.
        file: output stream; None: stdout.

    Raises:
        UserError: the folder holds no run, or is not writable.
    """
    result = build_leaderboard(collect([folder]), metric)
    show(result, file=file)
    written = write(result, folder)
    print_line(console(file), f"written: {written[0]} and {written[1].name}")
    if any(_wants(run, "html") for run in result.collection.finished):
        from distill_cli.reports.html.sweep import page as sweep_page

        pictures = any(_wants(run, "plots") for run in result.collection.finished)
        page = sweep_page.write(result, Path(folder), pictures=pictures)
        print_line(console(file), f"report: {page}")
    return result


def _wants(run: Run, key: str) -> bool:
    settings = (run.report.get("config") or {}).get("report") or {}
    return settings.get(key) is not False
