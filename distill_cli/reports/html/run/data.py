"""The data of a run's page, read from the files of its run folder."""

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
    """A finished run, as its page shows it.

    Attributes:
        report: content of report.json.
        epochs: rows of metrics.csv and teacher_metrics.csv, numbers as floats, None for an empty cell.
        predictions: predictions on the first split with probabilities, or None; of exclusive classes alone.
        samples: content of samples.json, or None.
        shows_samples: whether single samples, such as a patient's beat, may be on the page.
    """

    report: Mapping[str, Any]
    epochs: Sequence[Epoch] = ()
    predictions: Predictions | None = None
    samples: Mapping[str, Any] | None = None
    shows_samples: bool = True

    @property
    def models(self) -> list[str]:
        """Names of the models: teacher, student, controls, as far as present."""
        return model_table.model_names(self.report)

    @property
    def split(self) -> str | None:
        """Name of the split that the page shows, None where nothing was scored."""
        scored = model_table.splits(self.report)
        return scored[0] if scored else None

    def scores(self, model: str) -> Mapping[str, Any]:
        """Return a model's scores on the page's split, empty where there are none."""
        return self.report["models"][model].get(self.split) or {}

    @property
    def class_names(self) -> list[str]:
        """Class names in class order."""
        return [str(name) for name in (self.report.get("data") or {}).get("class_names") or ()]

    def row_name(self, row: int, group: str | None = None) -> str:
        """Return the name of a row for a reader, with its group.

        The name is the file and the row's number in it where the data comes in files of rows, else the row id.
        """
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
    """Return the data of a run folder's page.

    Args:
        folder: run folder.
        report: content of its report.json.
        samples: False leaves single samples out, as ``report.samples=false`` in the run's config does.

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
    path, gallery = folder / "samples.json", None
    if shows and path.is_file():
        gallery = read_samples(path, data.class_names)
    return RunData(report, epochs, predictions, gallery, shows)


def read_epochs(path: Path) -> list[Epoch]:
    """Return the rows of a metrics.csv.

    Raises:
        UserError: the file cannot be read, or a numeric cell holds no number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as f:
            return [{k: v if k in TEXT else float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)]
    except (OSError, ValueError, TypeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as metrics ({e}); run the job again") from None


def read_samples(path: Path, class_names: Sequence[str]) -> Mapping[str, Any]:
    """Return the content of a samples.json.

    Raises:
        UserError: the file cannot be read, or has another format than `distill` writes.
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
