"""metrics.csv and predictions.csv: right columns, harmless in a spreadsheet, read back as written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distill_cli.errors import UserError
from distill_cli.reports.run.metrics_csv import epochs_csv
from distill_cli.reports.run.predictions_csv import predictions_csv, read_predictions
from distill_cli.tasks.registry import find_task
from distill_cli.types import EpochRecord

NAMES = ("normal", "=cmd()", "-1", 'a,"b"\nc')


def test_epochs_of_models_with_other_terms_share_a_table() -> None:
    val = {"macro_f1": 0.8, "accuracy": 0.9, "nll": 0.3}
    records = [
        EpochRecord("teacher", "train", 1, 10, 1e-3, 0.7, {"cross_entropy": 0.7}, val, 1.5, True),
        EpochRecord("student", "train", 1, 10, 1e-3, 0.5, {"loss": 0.4, "hints": 0.1}, val, 1.0, False),
    ]
    table = pd.read_csv(io.StringIO(epochs_csv(records)))
    assert list(table) == [
        "model", "stage", "epoch", "step", "lr", "loss", "term.cross_entropy", "term.loss", "term.hints",
        "val.macro_f1", "val.accuracy", "val.nll", "seconds", "best",
    ]  # fmt: skip
    assert table["best"].tolist() == [1, 0]
    assert np.isnan(table["term.hints"][0]) and table["term.hints"][1] == 0.1


def write(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index, y = np.array([7, 3, 9]), np.array([1, 2, 3])
    logits = np.log(np.array([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]]))
    text = predictions_csv(
        index, y, NAMES, {"teacher": logits[::-1], "student": logits}, np.array(["p1", "+p2", "p1"]), find_task("classification")
    )
    path.write_text(text, encoding="utf-8", newline="")
    return index, y, logits


def test_predictions_hold_probabilities_of_the_right_model_and_class(tmp_path: Path) -> None:
    write(tmp_path / "p.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text(encoding="utf-8"), newline="")))
    assert list(rows[0])[:5] == ["row", "group", "true", "teacher", "teacher.normal"]
    assert rows[0]["row"] == "7" and rows[2]["student"] == "normal"
    assert float(rows[0]["student.=cmd()"]) == pytest.approx(0.7, abs=1e-6)
    assert float(rows[0]["teacher.normal"]) == pytest.approx(0.7, abs=1e-6)


def test_cells_that_look_like_formulas_are_harmless_and_numbers_untouched(tmp_path: Path) -> None:
    write(tmp_path / "p.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "p.csv").read_text(encoding="utf-8"), newline="")))
    assert rows[1][2] == "'=cmd()" and rows[2][1] == "'+p2"
    assert rows[2][2] == "-1"
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


def test_predictions_are_read_back_as_written(tmp_path: Path) -> None:
    index, y, logits = write(tmp_path / "p.csv")
    back = read_predictions(tmp_path / "p.csv", NAMES, ["student"])
    np.testing.assert_array_equal(back.rows, index)
    np.testing.assert_array_equal(back.y, y)
    np.testing.assert_array_equal(back.predicted["student"], logits.argmax(1))
    assert back.groups is not None and back.groups.tolist() == ["p1", "'+p2", "p1"]


def test_predictions_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "p.csv")
    with pytest.raises(UserError, match="has no column or class 'scratch'"):
        read_predictions(tmp_path / "p.csv", NAMES, ["scratch"])
    (tmp_path / "p.csv").write_text("row,true,student\nx,normal,normal\n")
    with pytest.raises(UserError, match="cannot be read as predictions"):
        read_predictions(tmp_path / "p.csv", NAMES, ["student"])
