"""Two runs side by side, and the paired bootstrap between their students."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.metrics.statistics import bootstrapped, paired_bootstrap
from distill_cli.reports.run.model_table import primary_metric, splits
from distill_cli.reports.run.predictions_csv import read_predictions
from distill_cli.reports.sweep.collect import Run
from distill_cli.reports.terminal import console, print_line, print_models
from distill_cli.tasks.classification.evaluator import PredictedClasses
from distill_cli.tasks.registry import report_task


@dataclass(frozen=True)
class RunComparison:
    """Two runs.

    Attributes:
        a, b: the runs.
        model: which of their models is compared: student, or teacher where a run has no student.
        split: on which.
        result: `paired_bootstrap` of a minus b, or None.
        reason: why there is no result, or None.
    """

    a: Run
    b: Run
    model: str
    split: str
    result: dict[str, Any] | None
    reason: str | None

    @property
    def side_by_side(self) -> dict[str, Any]:
        """A report whose models are those of both runs, named ``A student``, ``B student`` and so on."""
        models = {}
        for name in dict.fromkeys(["student", *self.a.report["models"], *self.b.report["models"]]):
            for letter, run in (("A", self.a), ("B", self.b)):
                if run.report["models"].get(name):
                    models[f"{letter} {name}"] = run.report["models"][name]
        return {"models": models}

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.result is None:
            return f"A and B are not compared row by row: {self.reason}"
        title = primary_metric(self.a.report).title
        return (
            f"{self.model}, {self.split} {title}, A minus B: {self.result['difference']:+.3f}{bootstrapped(self.result)}: "
            "one run each, no verdict on the methods"
        )


def compare(a: Run, b: Run) -> RunComparison:
    """Return the comparison of two finished runs; it needs the same data and the predictions of both."""
    models = [{name for name, model in run.report["models"].items() if model} for run in (a, b)]
    model = "student" if "student" in models[0] & models[1] else "teacher"
    found = [next(iter(splits(run.report)), "test") for run in (a, b)]
    try:
        if model not in models[0] & models[1]:
            raise UserError("one has a student, the other only a teacher")
        if found[0] != found[1]:
            raise UserError(f"one is scored on {found[0]}, the other on {found[1]}")
        return RunComparison(a, b, model, found[0], _paired(a, b, model, found[0]), None)
    except UserError as e:
        return RunComparison(a, b, model, found[0], None, str(e))


def _paired(a: Run, b: Run, model: str, split: str) -> dict[str, Any]:
    data: list[Mapping[str, Any]] = [run.report.get("data") or {} for run in (a, b)]
    if data[0].get("fingerprint") != data[1].get("fingerprint") or data[0].get("class_names") != data[1].get("class_names"):
        raise UserError("their data or split differ (data.fingerprint)")
    if not report_task(a.report).has_classes:
        raise UserError(f"rows of task={a.report.get('task')} are compared within one run alone")
    paths = [run.folder / "predictions.csv" for run in (a, b)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing")
    names = list(data[0].get("class_names") or ())
    left, right = (read_predictions(path, names, [model]) for path in paths)
    if not (np.array_equal(left.rows, right.rows) and np.array_equal(left.y, right.y)):
        raise UserError("their predictions are of other rows")
    scores = a.report["models"][model].get(split) or {}
    averaged = [c for c, name in enumerate(names) if name in scores.get("averaged", names)]
    settings = (a.report.get("config") or {}).get("bootstrap") or {}
    return paired_bootstrap(
        PredictedClasses(left.y, left.predicted[model], len(names), averaged),
        PredictedClasses(right.y, right.predicted[model], len(names), averaged),
        left.groups,
        int(1000 if settings.get("resamples") is None else settings["resamples"]),
        int(settings.get("seed") or 0),
    )


def show(result: RunComparison, file: IO[str] | None = None) -> None:
    """Print the models of both runs side by side, and what the rows they share say."""
    on = console(file)
    print_models(on, result.side_by_side)
    for letter, run in (("A", result.a), ("B", result.b)):
        print_line(on, f"{letter}: {run.folder} (seed {run.seed})")
    print_line(on, result.verdict, style="bold")


def as_json(result: RunComparison) -> dict[str, Any]:
    """Return the comparison as `distill report A B --json` prints it."""
    return {
        "a": str(result.a.folder),
        "b": str(result.b.folder),
        "model": result.model,
        "models": {"a": result.a.report["models"], "b": result.b.report["models"]},
        "comparison": result.result,
        "why_not": result.reason,
        "verdict": result.verdict,
    }
