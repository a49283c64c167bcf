"""Report of one run on the terminal: a rich table, or plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from distill_cli.reports.run import model_table
from distill_cli.reports.run.markdown import notes_of
from distill_cli.reports.run.origin import origin
from distill_cli.tasks.registry import report_task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 10_000  # off a terminal nothing may be wrapped or cut
MOST_CLASSES = 12
FIRST_COLUMN, MODEL_COLUMN = 20, 15  # characters


def console(file: IO[str] | None = None) -> Console:
    """Return the console for tables: in color on a terminal, else plain text.

    Plain text is never wrapped.
    """
    from rich.console import Console

    file = sys.stdout if file is None else file
    on_terminal = file.isatty()
    return Console(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=None if on_terminal else True,
        force_terminal=None if on_terminal else False,
        width=None if on_terminal else PIPE_WIDTH,
        soft_wrap=not on_terminal,
    )


def table(on: Console, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Table:
    """Return a rich table.

    Args:
        on: console that prints the table.
        header: column titles.
        rows: cells of each row.
        left: number of left-aligned text columns, which fold on a narrow terminal; the others are right-aligned and never cut.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    box, right = (SIMPLE_HEAD, 1) if on.is_terminal else (None, 2)
    rich_table = Table(box=box, pad_edge=False, header_style="bold", padding=(0, right, 0, 0))
    for i, name in enumerate(header):
        text = i < left
        rich_table.add_column(Text(name), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in rows:
        rich_table.add_row(*(Text(cell) for cell in row))
    return rich_table


def print_report(report: Mapping[str, Any], folder: str | Path, file: IO[str] | None = None) -> None:
    """Print a run's models, F1 of each class, the verdict and the run folder.

    Args:
        report: content of report.json.
        folder: run folder.
        file: output stream; None: stdout.
    """
    on = console(file)
    print_origin(on, report)
    if data := data_line(report):
        print_line(on, data)
    if model_table.splits(report):
        print_models(on, report)
        _print_members(on, report)
        _print_chain(on, report)
        _print_classes(on, report, model_table.model_names(report))
    print_line(on, str(report["verdict"]), style="bold")
    for note in notes_of(report):
        print_line(on, f"note: {note}")
    print_line(on, f"run folder: {folder}")


def print_origin(on: Console, report: Mapping[str, Any]) -> None:
    """Print the run that an `eval`, `export` or `bench` report is about.

    Nothing is printed for a report on a run of its own.
    """
    if text := origin(report):
        print_line(on, text, style="bold")


def data_line(report: Mapping[str, Any]) -> str:
    """Return the line on the data: name, classes and rows of each split.

    The line is empty where the report has no data set.
    """
    data = report.get("data")
    if not isinstance(data, Mapping) or not data.get("name"):
        return ""
    rows, parts = model_table.rows_of_splits(report), report_task(report).parts
    classes = f", {len(data['class_names'])} {parts}" if parts and data.get("class_names") else ""
    return f"data: {data['name']}{classes}" + "".join(f", {split} {n:,}" for split, n in rows.items())


def print_models(on: Console, report: Mapping[str, Any]) -> None:
    """Print the table of a report's models."""
    _print_blocks(on, [""], [([what], line) for what, line in model_table.rows(report)], model_table.model_names(report))


def _print_members(on: Console, report: Mapping[str, Any]) -> None:
    rows = model_table.member_rows(report)
    if rows:
        print_line(
            on,
            f"members of the teacher, {model_table.splits(report)[0]} {model_table.primary_metric(report).title}: "
            + ", ".join(row[3] for row in rows),
        )


def _print_chain(on: Console, report: Mapping[str, Any]) -> None:
    rows = model_table.generation_rows(report)
    if rows:
        print_line(
            on,
            f"generations, test {model_table.primary_metric(report).title}: " + " -> ".join(f"{row[0]} {row[2]}" for row in rows),
        )


def _print_classes(on: Console, report: Mapping[str, Any], names: Sequence[str]) -> None:
    rows = model_table.class_rows(report)
    if not rows:
        return
    title = f"{report_task(report).part_columns[0].title}, {model_table.splits(report)[0]}"
    if len(rows) > MOST_CLASSES:
        which = names.index("student") if "student" in names else 0
        title += f", the {MOST_CLASSES} lowest of {len(rows)} ({names[which]})"
        rows = sorted(rows, key=lambda row: row[1][1 + which])[:MOST_CLASSES]
    _print_blocks(on, [title, "rows"], [([name, line[0]], line[1:]) for name, line in rows], names)
    if any(name.endswith(" *") for name, _ in rows):
        print_line(on, "* shown, not averaged into macro F1")


def _print_blocks(on: Console, first: Sequence[str], rows: Sequence[tuple[list[str], list[str]]], names: Sequence[str]) -> None:
    """Print one table, or several below each other on a narrow terminal."""
    at_once = max(1, (on.width - FIRST_COLUMN) // MODEL_COLUMN)
    for start in range(0, len(names), at_once):
        part = slice(start, start + at_once)
        on.print(table(on, [*first, *names[part]], [[*head, *line[part]] for head, line in rows]))
        if not on.is_terminal:
            on.print()


def print_line(on: Console, text: str, style: str = "") -> None:
    """Print one line of text, with runs of white space collapsed."""
    from rich.text import Text

    on.print(Text(" ".join(text.split()), style=style))
