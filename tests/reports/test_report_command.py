"""`distill report` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_cli.commands.report import main
from distill_cli.errors import UserError
from distill_cli.metrics.statistics import paired_bootstrap
from distill_cli.reports.run.predictions_csv import predictions_csv
from distill_cli.tasks.classification.evaluator import PredictedClasses
from distill_cli.tasks.registry import find_task

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def runs(tmp_path: Path, make_report: Make, write_run: Write) -> Path:
    for seed in range(3):
        write_run(tmp_path / "sweep" / str(seed), make_report(seed), [f"seed={seed}"])
    return tmp_path / "sweep"


def test_a_sweep_prints_its_table_and_writes_it_beside_its_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("method ") and "too few seeds (3 of 5)" in out
    assert sorted(p.name for p in runs.iterdir()) == ["0", "1", "2", "plots", "report.html", "results.csv", "results.md"]


def test_json_is_alone_on_stdout(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), "--json", "metric=accuracy"])
    table = json.loads(capsys.readouterr().out)
    assert table["metric"] == "accuracy" and table["finished"] == 3
    assert table["rows"][0]["n"] == 3


def test_columns_sort_and_output(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs), "columns=n,method,student", "sort=difference", f"output={tmp_path / 'out'}"])
    assert capsys.readouterr().out.splitlines()[0].split() == ["n", "method", "student,", "test"]
    assert (tmp_path / "out" / "results.md").exists()
    assert not (runs / "results.csv").exists()


def test_of_a_single_run_the_page_alone_is_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs / "0")])
    assert f"report: {runs / '0' / 'report.html'}" in capsys.readouterr().out
    assert not (runs / "0" / "results.csv").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "name a run folder, or a folder that holds some: distill report FOLDER"),
        (["nowhere"], "nowhere: no such folder; name a run folder, or a folder that holds some"),
        (["--jsno", "x"], "unknown flag '--jsno'; did you mean '--json'?"),
        (
            ["x", "metrik=nll"],
            "unknown key 'metrik'; did you mean 'metric'? (it has: metric, sort, filter, columns, output, open, samples)",
        ),
        (
            ["x", "metric=acuracy"],
            "metric=acuracy: no such metric; did you mean 'accuracy'? (available: macro_f1, accuracy, nll, ece, subset_accuracy, average_precision)",
        ),
        (["x", "open=yes"], "open=yes: expected true or false"),
        (["x", "--open"], "--open: drop the dashes: open=true"),
        (["x", "--sort=n"], "--sort=n: drop the dashes: sort=n"),
        (["x", "y", "open=true"], "open=true: nothing is written of several folders; add output=FOLDER"),
    ],
)
def test_mistakes_are_one_line(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as e:
        main(words)
    assert str(e.value) == line


def test_an_unknown_column_and_an_unfinished_run(runs: Path) -> None:
    with pytest.raises(UserError, match=r"columns=techer: no such column; did you mean 'teacher'\?"):
        main([str(runs), "columns=techer"])
    (runs / "new" / ".hydra").mkdir(parents=True)
    with pytest.raises(UserError, match="run folder unfinished"):
        main([str(runs / "new")])
    with pytest.raises(UserError, match="new: run folder unfinished"):
        main([str(runs / "0"), str(runs / "new")])


def predictions(report: dict[str, Any], said: np.ndarray, y: np.ndarray, rows: np.ndarray) -> str:
    return predictions_csv(
        rows, y, report["data"]["class_names"], {"student": 5.0 * np.eye(5)[said]}, None, find_task("classification")
    )


def test_evaluations_are_compared_on_the_split_that_they_score(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y, said = np.repeat(np.arange(5), 40), {}
    for name, right in (("0", 0.95), ("1", 0.7)):
        random, path = np.random.default_rng(1), runs / name / "report.json"
        said[name] = np.where(random.random(200) < right, y, random.integers(0, 5, 200))
        report = json.loads(path.read_text())
        for model in report["models"].values():
            model["train"] = {**model.pop("test"), "averaged": report["data"]["class_names"][:3]}
            del model["val"]
        report["config"]["bootstrap"] = {"resamples": None, "seed": None}  # as eval leaves them to the run
        path.write_text(json.dumps(report))
        (runs / name / "predictions.csv").write_text(predictions(report, said[name], y, np.arange(200)))
    main([str(runs / "0"), str(runs / "1")])
    wanted = paired_bootstrap(PredictedClasses(y, said["0"], 5, range(3)), PredictedClasses(y, said["1"], 5, range(3)))
    assert f"student, train macro F1, A minus B: {wanted['difference']:+.3f} [" in capsys.readouterr().out


def test_two_runs_are_compared_row_by_row(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 40)
    a, b = (np.where(random.random(200) < right, y, random.integers(0, 5, 200)) for right in (0.95, 0.7))
    for name, said in (("0", a), ("1", b)):
        report = json.loads((runs / name / "report.json").read_text())
        (runs / name / "predictions.csv").write_text(predictions(report, said, y, np.arange(200)))
    main([str(runs / "0"), str(runs / "1")])
    wanted = paired_bootstrap(PredictedClasses(y, a, 5, range(5)), PredictedClasses(y, b, 5, range(5)))
    out = capsys.readouterr().out
    assert f"student, test macro F1, A minus B: {wanted['difference']:+.3f} [{wanted['ci95'][0]:+.3f}, " in out
    assert "A student" in out and f"B: {runs / '1'} (seed 1)" in out
    main([str(runs / "0"), str(runs / "1"), "--json"])
    assert json.loads(capsys.readouterr().out)["comparison"] == wanted


def test_two_runs_are_written_as_a_table_where_asked(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both, to = [str(runs / "0"), str(runs / "1")], tmp_path / "both"
    assert main([*both, f"output={to}", "columns=method,student", "sort=student"]) == 0
    out = capsys.readouterr().out
    assert "A student" in out and f"report: {to / 'report.html'}" in out
    assert sorted(path.name for path in to.iterdir()) == ["plots", "report.html", "results.csv", "results.md"]
    text = (to / "results.md").read_text()
    assert "A and B are not compared row by row" in text and "| student, test |" in text
    assert (to / "results.csv").read_text().count("\n") == 2  # two seeds of one setting
    with pytest.raises(UserError, match="sort=student: two runs are compared, not listed; add output=FOLDER for a table of both"):
        main([*both, "sort=student"])


def test_without_a_browser_the_address_is_told(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    assert main([str(runs), "open=true"]) == 0
    assert opened == [(runs / "report.html").resolve().as_uri()]
    assert capsys.readouterr().err == f"distill report: no browser is found here; open {opened[0]}\n"


def test_two_runs_that_cannot_be_compared_say_why(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs / "0"), str(runs / "1")])
    assert f"not compared row by row: {runs / '0' / 'predictions.csv'} is missing" in capsys.readouterr().out
    y = np.arange(5)
    for name, rows in (("0", np.arange(5)), ("1", np.arange(5) + 1)):
        report = json.loads((runs / name / "report.json").read_text())
        (runs / name / "predictions.csv").write_text(predictions(report, y, y, rows))
    main([str(runs / "0"), str(runs / "1")])
    assert "their predictions are of other rows" in capsys.readouterr().out
    report["data"]["fingerprint"] = "other"
    (runs / "1" / "report.json").write_text(json.dumps(report))
    main([str(runs / "0"), str(runs / "1")])
    assert "their data or split differ" in capsys.readouterr().out


def test_the_table_needs_neither_torch_nor_hydra(runs: Path) -> None:
    program = (
        "import sys; from distill_cli.commands.report import main; main([sys.argv[1]]); "
        "print(sorted({'torch', 'hydra', 'sklearn', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(runs)], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
