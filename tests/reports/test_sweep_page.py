"""report.html of a sweep, in a real browser: its table sorts and filters, its charts follow."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Seen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_cli.reports.html.sweep import cost, parallel
from distill_cli.reports.html.sweep import page as sweep_page
from distill_cli.reports.html.sweep.varied_settings import Swept, swept
from distill_cli.reports.sweep import results_files
from distill_cli.reports.sweep.collect import collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard, mean
from distill_cli.reports.sweep.sort_and_filter import filter_rows, sort
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.utils import files

TYPED = "distill distill -m loss.temperature=1,4,80 seed=0,1"
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


@pytest.fixture
def sweep(tmp_path: Path, make_report: Callable[..., dict[str, Any]], write_run: Callable[..., Path]) -> Path:
    for number, (temperature, student) in enumerate([(1.0, 0.8), (4.0, 0.9), (80.0, 0.95)]):
        for seed in range(2):
            config = {"seed": seed, "loss": {"temperature": temperature, "name": HOSTILE if number else "plain"}}
            report = make_report(seed, student, config=config)
            report["models"]["student"]["parameters"] = 1000 * (number + 1)
            report["provenance"]["sweep_command_line"] = TYPED
            folder = write_run(
                tmp_path / "sweep" / f"{number}{seed}", report, [f"loss.temperature={temperature}", f"seed={seed}"]
            )
            if number == 0:
                (folder / "report.html").write_text("a page")
    (tmp_path / "sweep" / "multirun.yaml").write_text("{}")
    return tmp_path / "sweep"


@pytest.fixture
def result(sweep: Path) -> Leaderboard:
    return build_leaderboard(collect([sweep]))


def column(seen: Seen, key: str) -> list[str]:
    heads = seen.page.locator("#rows th[data-key]").evaluate_all("all => all.map(head => head.dataset.key)")
    shown = seen.page.locator("#rows tbody tr:not([hidden])")
    return [shown.nth(n).locator("td").nth(heads.index(key)).inner_text() for n in range(shown.count())]


def test_the_table_sorts_and_filters_and_shows_the_reports_numbers(sweep: Path, result: Leaderboard, browser: Any) -> None:
    page = sweep_page.write(result, sweep)
    seen = Seen(browser, page)
    assert column(seen, "student") == [
        f"{mean(row.test['student']):.3f}" + s[5:] for row, s in zip(result.rows, column(seen, "student"), strict=True)
    ]
    assert column(seen, "parameters") == [f"{row.runs[0].report['models']['student']['parameters']:,}" for row in result.rows]
    seen.page.click("#rows th[data-key='parameters'] button")
    assert column(seen, "parameters") == ["3,000", "2,000", "1,000"]
    seen.page.click("#rows th[data-key='parameters'] button")
    assert column(seen, "parameters") == ["1,000", "2,000", "3,000"]
    seen.page.click("#rows th[data-key='loss.temperature'] button")
    assert column(seen, "loss.temperature") == ["80", "4", "1"]  # as numbers, not as text

    faint = "[...document.querySelectorAll('#cost .chart path')].filter(mark => mark.getAttribute('opacity') === '0.06').length"
    assert seen.page.evaluate(faint) == 0
    seen.page.fill("#filter", "loss.temperature>1 parameters<3000")
    assert column(seen, "parameters") == ["2,000"]
    assert seen.page.inner_text("#filtered") == "rows: 1 of 3"
    assert seen.page.evaluate(faint) > 0
    seen.page.fill("#filter", "temperature=8")
    assert column(seen, "loss.temperature") == ["80"]  # no such column: a word of the method
    seen.page.fill("#filter", "")
    assert len(column(seen, "n")) == 3 and seen.page.evaluate(faint) == 0

    assert seen.page.inner_text("#command") == TYPED
    links = seen.page.locator("#rows a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links == ["20", "21", "10", "11", "00/report.html", "01/report.html"]  # a run without a page: its folder
    assert seen.page.evaluate("window.hacked") is None and seen.page.locator("img[src=x]").count() == 0
    assert HOSTILE in seen.page.inner_text("#rows")
    assert seen.said == [] and seen.asked == [page.as_uri()]


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_nothing_is_wider_than_the_screen(sweep: Path, result: Leaderboard, browser: Any, scheme: str, width: int) -> None:
    seen = Seen(browser, sweep_page.write(result, sweep), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.said == []


def test_settings_and_score_stand_side_by_side(sweep: Path, result: Leaderboard, browser: Any) -> None:
    seen = Seen(browser, sweep_page.write(result, sweep))
    marks = seen.page.locator("#parallel .chart path[aria-roledescription=point]")
    assert marks.count() == 9  # three rows on three axes
    text = seen.page.inner_text("#parallel")
    assert "loss.temperature" in text and "macro F1, test" in text and HOSTILE[:5] in text
    widths = "[...document.querySelectorAll('#parallel path[aria-roledescription=\"line mark\"]')].map(m => m.getAttribute('stroke-width'))"
    assert sorted(seen.page.evaluate(widths)) == ["1.2", "1.2", "3"]
    marks.last.hover(force=True)
    seen.page.wait_for_function(f"{widths}.includes('4')")
    assert seen.said == []


def test_axes_hold_each_value_at_its_place(result: Leaderboard) -> None:
    drawn = parallel.section(result, swept(result.rows))
    assert drawn is not None
    chart = drawn.charts[0]
    marks = {(mark["axis"], mark["label"]): mark["place"] for mark in chart.spec["data"]["values"]}
    assert marks["loss.temperature", "1"] == 0 and marks["loss.temperature", "80"] == 1
    assert marks["loss.temperature", "4"] == pytest.approx(math.log(4) / math.log(80))  # a span of 80: logarithmic
    assert {place for (axis, _), place in marks.items() if axis == "loss.name"} == {0, 1}
    assert {mark["row"] for mark in chart.spec["data"]["values"]} == {0, 1, 2}
    one = [Swept("a", [1, 2, 2])]
    assert parallel.section(result, one) is None  # drawn better as a chart of its own
    absent = parallel.section(result, [*one, Swept("b", ["x", None, "y"])])
    assert absent is not None
    places = {(m["row"], m["axis"]): m["place"] for m in absent.charts[0].spec["data"]["values"]}
    assert places[1, "b"] == parallel.ABSENT and (places[0, "b"], places[2, "b"]) == (0, 1)
    lists = parallel.section(result, [*one, Swept("c", [[8], [16, 16], [8]]), Swept("d", [[{"from": 1}], None, None])])
    assert lists is not None
    assert {m["label"] for m in lists.charts[0].spec["data"]["values"] if m["axis"] == "c"} == {"[8]", "[16, 16]"}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "_target_", "x y"]), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), values, max_size=4), min_size=1, max_size=4))
def test_any_settings_have_a_table_and_a_page(
    tmp_path_factory: pytest.TempPathFactory, make_report: Callable[..., dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    folder, report = tmp_path_factory.mktemp("any"), make_report(0)
    for number, given_settings in enumerate(rows):
        (folder / str(number) / ".hydra").mkdir(parents=True)
        files.write_json(folder / str(number) / "report.json", {**report, "config": {"seed": 0, "given": given_settings}})
    result = build_leaderboard(collect([folder]))
    assert "<table" in sweep_page.page(result, folder)
    results_files.write(result, folder)
    sort(result, "student")
    filter_rows(result, "student>=0")
    shutil.rmtree(folder)


def test_what_a_reader_looks_for_comes_first_and_settings_last(sweep: Path, result: Leaderboard) -> None:
    found = sweep_page.table(result, swept(result.rows), sweep, [])
    keys = [column["key"] for column in found["head"]]
    assert keys[:6] == ["method", "student", "scratch", "difference", "verdict", "runs"]
    assert keys[-2:] == ["loss.temperature", "loss.name"]
    links = {address for row in found["rows"] for cell in row["cells"] for _, address in cell["links"]}
    assert links == {"00/report.html", "01/report.html", "10", "11", "20", "21"}  # the folder where there is no page
    assert all((sweep / address).exists() for address in links)
    assert [column["key"] for column in sweep_page.table(result, [], sweep, ["method", "n"])["head"]] == ["method", "n", "runs"]


def test_the_page_is_titled_by_its_data(sweep: Path, result: Leaderboard) -> None:
    assert sweep_page.title(result) == "heartbeat"
    for number, row in enumerate(result.rows):
        row.runs[0].report["name"] = f"heartbeat: student {number}"
    assert sweep_page.title(result) == "heartbeat: 3 settings"
    for number, run in enumerate(run for row in result.rows for run in row.runs):
        run.report["name"] = f"heartbeat: mlp_small from mlp, loss_{number}"
    assert sweep_page.title(result) == "heartbeat: mlp_small from mlp, 3 settings"


def test_one_axis_holds_no_values_of_several_losses(
    tmp_path: Path, make_report: Callable[..., dict[str, Any]], write_run: Callable[..., Path]
) -> None:
    """`beta` of one loss is another thing than `beta` of another."""
    losses = [("dkd.DKD", 8.0), ("dkd.DKD", 2.0), ("dist.DIST", 1.0), ("dist.DIST", 3.0), ("soft_target.SoftTarget", None)]
    for number, (name, beta) in enumerate(losses):
        loss = {"_target_": f"distill_cli.losses.{name}", "alpha": float(number), "weight": 1.0}
        config = {"seed": 0, "loss": loss if beta is None else {**loss, "beta": beta}}
        write_run(tmp_path / str(number), make_report(0, config=config), [f"loss={name}", f"loss.beta={beta}"])
    rows = build_leaderboard(collect([tmp_path])).rows
    order = [row.runs[0].report["config"]["loss"]["alpha"] for row in rows]
    found = {axis.path: {n: v for n, v in zip(order, axis.values, strict=True) if v is not None} for axis in swept(rows)}
    assert found["loss"] == {0: "dkd", 1: "dkd", 2: "dist", 3: "dist", 4: "soft_target"}
    assert found["dkd.beta"] == {0: 8.0, 1: 2.0}
    assert found["dist.beta"] == {2: 1.0, 3: 3.0}
    assert found["dkd.alpha"] == {0: 0.0, 1: 1.0}
    assert set(found) == {"loss", "dkd.beta", "dist.beta", "dkd.alpha", "dist.alpha"}  # what has one value for its loss is none


def test_settings_that_differ_are_found(result: Leaderboard) -> None:
    found = {s.path: s for s in swept(result.rows)}
    assert list(found) == ["loss.temperature", "loss.name"]  # what was typed first
    assert sorted(found["loss.temperature"].values) == [1.0, 4.0, 80.0]
    assert found["loss.temperature"].is_number and found["loss.temperature"].is_logarithmic
    assert not found["loss.name"].is_number


def test_nothing_on_the_front_is_beaten() -> None:
    def point(price: float, score: float) -> dict[str, float]:
        return {"parameters": price, "score": score}

    known = [point(3, 0.9), point(1, 0.5), point(2, 0.4), point(2, 0.6), point(4, 0.9), point(1, 0.3)]
    assert cost.front(known, "parameters", lower_is_better=False) == [point(1, 0.5), point(2, 0.6), point(3, 0.9)]
    assert cost.front(known, "parameters", lower_is_better=True) == [point(1, 0.3)]
