"""What a run's page is drawn from: files of the run folder, nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.reports.formatting import spreadsheet_cell
from distill_cli.reports.run import model_table
from distill_cli.reports.run.predictions_csv import Predictions, read_predictions
from distill_cli.tasks.registry import report_task

Epoch = dict[str, Any]
TEXT = ("model", "stage")


@dataclass(frozen=True)
class RunData:
    """A finished run.

    Attributes:
        report: what report.json holds.
        epochs: rows of metrics.csv and teacher_metrics.csv, numbers as floats, None where a cell is empty.
        predictions: of the first split, with probabilities, or None; of exclusive classes alone.
        samples: what samples.json holds, or None.
        shows_samples: whether single samples, such as a patient's beat, may be on the page.
    """

    report: Mapping[str, Any]
    epochs: Sequence[Epoch] = ()
    predictions: Predictions | None = None
    samples: Mapping[str, Any] | None = None
    shows_samples: bool = True

    @property
    def models(self) -> list[str]:
        """Teacher, student, controls, as far as they are there."""
        return model_table.model_names(self.report)

    @property
    def split(self) -> str | None:
        """The split that the page shows, None where nothing was scored."""
        found = model_table.splits(self.report)
        return found[0] if found else None

    def scores(self, model: str) -> Mapping[str, Any]:
        """Return a model's scores on that split, empty where it has none."""
        return self.report["models"][model].get(self.split) or {}

    @property
    def class_names(self) -> list[str]:
        """In class order."""
        return [str(name) for name in (self.report.get("data") or {}).get("class_names") or ()]

    def row_name(self, row: int, group: str | None = None) -> str:
        """Return what a row is called: its place in its file where the data is files of rows, else its row id; and its group."""
        before, name = 0, f"row id {row}"
        for file, rows in (self.report.get("data") or {}).get("files") or ():
            if before <= row < before + rows:
                name = f"{file}, data row {row - before + 1}"
            before += rows
        return name if group is None else f"{name}, group {group}"


ROW_IDS = (
    "A row id counts the rows of the data from 0, in the order in which they are read, all splits together; a data row counts "
    "those of its file from 1, the header aside. predictions.csv has the row ids in its column row."
)


def read_run_data(folder: Path, report: Mapping[str, Any], *, samples: bool = True) -> RunData:
    """Return what the page of a run folder is drawn from.

    Args:
        folder: the run folder.
        report: what its report.json holds.
        samples: False keeps single samples out, as ``report.samples=false`` in the run's config does.

    Raises:
        UserError: a file is damaged.
    """
    data = RunData(report)
    files = [folder / name for name in ("metrics.csv", "teacher_metrics.csv")]
    epochs = [epoch for file in files if file.is_file() for epoch in read_epochs(file)]
    path, predictions = folder / "predictions.csv", None
    if path.is_file() and report_task(report).has_classes:
        predictions = read_predictions(path, data.class_names, _models_in(path, data.models), probabilities=True)
    settings = (report.get("config") or {}).get("report") or {}
    shows = samples and settings.get("samples") is not False
    path, kept = folder / "samples.json", None
    if shows and path.is_file():
        kept = read_samples(path, data.class_names)
    return RunData(report, epochs, predictions, kept, shows)


def read_epochs(path: Path) -> list[Epoch]:
    """Return the rows of a metrics.csv.

    Raises:
        UserError: it cannot be read, or a cell that should be a number is none.
    """
    try:
        with open(path, encoding="utf-8", newline="") as f:
            return [{k: v if k in TEXT else float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)]
    except (OSError, ValueError, TypeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as metrics ({e}); run the job again") from None


def read_samples(path: Path, class_names: Sequence[str]) -> Mapping[str, Any]:
    """Return what a samples.json holds.

    Raises:
        UserError: it cannot be read, or is not what `pipeline.samples` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for row in content["rows"]:
            if not len(row["teacher"]) == len(row["student"]) == len(class_names):
                raise ValueError("other classes than the report")
        return {**{key: content[key] for key in ("split", "shape", "rows", "features")}, "columns": content.get("columns")}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: cannot be read as samples ({e}); score the run again with distill eval") from None


def _models_in(path: Path, models: Sequence[str]) -> list[str]:
    with open(path, encoding="utf-8", newline="") as f:
        header = next(csv.reader(f), [])
    return [name for name in models if spreadsheet_cell(name) in header]
