"""The table over runs: on the terminal, as results.csv and results.md, and as JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from distill_cli import files
from distill_cli.errors import UserError
from distill_cli.reports.cells import MISSING, markdown_table, markdown_text, spreadsheet_cell
from distill_cli.reports.collect import collect
from distill_cli.reports.standings import Comparison, Row, Standings, mean, standings
from distill_cli.reports.terminal import console, print_line, table
from distill_cli.stats import ENOUGH_SEEDS, bracket, p_text, spread, verdict_over_seeds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TITLES = {"macro_f1": "macro F1", "accuracy": "accuracy", "nll": "NLL", "ece": "ECE"}
METHOD_WIDTH = 14  # the least that a method's name is folded to
MOST_SENTENCES = 6
COLUMN_GAP = 2


def sweep_report(folder: str | Path, metric: str = "macro_f1", file: IO[str] | None = None) -> Standings:
    """Print the table of the runs below a folder, and write results.csv and results.md into it.

    Args:
        folder: of a sweep, which may still be running.
        metric: one of `standings.METRICS`.
        file: where to print; None is stdout.

    Raises:
        UserError: no run is there, or the folder is not writable.
    """
    result = standings(collect([folder]), metric)
    show(result, file=file)
    written = write(result, folder)
    print_line(console(file), f"written: {written[0]} and {written[1].name}")
    return result


def default_columns(result: Standings) -> list[str]:
    """Return the columns that a table shows unless others are asked for."""
    return ["method", "n", "val", "student", *result.controls, "teacher", "difference", "p", "verdict"]


def column_cells(result: Standings) -> dict[str, tuple[str, Callable[[Row], str]]]:
    """Return every column: its title and what it shows of a row."""
    columns: dict[str, tuple[str, Callable[[Row], str]]] = {
        "method": ("method", lambda row: row.label),
        "n": ("n", lambda row: str(len(row.runs))),
        "seeds": ("seeds", lambda row: " ".join(str(seed) for seed in row.seeds)),
        "val": (f"val {TITLES[result.metric]}", lambda row: spread(row.val) if row.val else MISSING),
    }
    for name in ("student", *result.controls, "teacher"):
        columns[name] = (f"{name}, test", _model_cell(name))
    control = result.controls[0] if result.controls else "control"
    columns["difference"] = (f"student - {control}", _first(_difference_cell))
    columns["p"] = ("p", _first(_p_cell))
    columns["detectable"] = ("detectable", _first(_detectable_cell))
    columns["verdict"] = ("verdict", lambda row: row.comparisons[0].result["words"] if row.comparisons else MISSING)
    columns["parameters"] = ("parameters", _parameters_cell)
    return columns


def _model_cell(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        values = row.test.get(name)
        if not values:
            return MISSING
        return f"{values[0]:.3f}" if name == "teacher" and row.one_teacher else spread(values)

    return cell


def _first(show_result: Callable[[Mapping[str, Any]], str]) -> Callable[[Row], str]:
    return lambda row: show_result(row.comparisons[0].result) if row.comparisons else MISSING


def _difference_cell(result: Mapping[str, Any]) -> str:
    if result["mean"] is None:
        return MISSING
    return f"{result['mean']:+.3f}" + ("" if result["interval"] is None else f" {bracket(result['interval'])}")


def _p_cell(result: Mapping[str, Any]) -> str:
    p = result["p"] if result.get("p_holm") is None else result["p_holm"]
    return MISSING if p is None or result["n"] < ENOUGH_SEEDS else p_text(p)


def _detectable_cell(result: Mapping[str, Any]) -> str:
    return MISSING if result["smallest_detectable"] is None else f"{result['smallest_detectable']:.3f}"


def _parameters_cell(row: Row) -> str:
    model = row.runs[0].report["models"].get("student") or row.runs[0].report["models"].get("teacher") or {}
    return MISSING if model.get("parameters") is None else f"{model['parameters']:,}"


def caption(result: Standings) -> list[str]:
    """Return the sentences below the table: what it holds, how it is sorted, what is missing."""
    found = result.found
    counts = {"finished": len(found.finished), "unfinished": len(found.unfinished), "failed": len(found.failed)}
    counts["unreadable"] = len(found.unreadable)
    lines = [f"{found.total} runs: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)]
    if result.rows:
        order = "best first by validation, never by test" if result.sorted_by == "validation" else f"sorted by {result.sorted_by}"
        lines.append(f"{TITLES[result.metric]}, mean +- sample standard deviation over n seeds; {order}")
    if any(c.result["interval"] is not None for _, c in result.comparisons):
        lines.append("in brackets: 95 % paired t interval over seeds")
    if result.shared:
        lines.append(f"all: {' '.join(result.shared)}")
    return lines + result.notes


def problems(result: Standings) -> list[str]:
    """Return one line for each run that failed or cannot be read."""
    return [f"failed: {folder}: {line}" for folder, line in result.found.failed] + [f"unreadable: {x}" for x in result.found.unreadable]


def sentences(result: Standings, only: Sequence[Comparison] | None = None) -> list[str]:
    """Return the verdict on each row against each of its controls, or on those comparisons alone."""
    several = len(result.rows) > 1
    kept = [(row, c) for row, c in result.comparisons if only is None or any(c is other for other in only)]
    return [(f"{row.label}: " if several else "") + _sentence(c, result.metric) for row, c in kept]


def _sentence(comparison: Comparison, metric: str) -> str:
    return verdict_over_seeds(comparison.student, comparison.scores, comparison.result, comparison.control, TITLES[metric])


def show(result: Standings, columns: Sequence[str] = (), file: IO[str] | None = None) -> None:
    """Print the table, its caption, what failed, and the verdicts of a short table.

    Args:
        result: the table.
        columns: which; by default those of `default_columns`, as far as they fit.
        file: where to; None is stdout.
    """
    on = console(file)
    left_out: list[str] = []
    if result.rows:
        drawn, left_out = _fitting(result, columns, on)
        if drawn is None:
            _show_stacked(on, result, columns or default_columns(result))
        else:
            on.print(drawn)
    for line in [*caption(result), *problems(result)]:
        print_line(on, line)
    if left_out:
        print_line(on, f"too narrow for: {', '.join(left_out)}; results.md has them, and columns= chooses")
    first = [c for row in result.rows for c in row.comparisons[:1]]
    for line in sentences(result, only=first) if len(first) <= MOST_SENTENCES else ():
        print_line(on, line, style="bold")


def _fitting(result: Standings, columns: Sequence[str], on: Console) -> tuple[Table | None, list[str]]:
    """Return the widest table that the terminal holds and what it leaves out, or None."""
    known = column_cells(result)
    kept, left_out = list(columns or default_columns(result)), []
    droppable = [] if columns else [*result.controls[:0:-1], "p", "teacher"]
    while True:
        for split in (str, _broken):
            header = [split(known[name][0]) for name in kept]
            rows = [[cell if name == "method" else split(cell) for name in kept for cell in (known[name][1](row),)] for row in result.rows]
            if _width(header, rows, kept, METHOD_WIDTH if split is _broken else on.width) <= on.width:
                return table(on, header, rows, left=int(kept[0] == "method")), left_out
        if not droppable:
            return None, []
        left_out.append(droppable.pop(0))
        kept.remove(left_out[-1])


def _broken(cell: str) -> str:
    """Break a cell between a number and its spread, within an interval, and words at spaces."""
    cell = cell.replace("+- ", "+-\0").replace(" - ", " -\0")
    return cell.replace(" ", "\n").replace("\0", " ").replace("\nof\n", " of ").replace("few\nseeds", "few seeds").replace("macro\nF1", "macro F1")


def _width(header: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], method: int) -> int:
    total = 0
    for name, *column in zip(names, header, *rows, strict=True):
        widest = max(len(line) for cell in column for line in cell.split("\n"))
        total += (min(widest, method) if name == "method" else widest) + COLUMN_GAP
    return total


def _show_stacked(on: Console, result: Standings, columns: Sequence[str]) -> None:
    known = column_cells(result)
    for row in result.rows:
        print_line(on, row.label, style="bold")
        for title, cell in (known[name] for name in columns if name != "method"):
            print_line(on, f"{title}: {cell(row)}")


def markdown(result: Standings) -> str:
    """Return results.md."""
    known = column_cells(result)
    names = default_columns(result)
    rows = [[markdown_text(row.label), *(known[name][1](row) for name in names[1:])] for row in result.rows]
    lines = ["# Results", ""]
    if rows:
        lines += [*markdown_table([markdown_text(known[name][0]) for name in names], rows), ""]
    lines += [f"- {markdown_text(line)}" for line in caption(result)]
    for title, found in (("Verdicts", sentences(result)), ("Failed and unreadable", problems(result))):
        if found:
            lines += ["", f"## {title}", "", *(f"- {markdown_text(line)}" for line in found)]
    return "\n".join(lines) + "\n"


def as_dicts(result: Standings) -> list[dict[str, Any]]:
    """Return one flat dict a row, with the columns of results.csv (``docs/report-schema.md``)."""
    models = list(dict.fromkeys(["student", *result.controls, "teacher", *(name for row in result.rows for name in row.test)]))
    table = []
    for rank, row in enumerate(result.rows, 1):
        flat: dict[str, Any] = {"rank": rank, "method": row.label, "command": row.runs[0].report.get("command"), "n": len(row.runs)}
        flat |= {"seeds": " ".join(str(seed) for seed in row.seeds), "metric": result.metric} | _spread("val", row.val)
        for name in models:
            flat |= _spread(f"test.{name}", row.test.get(name, []))
        by_control = {c.control: c.result for c in row.comparisons}
        for control in result.controls:
            found = by_control.get(control, {})
            low, high = found.get("interval") or (None, None)
            flat |= {f"minus.{control}.{key}": found.get(key) for key in ("n", "mean", "sd")}
            flat |= {f"minus.{control}.low": low, f"minus.{control}.high": high}
            flat |= {f"minus.{control}.{key}": found.get(key) for key in ("p", "p_holm", "smallest_detectable", "words")}
        table.append(flat)
    return table


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {f"{name}.mean": mean(values) if values else None, f"{name}.std": deviation}


def results_csv(result: Standings) -> str:
    """Return results.csv: numbers in full, empty where there is none."""
    rows = as_dicts(result)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([spreadsheet_cell(name) for name in (rows[0] if rows else {"rank": 0, "method": 0, "n": 0})])
    for row in rows:
        writer.writerow(["" if v is None else spreadsheet_cell(v) if isinstance(v, str) else v for v in row.values()])
    return out.getvalue()


def as_json(result: Standings) -> dict[str, Any]:
    """Return the table as `distill report --json` prints it."""
    found = result.found
    return {
        "metric": result.metric,
        "rows": as_dicts(result),
        "shared": result.shared,
        "notes": result.notes,
        "verdicts": sentences(result),
        "finished": len(found.finished),
        "unfinished": [str(folder) for folder in found.unfinished],
        "failed": {str(folder): line for folder, line in found.failed},
        "unreadable": found.unreadable,
    }


def write(result: Standings, folder: str | Path) -> tuple[Path, Path]:
    """Write results.csv and results.md into a folder.

    Raises:
        UserError: the folder is not writable, or is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder for results.csv and results.md")
    return files.write_text(folder / "results.csv", results_csv(result)), files.write_text(folder / "results.md", markdown(result))
