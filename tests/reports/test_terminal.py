"""The table of a run on terminals of several widths, and through a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from distill_cli.reports.terminal import print_report

Make = Callable[..., dict[str, Any]]


def test_through_a_pipe_nothing_is_coloured_wrapped_or_cut(make_report: Make) -> None:
    report, out = make_report(), io.StringIO()
    report["verdict"] += " " + "long " * 100 + "end"
    print_report(report, "outputs/distill/x", out)
    text = out.getvalue()
    assert "\x1b" not in text and "…" not in text
    assert report["verdict"] + "\n" in text
    assert text.endswith("run folder: outputs/distill/x\n")
    scores = [f"{report['models'][m]['test']['macro_f1']:.3f}" for m in ("teacher", "student", "scratch", "scratch_122")]
    assert next(line for line in text.splitlines() if line.startswith("test macro F1")).split()[3:] == scores


@pytest.mark.parametrize("columns", [140, 80, 50, 36])
def test_on_a_terminal_every_number_is_whole_at_every_width(make_report: Make, terminal: Any, columns: int) -> None:
    report, out = make_report(), terminal(columns)
    print_report(report, "outputs/distill/x", out)
    text = out.shown
    assert max(map(len, text.splitlines())) <= columns
    for name in ("teacher", "student", "scratch", "scratch_122"):
        part = report["models"][name]["test"]
        assert f"{part['macro_f1_ci95'][0]:.3f}..{part['macro_f1_ci95'][1]:.3f}" in text
        assert f" {report['models'][name]['parameters']:,} " in text


def test_the_data_set_is_named_first(make_report: Make) -> None:
    report, out = make_report(), io.StringIO()
    rows = {split: sum(found.values()) for split, found in report["data"]["class_counts"].items()}
    print_report(report, "x", out)
    first = out.getvalue().splitlines()[0]
    assert first.startswith(f"data: {report['data']['name']}, {len(report['data']['class_names'])} classes")
    assert all(f", {split} {n:,}" in first for split, n in rows.items())


def test_markup_in_names_is_shown_as_it_is(make_report: Make) -> None:
    report, out = make_report(), io.StringIO()
    report["verdict"] = "[red]one seed[/red] :smile:"
    print_report(report, "x[bold]", out)
    assert "[red]one seed[/red] :smile:\nrun folder: x[bold]\n" in out.getvalue()


def test_of_many_classes_the_lowest_are_shown(make_report: Make) -> None:
    report, out = make_report(), io.StringIO()
    for model in report["models"].values():
        model["test"]["per_class"] = {
            f"c{i:02d}": {"f1": i / 100, "precision": 0.5, "recall": 0.5, "support": 2} for i in reversed(range(40))
        }
        model["test"]["averaged"] = list(model["test"]["per_class"])
    print_report(report, "x", out)
    assert "F1, test, the 12 lowest of 40 (student)" in out.getvalue()
    assert "c11" in out.getvalue() and "c12" not in out.getvalue()


def test_a_report_of_a_teacher_alone(make_report: Make) -> None:
    report, out = make_report(), io.StringIO()
    report["models"] = {"teacher": report["models"]["teacher"]}
    print_report(report, "x", out)
    assert "student" not in out.getvalue().split("one seed")[0]
