"""report.html of a run, in a real browser: it shows the report's numbers, runs nothing from data and asks for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Seen

from distill_cli.reports.html.run import page as run_page
from distill_cli.reports.run.predictions_csv import predictions_csv
from distill_cli.tasks.registry import find_task

HOSTILE = "</script><img src=x onerror='window.hacked=1'>"
EPOCHS = """\
model,stage,epoch,step,lr,loss,term.loss,val.macro_f1,val.accuracy,val.nll,seconds,best
student,hint,1,10,0.01,0.9,0.9,0.5,0.6,1.0,1.0,1
student,train,2,20,0.01,0.7,0.7,0.6,0.7,0.8,1.0,1
scratch,train,1,10,0.01,0.8,,0.55,0.6,0.9,1.0,1
scratch,train,2,20,0.01,0.6,,0.5,0.6,1.1,1.0,0
"""
Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path, make_report: Callable[..., dict[str, Any]], write_run: Callable[..., Path]) -> Fill:
    """Return a function that writes a run folder with everything that a page is drawn from."""

    def write(**more: Any) -> Path:
        report = make_report(**more)
        names = report["data"]["class_names"]
        folder = write_run(tmp_path / "run", report)
        (folder / "metrics.csv").write_text(EPOCHS)
        y = np.arange(200) % len(names)
        draw = np.random.default_rng(0)
        logits = {m: 2 * np.eye(len(names))[y] + draw.normal(size=(200, len(names))) for m in report["models"]}
        (folder / "predictions.csv").write_text(
            predictions_csv(np.arange(200), y, names, logits, None, find_task("classification"))
        )
        return folder

    return write


def write_page(folder: Path) -> Path:
    return run_page.write(folder, json.loads((folder / "report.json").read_text()))


def test_the_page_shows_the_reports_numbers_in_silence(fill: Fill, browser: Any) -> None:
    folder = fill()
    report = json.loads((folder / "report.json").read_text())
    page = write_page(folder)
    seen = Seen(browser, page)
    assert seen.said == []
    assert seen.asked == [page.as_uri()]
    assert report["verdict"] in seen.page.inner_text("header")
    assert seen.page.inner_text("#command") == report["provenance"]["command_line"]
    assert seen.page.inner_text("#more-seeds") == "distill distill experiment=heartbeat dataset.root=data/mitdb -m seed=5,6,7,8,9"
    tables = seen.page.inner_text("#classes")
    for found in report["models"]["student"]["test"]["per_class"].values():
        assert f"{found['precision']:.3f}" in tables and f"{found['recall']:.3f}" in tables
    for n in report["data"]["class_counts"]["train"].values():
        assert f"{n:,}" in tables
    for name, model in report["models"].items():
        assert seen.page.inner_text(f'[data-score="{name}"]') == f"{model['test']['macro_f1']:.3f}"
        assert f"{model['parameters']:,}" in seen.page.inner_text(f'[data-model="{name}"]')
    cells = seen.page.locator("#confusion .chart").nth(0).locator("text").all_text_contents()
    for n in np.array(report["models"]["teacher"]["test"]["confusion"]).ravel():
        assert f"{n:,}" in cells
    assert page.stat().st_size < 5_000_000


def test_counts_become_shares_at_a_click(fill: Fill, browser: Any) -> None:
    folder = fill()
    report = json.loads((folder / "report.json").read_text())
    seen = Seen(browser, write_page(folder))
    seen.page.click("#confusion .switch input[value=share] + span")
    line = report["models"]["teacher"]["test"]["confusion"][0]
    seen.page.get_by_text(f"{100 * line[0] / sum(line):.1f}%", exact=True).first.wait_for()
    assert seen.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(fill: Fill, browser: Any, scheme: str, width: int) -> None:
    seen = Seen(browser, write_page(fill()), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    back, front = seen.page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, front)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert seen.said == []


def test_text_from_data_is_shown_and_never_run(fill: Fill, browser: Any) -> None:
    folder = fill(name=HOSTILE)
    for file in ("report.json", "predictions.csv"):
        text = (folder / file).read_text()
        escaped = json.dumps(HOSTILE)[1:-1] if file == "report.json" else HOSTILE
        (folder / file).write_text(text.replace("unknown (Q)", escaped))
    seen = Seen(browser, write_page(folder))
    assert seen.page.evaluate("window.hacked") is None
    assert seen.page.locator("img[src=x]").count() == 0
    assert HOSTILE in seen.page.inner_text("h1")
    assert HOSTILE in seen.page.locator("#confusion").inner_html().replace("&lt;", "<").replace("&gt;", ">")
    assert seen.said == []


def test_a_run_draws_its_page_and_report_html_false_does_not(distill: Callable[..., Any]) -> None:
    tiny = ("device=cpu", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20", "steps_per_epoch=2")
    ran = distill("distill", *tiny)
    assert ran.code == 0, ran.err
    page = ran.folder / "report.html"
    assert f"report: {page}" in ran.out
    assert ran.report["verdict"].split(",")[0] in page.read_text()
    ran = distill("distill", *tiny, "report.html=false")
    assert ran.code == 0 and not (ran.folder / "report.html").exists() and "report: " not in ran.out
