"""Which run a folder stands for, with a word wherever it is not that folder itself."""

from __future__ import annotations

import sys
from pathlib import Path

from distill_cli.errors import UserError
from distill_cli.reports.sweep.collect import RunCollection, collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard, score
from distill_cli.runs import layout
from distill_cli.tasks.registry import all_metrics


def find_run(path: str | Path, option: str) -> Path:
    """Return the run folder that a user chose: a run, the newest of some single runs, or the best of a sweep.

    Args:
        path: a run folder, a folder of single runs, or ``SWEEP/best``.
        option: what it was typed for, for messages.

    Raises:
        UserError: what `runs.find` refuses, or a sweep without a finished run.
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
    """Return a run folder as it is called in reports and cards: as it was typed, or by its whole path where that has no name."""
    return str(folder if folder.name else folder.resolve())


def best(sweep: Path, typed: str) -> tuple[Path, str]:
    """Return the run of a sweep that is first by validation, and why in words: of the first row of its table the best seed.

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
    rest = f"; {left} of its {everything.total} runs are not finished" if left else ""
    return run.folder, f"first by validation {title} of {len(able)} runs ({row.label}, seed {run.seed}){rest}"
