"""The table over runs on the terminal, fitted to its width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from distill_cli.reports.sweep.columns import caption, column_cells, default_columns, problems, sentences
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.reports.terminal import console, print_line, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

METHOD_WIDTH = 14  # the least that a method's name is folded to
MOST_SENTENCES = 6
MOST_ROWS = 20  # whose run folders are named below a table that has no place for them
COLUMN_GAP = 2


def show(result: Leaderboard, columns: Sequence[str] = (), file: IO[str] | None = None) -> None:
    """Print the table, its caption, failed runs, and the verdicts of a short table.

    Args:
        result: the table.
        columns: column names; empty: those of `default_columns`, as far as they fit.
        file: output stream; None: stdout.
    """
    on = console(file)
    left_out: list[str] = []
    if result.rows:
        fitted, left_out = _fitting(result, columns, on)
        if fitted is None:
            _show_stacked(on, result, columns or default_columns(result))
        else:
            on.print(fitted)
    for line in [*caption(result), *problems(result)]:
        print_line(on, line)
    if "folders" in left_out:
        _show_folders(on, result)
    if left_out:
        print_line(on, f"too narrow for: {', '.join(left_out)}; distill report with columns= chooses")
    first = [c for row in result.rows for c in row.comparisons[:1]]
    for line in sentences(result, only=first) if len(first) <= MOST_SENTENCES else ():
        print_line(on, line, style="bold")


def _fitting(result: Leaderboard, columns: Sequence[str], on: Console) -> tuple[Table | None, list[str]]:
    """Return the widest table that fits the terminal, or None, and its omissions."""
    known = column_cells(result)
    names = list(columns or default_columns(result))
    left_out: list[str] = []
    droppable = [] if columns else ["folders", *result.controls[:0:-1], "p", "teacher"]
    while True:
        for split in (str, _wrapped):
            header = [split(known[name][0]) for name in names]
            rows = [[row.label if name == "method" else split(known[name][1](row)) for name in names] for row in result.rows]
            if _width(header, rows, names, METHOD_WIDTH if split is _wrapped else on.width) <= on.width:
                return table(on, header, rows, left=int(names[0] == "method")), left_out
        if not droppable:
            return None, []
        left_out.append(droppable.pop(0))
        names.remove(left_out[-1])


def _wrapped(cell: str) -> str:
    """Return a cell with line breaks at its spaces.

    Units that belong together, such as a number and its spread, are broken before, not within.
    """
    for unit in ("+- ", "- ", " of ", "few seeds", "macro F1"):
        cell = cell.replace(unit, unit.replace(" ", "\0"))
    return cell.replace(" ", "\n").replace("\0", " ")


def _width(header: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], method: int) -> int:
    total = 0
    for name, *column in zip(names, header, *rows, strict=True):
        widest = max(len(line) for cell in column for line in cell.split("\n"))
        total += (min(widest, method) if name == "method" else widest) + COLUMN_GAP
    return total


def _show_folders(on: Console, result: Leaderboard) -> None:
    """Print the run folders of a table that is too narrow for them."""
    for row in result.rows[:MOST_ROWS]:
        print_line(on, f"{row.label}: {' '.join(result.folders(row))}")
    if len(result.rows) > MOST_ROWS:
        print_line(on, f"the run folders of {len(result.rows) - MOST_ROWS} more rows: results.csv")


def _show_stacked(on: Console, result: Leaderboard, columns: Sequence[str]) -> None:
    known = column_cells(result)
    for row in result.rows:
        print_line(on, row.label, style="bold")
        for title, cell in (known[name] for name in columns if name != "method"):
            print_line(on, f"{title}: {cell(row)}")
