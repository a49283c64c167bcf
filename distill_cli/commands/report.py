"""`distill report`: one table over runs, or two runs side by side. Needs neither hydra nor torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill_cli.errors import UserError, near

HELP = """\
usage: distill report FOLDER... [key=value ...] [--json]

one table over the runs below the folders: mean and deviation over seeds, best first by validation; student, controls and
teacher; the verdict over seeds. Two run folders are compared with each other. Works while a sweep still runs.

keys:
  metric=macro_f1      macro_f1, accuracy, nll or ece
  sort=validation      or a column of numbers: student, scratch, another control's name, teacher, difference, n
  columns=A,B          which columns: method, n, seeds, val, student, scratch (and other controls), teacher, difference, p,
                       detectable, verdict, parameters
  output=FOLDER        where results.csv and results.md go; by default into FOLDER, if one is named that holds runs
flags:
  --json               print the table as JSON to stdout, and nothing else there
"""
KEYS = ("metric", "sort", "columns", "output")


@dataclass
class Arguments:
    """What was typed."""

    folders: list[str] = field(default_factory=list)
    metric: str = "macro_f1"
    sort: str = "validation"
    columns: str = ""
    output: str = ""
    json: bool = False


def parse(argv: Sequence[str]) -> Arguments:
    """Return what was typed.

    Raises:
        UserError: an unknown flag or key, or no folder.
    """
    from distill_cli.reports.standings import METRICS

    found = Arguments()
    for word in argv:
        key, equals, value = word.partition("=")
        if word == "--json":
            found.json = True
        elif word.startswith("-"):
            raise UserError(f"unknown flag '{word}'{near(word, ['--json', '--help']) or '; see distill report --help'}")
        elif equals and key in KEYS:
            setattr(found, key, value)
        elif equals and not Path(word).exists() and "/" not in key:
            raise UserError(f"unknown key '{key}'{near(key, KEYS)} (it has: {', '.join(KEYS)})")
        else:
            found.folders.append(word)
    if not found.folders:
        raise UserError("name a run folder, or a folder that holds some: distill report FOLDER")
    if found.metric not in METRICS:
        raise UserError(f"metric={found.metric}: no such metric{near(found.metric, METRICS)} (available: {', '.join(METRICS)})")
    return found


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Raises:
        UserError: a folder without runs, an unfinished run, an unknown metric or column.
    """
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(HELP)
        return 0
    typed = parse(argv)
    folders = [Path(folder) for folder in typed.folders]
    from distill_cli.reports.collect import is_run

    if len(folders) == 2 and folders[0].resolve() != folders[1].resolve() and all(map(is_run, folders)):
        _compare(folders[0], folders[1], typed)
    else:
        _table(folders, typed)
    return 0


def _table(folders: Sequence[Path], typed: Arguments) -> None:
    from distill_cli.reports import results
    from distill_cli.reports.collect import collect, is_run
    from distill_cli.reports.columns import column_cells
    from distill_cli.reports.leaderboard import show
    from distill_cli.reports.standings import sort, standings
    from distill_cli.reports.terminal import console, print_line

    result = standings(collect(folders), typed.metric)
    known = column_cells(result)
    columns = [name for name in typed.columns.split(",") if name]
    for name in columns:
        if name not in known:
            raise UserError(f"columns={name}: no such column{near(name, known)} (available: {', '.join(known)})")
    sort(result, typed.sort)
    written = None
    if typed.output:
        written = results.write(result, typed.output)
    elif len(folders) == 1 and not is_run(folders[0]):
        try:
            written = results.write(result, folders[0])
        except UserError as e:
            sys.stderr.write(f"distill report: the table is not written: {e}; output=FOLDER chooses another folder\n")
    if typed.json:
        print(json.dumps(results.as_json(result), indent=2, ensure_ascii=False))
        return
    show(result, columns)
    if written is not None:
        print_line(console(), f"written: {written[0]} and {written[1].name}")


def _compare(a: Path, b: Path, typed: Arguments) -> None:
    from distill_cli.reports.collect import read_run
    from distill_cli.reports.compare import as_json, compare, show

    for folder in (a, b):
        if not (folder / "report.json").exists():
            raise UserError(f"{folder}: run folder unfinished (it has no report.json); wait for it or run it again")
    result = compare(read_run(a), read_run(b))
    if typed.json:
        print(json.dumps(as_json(result), indent=2, ensure_ascii=False))
    else:
        show(result)
