"""Data classes of the table over runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.reports.sweep.collect import Run, RunCollection


@dataclass
class Comparison:
    """Comparison of the student with one control, over the seeds that have both.

    Attributes:
        control: name of the control.
        student, scores: test scores of student and control, one for each seed.
        result: result of `paired_t` of student minus control; ``p_holm`` is corrected for all comparisons of the table.
    """

    control: str
    student: list[float]
    scores: list[float]
    result: dict[str, Any]


@dataclass
class Row:
    """One setting of the table.

    Attributes:
        label: text that names the setting.
        runs: one run for each seed.
        val: validation scores of the student, or of the teacher where there is no student.
        test: test scores by model.
        comparisons: student against each control.
    """

    label: str
    runs: list[Run]
    val: list[float]
    test: dict[str, list[float]]
    comparisons: list[Comparison]

    @property
    def seeds(self) -> list[int | None]:
        """Seeds of the runs."""
        return [run.seed for run in self.runs]

    @property
    def one_teacher(self) -> bool:
        """Whether one teacher served all seeds."""
        prints = {str(run.report.get("teacher_fingerprint") or run.report.get("teacher_key")) for run in self.runs}
        return len(prints) == 1 and len(set(self.test.get("teacher", ()))) == 1


@dataclass
class Leaderboard:
    """A table over runs.

    Attributes:
        metric: name of the metric of all scores.
        rows: rows, best first by `sorted_by`.
        controls: names of all controls: tuned, scratch, others.
        shared: overrides that all rows have.
        collection: the runs of the table, and those that could not be used.
        notes: sentences on how to read the table.
        sorted_by: ``validation`` or a numeric column.
    """

    metric: str
    rows: list[Row]
    controls: list[str]
    shared: list[str]
    collection: RunCollection
    notes: list[str] = field(default_factory=list)
    sorted_by: str = "validation"

    @property
    def home(self) -> Path:
        """The common parent folder of all runs of the table."""
        parents = [run.folder.parent for row in self.rows for run in row.runs]
        return Path(os.path.commonpath(parents)) if parents and len({p.is_absolute() for p in parents}) == 1 else Path()

    def folders(self, row: Row) -> list[str]:
        """Return the run folders of a row, relative to `home`."""
        return [Path(os.path.relpath(run.folder, self.home)).as_posix() for run in row.runs]

    @property
    def comparisons(self) -> list[tuple[Row, Comparison]]:
        """All comparisons of the table, each with its row."""
        return [(row, comparison) for row in self.rows for comparison in row.comparisons]
