"""The command `distill report`: a table over runs, or two runs side by side.

Neither hydra nor torch is imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill_cli.commands.parser import Parser
from distill_cli.config.paths import expanded
from distill_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from distill_cli.reports.sweep.table import Leaderboard

HELP = """\
usage: distill report FOLDER... [key=value ...] [--json]

one table over the runs below the folders: mean and deviation over seeds, best first by validation; student, controls and
teacher; the verdict over seeds; with results.csv, results.md and report.html, a page that sorts, filters and draws. Of a single
run the page is drawn again. Two run folders are compared with each other. Works while a sweep still runs. Of several folders
files are written where output= says.

keys:
  metric=macro_f1      macro_f1, accuracy, nll or ece
  sort=validation      or a column of numbers: student, scratch, another control's name, teacher, difference, p, n, parameters,
                       weights, latency
  filter=A,B           rows for which all hold: 'student>0.85', n>=5, method~dkd (contains), any key of the config such as
                       loss.temperature=4, or a word that the method contains
  columns=A,B          which columns: method, n, seeds, val, student, scratch (and other controls), teacher, difference, p,
                       detectable, verdict, folders, parameters, weights, latency; results.csv has all
  output=FOLDER        where the files go; by default into FOLDER, if one is named that holds runs
  open=true            open the page in the browser
  samples=false        no single sample, such as a patient's beat, on the page of a run
flags:
  --json               print the table as JSON to stdout, and nothing else there
"""
KEYS = dict.fromkeys(("metric", "sort", "filter", "columns", "output"), "VALUE") | {"open": "true", "samples": "false"}
SWITCHES = {"true": True, "false": False}


@dataclass
class Arguments:
    """Parsed arguments of the command."""

    folders: list[str] = field(default_factory=list)
    metric: str | None = None
    sort: str = "validation"
    filter: str = ""
    columns: str = ""
    output: str = ""
    open: str = "false"
    samples: str = "true"
    json: bool = False


def parse(argv: Sequence[str]) -> Arguments:
    """Return the parsed arguments.

    Raises:
        UserError: a flag or key is unknown, or no folder is named.
    """
    from distill_cli.tasks.registry import all_metrics

    typed = Parser("report", "--json", keys=KEYS).read(argv)
    parsed = Arguments(json=typed.json)
    for text in typed.words:
        key, equals, value = text.partition("=")
        if equals and key in KEYS:
            setattr(parsed, key, expanded(value) if key == "output" else value)
        elif equals and not Path(text).exists() and "/" not in key:
            raise UserError(f"unknown key '{key}'{did_you_mean(key, KEYS)} (it has: {', '.join(KEYS)})")
        else:
            parsed.folders.append(text)
    if not parsed.folders:
        raise UserError("name a run folder, or a folder that holds some: distill report FOLDER")
    for key in ("open", "samples"):
        if getattr(parsed, key) not in SWITCHES:
            raise UserError(f"{key}={getattr(parsed, key)}: expected true or false")
    if parsed.metric is not None and parsed.metric not in all_metrics():
        known = list(all_metrics())
        raise UserError(
            f"metric={parsed.metric}: no such metric{did_you_mean(parsed.metric, known)} (available: {', '.join(known)})"
        )
    return parsed


def main(argv: Sequence[str]) -> int:
    """Run the command, and return the exit code.

    Raises:
        UserError: a folder holds no runs, a run is unfinished, or a metric or column is unknown.
    """
    typed = parse(argv)
    folders = [Path(folder) for folder in typed.folders]
    from distill_cli.reports.sweep.collect import is_run

    if SWITCHES[typed.open] and len(folders) > 1 and not typed.output:
        raise UserError("open=true: nothing is written of several folders; add output=FOLDER")
    if len(folders) == 2 and folders[0].resolve() != folders[1].resolve() and all(map(is_run, folders)):
        _compare(folders[0], folders[1], typed)
    else:
        _table(folders, typed)
    return 0


def _table(folders: Sequence[Path], typed: Arguments) -> None:
    from distill_cli.reports.sweep import results_files
    from distill_cli.reports.sweep.collect import is_run
    from distill_cli.reports.sweep.print_leaderboard import show

    result, columns = _chosen(folders, typed)
    if typed.json:
        print(json.dumps(results_files.as_json(result), indent=2, ensure_ascii=False))
    else:
        show(result, columns)
    only_run = len(folders) == 1 and is_run(folders[0])
    if len(folders) > 1 and not typed.output:
        return
    try:
        written = _page_of_run(folders[0], result, typed) if only_run else _files(result, typed.output or folders[0], columns)
    except UserError as e:
        if typed.output:
            raise
        sys.stderr.write(f"distill report: nothing is written: {e}; output=FOLDER chooses another folder\n")
        return
    _announce(written, typed)


def _chosen(folders: Sequence[Path], typed: Arguments) -> tuple[Leaderboard, list[str]]:
    """Return the table over folders, sorted and filtered, and the chosen columns."""
    from distill_cli.reports.sweep.collect import collect
    from distill_cli.reports.sweep.columns import column_cells
    from distill_cli.reports.sweep.leaderboard import build_leaderboard
    from distill_cli.reports.sweep.sort_and_filter import filter_rows, sort

    result = build_leaderboard(collect(folders), typed.metric)
    known = column_cells(result)
    columns = [name for name in typed.columns.split(",") if name]
    for name in columns:
        if name not in known:
            raise UserError(f"columns={name}: no such column{did_you_mean(name, known)} (available: {', '.join(known)})")
    sort(result, typed.sort)
    filter_rows(result, typed.filter)
    return result, columns


def _files(result: Leaderboard, folder: str | Path, columns: Sequence[str]) -> list[Path]:
    """Write a table's files, and return their paths, the page last."""
    from distill_cli.reports.html.sweep import page as sweep_page
    from distill_cli.reports.sweep import results_files

    return [*results_files.write(result, folder, columns), sweep_page.write(result, Path(folder), columns)]


def _page_of_run(folder: Path, result: Leaderboard, typed: Arguments) -> list[Path]:
    """Write the page of a finished run again, and return the paths written.

    A failed run has no page.
    """
    from distill_cli.reports.html.run import page as run_page
    from distill_cli.reports.sweep import results_files

    written = [*results_files.write(result, typed.output)] if typed.output else []
    reports = [run.report for run in result.collection.finished]
    to = Path(typed.output) if typed.output else folder
    try:
        return written + [run_page.write(folder, report, to, samples=SWITCHES[typed.samples]) for report in reports]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as e:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        # The files may come from anyone, and hold anything in place of numbers.
        why = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        raise UserError(f"{folder}: its files are damaged, and no page can be drawn of them ({why})") from None


def _announce(written: Sequence[Path], typed: Arguments) -> None:
    """Print the files written, and open the page if asked."""
    from distill_cli.reports.terminal import console, print_line

    if not written:
        return
    *tables, page = written
    if not typed.json:
        if tables:
            print_line(console(), f"written: {tables[0]} and {tables[1].name}")
        print_line(console(), f"report: {page}")
    if SWITCHES[typed.open]:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            sys.stderr.write(f"distill report: no browser is found here; open {page.resolve().as_uri()}\n")


def _compare(a: Path, b: Path, typed: Arguments) -> None:
    from distill_cli.reports.sweep.collect import read_run
    from distill_cli.reports.sweep.compare_two import as_json, compare, show

    for folder in (a, b):
        if not (folder / "report.json").exists():
            raise UserError(f"{folder}: run folder unfinished (it has no report.json); wait for it or run it again")
    if not typed.output and (unread := next((key for key in ("sort", "filter", "columns", "metric") if _set(typed, key)), "")):
        raise UserError(
            f"{unread}={getattr(typed, unread)}: two runs are compared, not listed; add output=FOLDER for a table of both"
        )
    result = compare(read_run(a), read_run(b))
    chosen = _chosen([a, b], typed) if typed.output else None
    if typed.json:
        print(json.dumps(as_json(result), indent=2, ensure_ascii=False))
    else:
        show(result)
    if chosen is not None:
        table, columns = chosen
        table.notes.append(result.verdict)
        _announce(_files(table, typed.output, columns), typed)


def _set(typed: Arguments, key: str) -> bool:
    """Return whether a key has another value than its default."""
    return bool(getattr(typed, key) != getattr(Arguments(), key))
