"""The file predictions.csv: each model's predictions on the test split."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill_cli.errors import UserError
from distill_cli.reports.formatting import spreadsheet_cell
from distill_cli.tasks.task import Task


@dataclass(frozen=True)
class Predictions:
    """Content of predictions.csv.

    Attributes:
        rows: ``[N]`` row ids.
        y: ``[N]`` true classes.
        predicted: ``[N]`` predicted classes of each model.
        groups: ``[N]`` group names, or None.
        probabilities: ``[N, C]`` of each model; empty where they were not read.
    """

    rows: np.ndarray
    y: np.ndarray
    predicted: Mapping[str, np.ndarray]
    groups: np.ndarray | None
    probabilities: Mapping[str, np.ndarray] = field(default_factory=dict)


def predictions_csv(
    index: np.ndarray,
    y: np.ndarray,
    class_names: Sequence[str],
    logits: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    task: Task,
) -> str:
    """Return the predictions of all models as CSV text.

    Columns: row, group (where the data has groups), then those of the task. Of classes: true, then for each model ``<model>``
    (the predicted class) and ``<model>.<class>`` (its probability, six significant digits). Text that a
    spreadsheet would take
    for a formula begins with an apostrophe.

    Args:
        index: ``[N]`` row ids.
        y: ``[N, ...]`` targets.
        class_names: C names.
        logits: ``[N, C]`` logits or log-probabilities of each model.
        groups: ``[N]`` group names, or None.
        task: what was learned.
    """
    header, columns = ["row"], [np.asarray(index).tolist()]
    if groups is not None:
        header.append("group")
        columns.append([spreadsheet_cell(group) for group in groups])
    for prefix, parts in [
        ("", task.target_columns(y, class_names)),
        *((model, task.prediction_columns(task.shown(outputs), class_names)) for model, outputs in logits.items()),
    ]:
        header += [spreadsheet_cell(f"{prefix}{part}") for part in parts]
        columns += [[spreadsheet_cell(cell) for cell in cells] for cells in parts.values()]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def read_predictions(
    path: Path, class_names: Sequence[str], models: Sequence[str], *, probabilities: bool = False
) -> Predictions:
    """Return the predictions of some models in a predictions.csv.

    Args:
        path: the file.
        class_names: C names in class order.
        models: names of the models to read.
        probabilities: whether to read their probabilities, too.

    Raises:
        UserError: the file cannot be read, lacks a model, or names an unknown class.
    """
    number = {spreadsheet_cell(name): c for c, name in enumerate(class_names)}
    try:
        with open(path, encoding="utf-8", newline="") as f:
            table = list(csv.DictReader(f))
        predicted = {m: np.array([number[line[spreadsheet_cell(m)]] for line in table], dtype=np.int64) for m in models}
        y = np.array([number[line["true"]] for line in table], dtype=np.int64)
        rows = np.array([int(line["row"]) for line in table], dtype=np.int64)
        by_model = {}
        for m in models if probabilities else ():
            columns = [spreadsheet_cell(f"{m}.{name}") for name in class_names]
            by_model[m] = np.array([[float(line[column]) for column in columns] for line in table]).reshape(-1, len(columns))
    except (OSError, ValueError, TypeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as predictions ({e}); score the run again with distill eval") from None
    except KeyError as e:
        raise UserError(f"{path}: has no column or class {e}; score the run again with distill eval") from None
    groups = np.array([line["group"] for line in table]) if table and "group" in table[0] else None
    return Predictions(rows, y, predicted, groups, by_model)
