"""What a finished run keeps for its page: the rows on which teacher and student differ most, and their feature maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Ran, Seen

from distill_cli.data.arrays import from_arrays
from distill_cli.data.digits import digits
from distill_cli.pipeline.sample_gallery import allowed, column_statistics, small
from distill_cli.reports.html import softmax
from distill_cli.reports.html.run import gallery, reliability, soft_targets, temperature
from distill_cli.reports.html.run.data import RunData, read_epochs, read_run_data
from distill_cli.reports.run.predictions_csv import Predictions, read_predictions

HINT = ("+loss@terms.match=hint", "terms.match.features=[body.2,body.2]", "steps_per_epoch=4")


def chart_rows(section: Any) -> list[list[dict[str, Any]]]:
    return [chart.spec["data"]["values"] for chart in section.charts]


@pytest.mark.slow
def test_a_run_keeps_what_its_page_draws_and_scoring_again_keeps_the_same(distill: Callable[..., Ran], browser: Any) -> None:
    ran = distill("distill", *TINY, *HINT, "report.html=true")
    assert ran.code == 0, ran.err
    kept = json.loads((ran.folder / "samples.json").read_text())
    data = digits()
    said = read_predictions(ran.folder / "predictions.csv", data.class_names, ["teacher", "student"], probabilities=True)
    distance = np.abs(said.probabilities["teacher"] - said.probabilities["student"]).sum(axis=1) / 2
    order = np.argsort(-distance, kind="stable")
    assert [row["distance"] for row in kept["rows"]] == pytest.approx(distance[order[:12]].tolist(), abs=1e-4)
    at = {int(row): n for n, row in enumerate(said.rows)}
    for row in kept["rows"]:
        n = at[row["row"]]
        assert row["true"] == data.class_names[said.y[n]]
        assert np.ravel(row["x"]) == pytest.approx(data.test.x[n].ravel(), abs=1e-4)  # an image of 8 x 8, as a reader sees it
        assert np.shape(row["x"]) == (1, 8, 8)
    (pair,) = kept["features"]
    assert pair["layers"] == {"student": "body.2", "teacher": "body.2"}
    assert pair["maps"]["teacher"]["shape"] == [16] and np.shape(pair["maps"]["student"]["values"]) == (2, 8)

    taught = read_run_data(ran.folder, ran.report).epochs
    source = Path(str(ran.report["teacher_source"]).split(" ", 1)[1])
    assert [e["val.nll"] for e in taught if e["model"] == "teacher"] == [
        e["val.nll"] for e in read_epochs(source / "metrics.csv")
    ]

    seen = Seen(browser, ran.folder / "report.html")
    assert (
        seen.said == []
        and seen.page.locator("#gallery figure").count() == 12
        and seen.page.locator("#features figure").count() == 4
    )
    plots = {path.name for path in (ran.folder / "plots").iterdir()}
    assert plots == {"classes.png", "confusion.png", "curves.png", "reliability.png"}

    again = distill("eval", f"run={ran.folder}", "device=cpu", "report.plots=false")
    assert json.loads((again.folder / "samples.json").read_text()) == kept
    assert not (again.folder / "plots").exists()
    assert read_run_data(again.folder, again.report).epochs == taught
    hidden = distill("eval", f"run={ran.folder}", "device=cpu", "report.samples=false", "report.plots=false")
    assert not (hidden.folder / "samples.json").exists()
    page = (hidden.folder / "report.html").read_text()
    assert 'id="gallery"' not in page and 'id="temperature"' not in page and 'id="soft-targets"' in page


def test_what_a_run_hid_stays_hidden() -> None:
    assert allowed({}) and allowed({"config": {"report": {"samples": True}}}) and allowed({"config": "damaged"})
    assert not allowed({"config": {"report": {"samples": False}}})


def test_a_page_without_samples_reads_none(tmp_path: Path, make_report: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "samples.json").write_text("damaged")
    assert read_run_data(tmp_path, make_report(config={"report": {"samples": False}})).samples is None
    assert read_run_data(tmp_path, make_report(), samples=False).samples is None


@pytest.mark.parametrize("shape", [(7,), (300,), (40, 200), (3, 5), (20, 28, 28), (2, 3, 4)])
def test_feature_maps_are_made_small_and_stay_themselves(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = np.array(small(values))
    assert found.size <= 8 * 16 * 16 and found.ndim == len(shape)
    if found.shape == values.shape:
        assert found == pytest.approx(values, rel=1e-4)
    constant = np.array(small(np.full(shape, 2.5, np.float32)))
    assert constant == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("values", "shape", "mark"),
    [([0.1, 0.2], [2], "bar"), ([[0.1, 0.2], [0.3, 0.4]], [2, 2], "line"), ([[[0.1, 0.2]], [[0.3, 0.4]]], [2, 1, 2], "rect")],
)
def test_a_sample_is_drawn_as_what_it_is(values: Any, shape: list[int], mark: str) -> None:
    drawn, _ = gallery.picture(values, shape, 100)
    assert (drawn["mark"]["type"] if isinstance(drawn["mark"], dict) else drawn["mark"]) == mark
    numbers = [row["value"] for row in drawn["data"]["values"]]
    assert numbers == pytest.approx(np.mean(values, axis=0).ravel() if mark == "rect" else np.ravel(values))


@pytest.fixture
def data(make_report: Callable[..., dict[str, Any]]) -> RunData:
    random, y = np.random.default_rng(0), np.arange(300) % 5
    z = 3 * np.eye(5)[y] + random.normal(size=(300, 5))
    p = softmax.at_temperature(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), 1)
    predictions = Predictions(np.arange(300), y, {"teacher": p.argmax(axis=1)}, None, {"teacher": p})
    return RunData(make_report(config={"loss": {"temperature": 4.0}}), predictions=predictions)


def test_temperature_is_that_of_the_logits(data: RunData) -> None:
    assert data.predictions is not None
    p = data.predictions.probabilities["teacher"]
    z = np.log(p) + 7.0  # logits are known up to a constant
    for t in softmax.TEMPERATURES:
        raised = np.exp(z / t)
        assert softmax.at_temperature(p, t) == pytest.approx(raised / raised.sum(axis=1, keepdims=True))
    section = temperature.section(data)
    assert section is not None and "T = 4" in section.text
    for rows in chart_rows(section):
        for t in softmax.TEMPERATURES:
            assert sum(row["p"] for row in rows if row["T"] == f"T = {t}") == pytest.approx(1)


def test_mean_soft_targets_are_means_over_a_class(data: RunData) -> None:
    assert data.predictions is not None
    p, y = data.predictions.probabilities["teacher"], data.predictions.y
    six = np.hstack([p, np.zeros((len(p), 1))])  # a class that no row has
    found = soft_targets.mean_targets(six, y, 6, 2)
    for c in range(5):
        assert found[c] == pytest.approx(softmax.at_temperature(six, 2)[y == c].mean(axis=0))
    assert np.isnan(found[5]).all()
    section = soft_targets.section(data)
    assert section is not None
    cell = next(
        row for row in chart_rows(section)[0] if row["row"] == data.class_names[1] and row["column"] == data.class_names[2]
    )
    assert cell["t1"] == pytest.approx(p[y == 1, 2].mean(), rel=1e-3)


def test_the_bins_of_a_reliability_diagram_give_the_reports_ece(data: RunData) -> None:
    from distill_cli.metrics.classification import ece

    assert data.predictions is not None
    p, y = data.predictions.probabilities["teacher"], data.predictions.y
    found = reliability.bins(p, y)
    assert sum(b["rows"] for b in found) == 300
    gap = sum(b["rows"] * abs(b["accuracy"] - b["confidence"]) for b in found) / 300
    assert gap == pytest.approx(ece(p, y, reliability.BINS))
    assert all(b["low"] <= b["accuracy"] + 1e-9 and b["accuracy"] <= b["high"] + 1e-9 for b in found)


def test_colours_are_drawn_as_they_are() -> None:
    red_then_blue = np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])  # [3, 1, 2]
    for values in (red_then_blue, 255 * red_then_blue, 4 * red_then_blue - 2):  # a share, a byte, standardised
        for x in (values, values.repeat(2, axis=1).transpose(1, 2, 0)):  # channels first, and last
            drawn, marks = gallery.picture(x.tolist(), x.shape, 100)
            colours = [pixel["colour"] for pixel in drawn["data"]["values"]]
            assert colours[:2] == ["#ff0000", "#0000ff"] and marks == len(colours)
            assert drawn["encoding"]["color"]["scale"] is None
    grey, _ = gallery.picture([[[0.0, 1.0]]], (1, 1, 2), 100)
    assert [pixel["value"] for pixel in grey["data"]["values"]] == [0.0, 1.0]


def test_a_tables_row_shows_each_columns_name_and_value_on_a_scale_of_its_own(make_report: Callable[..., dict[str, Any]]) -> None:
    report = make_report()
    names = report["data"]["class_names"]
    report["data"]["files"] = [["train.csv", 100], ["test.csv", 50]]
    columns = [{"name": "age", "mean": 40.0, "deviation": 10.0}, {"name": "income", "mean": 5e4, "deviation": 1e4},
               {"name": "same", "mean": 1.0, "deviation": 0.0}]  # fmt: skip
    even = [1 / len(names)] * len(names)
    row = {"row": 112, "group": "p7", "true": names[0], "distance": 0.1, "teacher": even, "student": even, "x": [55.0, 4e4, 1.0]}
    samples = {"split": "test", "shape": [3], "columns": columns, "rows": [row], "features": []}
    section = gallery.section(RunData(report, samples=samples))
    assert section is not None
    (chart,) = section.charts
    assert chart.title == f"test.csv, data row 13, group p7: true class {names[0]}"
    bars = chart.spec["data"]["values"]
    assert [(bar["cell"], bar["far"]) for bar in bars] == [("age: 55", 1.5), ("income: 4e+04", -1.0), ("same: 1", 0.0)]
    assert RunData(make_report()).row_name(19441) == "row id 19441" and "row id counts" in section.text


def test_a_runs_columns_have_the_statistics_of_its_training_rows() -> None:
    x = np.random.default_rng(0).normal(3, 2, (60, 2)).astype("float32")
    part = (x, np.arange(60) % 2)
    data = from_arrays("toy", part, part, part)
    found = column_statistics(data, (2,))
    assert found is not None and [column["name"] for column in found] == ["feature 0", "feature 1"]
    assert [column["mean"] for column in found] == pytest.approx(x.mean(0).tolist(), rel=1e-3)
    assert [column["deviation"] for column in found] == pytest.approx(x.std(0).tolist(), rel=1e-3)
    assert column_statistics(digits(), (1, 8, 8)) is None
    assert column_statistics(digits(), (64,)) is None  # too many without a name: a signal
