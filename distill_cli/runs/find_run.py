"""The run folder that a user's path stands for."""

from __future__ import annotations

import sys
from pathlib import Path

from distill_cli.errors import UserError
from distill_cli.reports.sweep.collect import RunCollection, collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard, score
from distill_cli.runs import layout
from distill_cli.tasks.registry import all_metrics


def find_run(path: str | Path, option: str) -> Path:
    """Return the run folder that a user chose, and print it if it was searched.

    Args:
        path: a run folder, a folder of single runs (the newest is chosen), or ``SWEEP/best``.
        option: name of the option, for messages.

    Raises:
        UserError: `layout.resolve_run` finds no run, or the sweep has no finished one.
    """
    folder = Path(path)
    if folder.name == layout.BEST and not folder.exists() and layout.is_sweep(folder.parent):
        chosen, why = best(folder.parent, f"{option}={path}")
    else:
        chosen, why = layout.resolve_run(folder, option), "the newest run in it"
    if chosen != folder:
        sys.stderr.write(f"{option}={path}: {chosen}, {why}\n")
    return chosen


def named(folder: Path) -> str:
    """Return the name of a run folder in reports: as typed, or its whole path.

    The whole path is used where the path has no name, such as ``.``.
    """
    return str(folder if folder.name else folder.resolve())


def best(sweep: Path, typed: str) -> tuple[Path, str]:
    """Return a sweep's best run by validation, and the reason as text.

    The best run is that of the best seed in the first row of the sweep's table.

    Args:
        sweep: folder of the sweep.
        typed: the option as typed, for messages.

    Raises:
        UserError: no run of the sweep is finished and holds models.
    """
    everything = collect([sweep])
    able = [run for run in everything.finished if (run.folder / layout.MODELS).is_file()]
    table = build_leaderboard(RunCollection(finished=able))
    if not table.rows:
        raise UserError(f"{typed}: no run of this sweep is finished and holds models")
    row = table.rows[0]
    model = "student" if "student" in row.test else "teacher"
    run = max(row.runs, key=lambda run: score(run, model, "val", table.metric) or 0.0)
    title = all_metrics()[table.metric].title
    left = everything.total - len(everything.finished)
    remaining = f"; {left} of its {everything.total} runs are not finished" if left else ""
    return run.folder, f"first by validation {title} of {len(able)} runs ({row.label}, seed {run.seed}){remaining}"
