"""report.md: what it shows, and that text from data cannot break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distill_cli.reports.formatting import duration, markdown_text, milliseconds, size, spreadsheet_cell
from distill_cli.reports.run.markdown import markdown

Make = Callable[..., dict[str, Any]]


def table_rows(text: str, heading: str) -> list[list[str]]:
    block = text.split(f"## {heading}\n\n", 1)[1].split("\n## ", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines() if line.startswith("|")]


def test_the_verdict_comes_first_and_every_part_is_there(make_report: Make) -> None:
    report = make_report()
    text = markdown(report)
    lines = text.splitlines()
    assert lines[0] == "# heartbeat, seed 0"
    assert lines[2] == f"**{report['verdict']}**"
    for part in (
        "Models",
        "F1 of each class, test",
        "student on test",
        "Differences",
        "Loss terms",
        "Data",
        "Budget",
        "Provenance",
    ):
        assert f"\n## {part}\n" in text
    assert "- 5 beats ran past a record's end" in text
    assert "- optimizer steps: student 54,722, scratch 54,722, scratch_122 107,604" in text
    assert "- versions: python 3.11.9, torch 2.13.0" in text
    assert "```sh\ndistill distill experiment=heartbeat dataset.root=data/mitdb seed=0\n```" in text


def test_steps_that_overflowed_are_told(make_report: Make) -> None:
    from distill_cli.reports.html.run.page import facts

    report = make_report()
    assert "overflow" not in markdown(report)
    report["models"]["student"]["skipped_steps"] = 3
    assert "- left out in fp16, because a gradient overflowed: steps of student 3\n" in markdown(report) + "\n"
    assert dict(facts(report))["left out in fp16"] == "steps of student 3"


def test_numbers_stand_under_their_model(make_report: Make) -> None:
    report = make_report()
    rows = table_rows(markdown(report), "Models")
    assert rows[0] == ["", "teacher", "student", "scratch", "scratch_122"]
    by_name = {row[0]: row[1:] for row in rows[2:]}
    models = report["models"]
    assert by_name["test macro F1"] == [f"{models[m]['test']['macro_f1']:.3f}" for m in rows[0][1:]]
    assert by_name["val macro F1"] == [f"{models[m]['val']['macro_f1']:.3f}" for m in rows[0][1:]]
    low, high = models["student"]["test"]["macro_f1_ci95"]
    assert by_name["95 % interval"][1] != "" and f"{low:.3f}..{high:.3f}" in {row[2] for row in rows if row[0] == "95 % interval"}
    assert by_name["parameters"] == ["70,421", "3,909", "3,909", "3,909"]
    assert by_name["training time"][:2] == ["-", "4 min 05 s"]
    confusion = table_rows(markdown(report), "student on test")[-5:]
    assert [int(n.replace(",", "")) for n in confusion[0][1:]] == models["student"]["test"]["confusion"][0]


def test_class_names_that_would_break_a_table_do_not(make_report: Make) -> None:
    report = make_report()
    wild = "a|b\n<script>*x*"
    text = json_rename(report, "fusion (F)", wild)
    row = next(line for line in markdown(text).splitlines() if line.startswith("| a\\|"))
    assert row.startswith("| a\\|b &lt;script&gt;\\*x\\* | ")
    assert "<script>" not in markdown(text)


def json_rename(report: Any, old: str, new: str) -> Any:
    if isinstance(report, dict):
        return {new if key == old else key: json_rename(value, old, new) for key, value in report.items()}
    if isinstance(report, list):
        return [json_rename(value, old, new) for value in report]
    return new if report == old else report


def test_a_class_left_out_of_the_mean_is_marked(make_report: Make) -> None:
    report = make_report()
    for model in report["models"].values():
        model["test"]["averaged"] = model["test"]["averaged"][:4]
    text = markdown(report)
    assert "| unknown (Q) \\* |" in text
    assert "shown, not averaged into macro F1" in text


def test_a_teacher_alone_and_an_eval_without_controls(make_report: Make) -> None:
    report = make_report(command="train-teacher", comparison={}, terms={}, budget={"teacher_steps": 10, "teacher_seconds": 1.0})
    report["models"] = {"teacher": report["models"]["teacher"]}
    text = markdown(report)
    assert "| test macro F1 |" in text and "## Differences" not in text
    assert "- teacher: 10 steps, 1.0 s" in text
    report = make_report(command="eval", comparison=None, terms=None, budget=None, provenance={})
    report["models"] = {"student": {"train": report["models"]["student"]["test"]}, "scratch": None}
    assert "## F1 of each class, train" in markdown(report)


def test_null_scores_are_a_dash(make_report: Make) -> None:
    report = make_report()
    report["models"]["student"]["test"] |= {"macro_f1_ci95": None, "nll": None}
    report["comparison"]["scratch"]["ci95"] = None
    rows = {row[0]: row[1:] for row in table_rows(markdown(report), "Models")}
    assert rows["NLL, nats"][1] == "-"


def test_a_large_confusion_matrix_is_left_to_json(make_report: Make) -> None:
    report = make_report()
    part = report["models"]["student"]["test"]
    part["per_class"] = {f"c{i}": {"f1": 0.5, "precision": 0.5, "recall": 0.5, "support": 2} for i in range(30)}
    part["confusion"] = [[0] * 30] * 30
    assert "The confusion matrix of 30 classes is in report.json." in markdown(report)


def test_a_command_line_with_backticks_stays_in_its_block(make_report: Make) -> None:
    report = make_report()
    report["provenance"]["command_line"] = "distill distill name='```'"
    assert "````sh\ndistill distill name='```'\n````" in markdown(report)


def test_cells() -> None:
    assert [duration(s) for s in (None, 0.04, 9.96, 59.4, 245.2, 3599.7, 7325)] == [
        "-", "0.0 s", "10 s", "59 s", "4 min 05 s", "1 h 00 min", "2 h 02 min",
    ]  # fmt: skip
    assert [size(n) for n in (None, 0, 512, 15_636, 281_684, 4_796_040)] == ["-", "0 B", "512 B", "15.6 kB", "281.7 kB", "4.8 MB"]
    assert [milliseconds(m) for m in (0.0624, 6.1234, 123.4)] == ["0.0624 ms", "6.12 ms", "123 ms"]
    assert markdown_text("# x [a](b) `c` snake_case _em_") == "\\# x [a\\](b) \\`c\\` snake_case \\_em\\_"
    assert [spreadsheet_cell(t) for t in ("=1", "+a", "-1.5", "-x", "@a", "\ta", "N")] == [
        "'=1",
        "'+a",
        "-1.5",
        "'-x",
        "'@a",
        "'\ta",
        "N",
    ]
