"""sort= and filter= of `distill report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_cli.commands.report import main
from distill_cli.errors import UserError
from distill_cli.reports.sweep.collect import collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard, mean
from distill_cli.reports.sweep.sort_and_filter import CONDITIONS, filter_rows, sort
from distill_cli.reports.sweep.table import Leaderboard


@pytest.fixture
def sweep(tmp_path: Path, make_report: Callable[..., dict[str, Any]], write_run: Callable[..., Path]) -> Path:
    """Three settings: a good one of two seeds, a poor one, and a small network."""
    for name, temperature, student, seeds in (("a", 1.0, 0.95, (0, 1)), ("b", 4.0, 0.7, (0,)), ("c", 8.0, 0.85, (0,))):
        for seed in seeds:
            report = make_report(seed, student, config={"seed": seed, "loss": {"temperature": temperature, "name": name}})
            if name == "c":
                report["models"]["student"]["parameters"] = 99
            write_run(tmp_path / "sweep" / f"{name}{seed}", report, [f"loss.temperature={temperature}", f"seed={seed}"])
    return tmp_path / "sweep"


def table(folder: Path) -> Leaderboard:
    return build_leaderboard(collect([folder]))


def temperatures(result: Leaderboard) -> list[float]:
    return [row.runs[0].report["config"]["loss"]["temperature"] for row in result.rows]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ("n>=2", [1.0]),
        ("parameters<100", [8.0]),
        ("parameters!=99", [1.0, 4.0]),
        ("loss.temperature=4", [4.0]),
        ("loss.temperature=4.0", [4.0]),
        ("loss.temperature>1,parameters<100", [8.0]),
        ("method~TURE=8", [8.0]),
        ("temperature=8", None),
        ("loss.name=b", [4.0]),
        ("loss.name!=b", [1.0, 8.0]),
        ("", [1.0, 4.0, 8.0]),
    ],
)
def test_rows_for_which_every_condition_holds_are_kept(sweep: Path, wanted: str, left: list[float] | None) -> None:
    result = table(sweep)
    if left is None:
        with pytest.raises(UserError, match="no column and no key of the config is called 'temperature'; did you mean"):
            filter_rows(result, wanted)
        return
    filter_rows(result, wanted)
    assert sorted(temperatures(result)) == left
    assert any(f"filter {wanted}: {len(left)} of 3 rows" in note for note in result.notes) == (len(left) < 3)


def test_a_filter_changes_no_test_of_what_it_keeps(sweep: Path) -> None:
    whole, kept = table(sweep), table(sweep)
    filter_rows(kept, "n>=2")
    row = next(row for row in whole.rows if len(row.runs) == 2)
    assert [c.result for c in kept.rows[0].comparisons] == [c.result for c in row.comparisons]
    assert kept.rows[0].label == row.label


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("n>many", f"filter=n>many: > needs a number, 'many' is none; {CONDITIONS}"),
        ("n=>2", f"filter=n=>2: n holds numbers, '>2' is none; {CONDITIONS}"),
        (">2", f"filter=>2: cannot be read; {CONDITIONS}"),
        ("n>100", "filter=n>100: no row is left of 3"),
    ],
)
def test_a_filter_that_cannot_be_says_so(sweep: Path, wanted: str, line: str) -> None:
    with pytest.raises(UserError) as e:
        filter_rows(table(sweep), wanted)
    assert str(e.value) == line


def test_less_is_better_of_size_and_time(sweep: Path) -> None:
    result = table(sweep)
    sort(result, "parameters")
    assert temperatures(result)[0] == 8.0
    sort(result, "student")
    means = [mean(row.test["student"]) for row in result.rows]
    assert means == sorted(means, reverse=True)


def test_what_is_typed_reaches_every_file(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(sweep), "filter=n>=2", "columns=method,student,weights", f"output={tmp_path / 'out'}"])
    out = capsys.readouterr().out
    assert "1 of 3 rows are shown" in out
    assert f"report: {tmp_path / 'out' / 'report.html'}" in out
    said = (tmp_path / "out" / "results.md").read_text()
    assert "| method | student, test | weights |" in said and "15.6 kB" in said
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 2
    assert "loss.temperature=4.0" not in (tmp_path / "out" / "report.html").read_text()


def test_open_hands_the_page_to_the_browser(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    main([str(sweep), "open=true"])
    assert opened == [(sweep / "report.html").resolve().as_uri()]
