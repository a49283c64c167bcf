"""Runs -> table: which runs count, which belong together, what is said of them, and where it is written."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from distill_cli.errors import UserError
from distill_cli.metrics.statistics import holm, minimum_detectable_effect
from distill_cli.reports.sweep import columns as columns_of
from distill_cli.reports.sweep import print_leaderboard, results_files
from distill_cli.reports.sweep.collect import collect
from distill_cli.reports.sweep.leaderboard import build_leaderboard
from distill_cli.reports.sweep.sort_and_filter import sort
from distill_cli.reports.sweep.table import Leaderboard
from distill_cli.reports.sweep.write_sweep import sweep_report

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def small(
    report: dict[str, Any], seed: int, student: float, scratch: float, val: float | None = None, **config: Any
) -> dict[str, Any]:
    """Put given scores into a report."""
    report = json.loads(json.dumps(report))
    report["seed"] = report["config"]["seed"] = seed
    report["config"] |= config
    for name, value in (("student", student), ("scratch", scratch), ("scratch_122", scratch + 0.001), ("teacher", 0.95)):
        report["models"][name]["test"]["macro_f1"] = value
        report["models"][name]["val"]["macro_f1"] = value if val is None else val
    return report


@pytest.fixture
def sweep(tmp_path: Path, make_report: Make, write_run: Write) -> Path:
    """T=1 has the better validation score, T=2 the better test score."""
    base = make_report()
    noise = [0.001, -0.002, 0.003, 0.0, -0.001]
    for t, student, val in ((1, 0.90, 0.88), (2, 0.91, 0.87)):
        for seed, e in enumerate(noise):
            report = small(base, seed, student + e, 0.89 - 2 * e, val + e, loss={"temperature": t})
            write_run(tmp_path / "sweep" / f"{t}-{seed}", report, ["experiment=x", f"loss.temperature={t}", f"seed={seed}"])
    return tmp_path / "sweep"


def table(folder: Path, metric: str = "macro_f1") -> Leaderboard:
    return build_leaderboard(collect([folder]), metric)


def test_runs_that_differ_in_their_seed_share_a_row_and_validation_orders_them(sweep: Path) -> None:
    result = table(sweep)
    assert [row.label for row in result.rows] == ["loss.temperature=1", "loss.temperature=2"]
    assert [row.seeds for row in result.rows] == [[0, 1, 2, 3, 4]] * 2
    assert result.shared == ["experiment=x"]
    assert result.controls == ["scratch", "scratch_122"]
    assert np.mean(result.rows[0].test["student"]) < np.mean(result.rows[1].test["student"])


def test_differences_are_paired_by_run_and_corrected_over_the_table(sweep: Path) -> None:
    result = table(sweep)
    found = [c.result for _, c in result.comparisons]
    wanted = [ttest_rel(c.student, c.scores).pvalue for _, c in result.comparisons]
    assert [r["p"] for r in found] == pytest.approx(wanted)
    assert [r["p_holm"] for r in found] == pytest.approx(holm(wanted))
    first = result.rows[0].comparisons[0].result
    assert first["mean"] == pytest.approx(np.mean([0.01 + 3 * e for e in (0.001, -0.002, 0.003, 0.0, -0.001)]))
    assert "p and verdicts are corrected for 4 comparisons (Holm)" in result.notes


def test_a_verdict_that_correction_takes_away_is_taken_away(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    noise = np.array([0.01, -0.01, 0.005, -0.004, -0.001]) * 1.5
    for t in range(6):
        for seed in range(5):
            report = small(base, seed, 0.9 + 0.02 + float(noise[seed]), 0.9, loss={"temperature": t})
            del report["models"]["scratch_122"]
            write_run(tmp_path / f"{t}-{seed}", report, [f"loss.temperature={t}", f"seed={seed}"])
    result = table(tmp_path)
    assert all(c.result["p"] < 0.05 < c.result["p_holm"] for _, c in result.comparisons)
    assert {c.result["verdict"] for _, c in result.comparisons} == {"no evidence"}


def test_of_nll_less_is_better(sweep: Path, tmp_path: Path) -> None:
    for path in sweep.glob("*/report.json"):
        report = json.loads(path.read_text())
        seed = report["seed"]
        for name, value in (("student", 0.30 + seed / 1000), ("scratch", 0.40 - seed / 1000)):
            report["models"][name]["test"]["nll"] = value
            report["models"][name]["val"]["nll"] = value + report["config"]["loss"]["temperature"]
        path.write_text(json.dumps(report))
    result = table(sweep, "nll")
    assert result.rows[0].label == "loss.temperature=1"
    compared = result.rows[0].comparisons[0].result
    assert compared["mean"] < 0 and compared["ci95"][0] < compared["ci95"][1] < 0
    assert compared["verdict"] == "helped"


def test_a_value_that_follows_the_seed_is_no_setting_but_another_is(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    for seed in (3, 4):
        write_run(tmp_path / f"a{seed}", small(base, seed, 0.9, 0.9, teacher={"seed": seed}), [f"seed={seed}"])
    for seed in (3, 4):
        write_run(tmp_path / f"b{seed}", small(base, seed, 0.9, 0.9, teacher={"seed": 7}), [f"seed={seed}"])
    assert sorted(row.seeds for row in table(tmp_path).rows) == [[3, 4], [3, 4]]
    labels = {row.label for row in table(tmp_path).rows}
    assert len(labels) == 2, "rows that were typed alike still need names of their own"


def test_a_swept_value_that_happens_to_equal_the_seed_is_a_setting(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    for typed in (True, False):
        for t in (0, 1):
            for seed in (0, 1):
                report = small(base, seed, 0.9, 0.9, loss={"temperature": t})
                overrides = [f"loss.temperature={t}", f"seed={seed}"] if typed else None
                write_run(tmp_path / str(typed) / f"{t}-{seed}", report, overrides)
        assert sorted(row.seeds for row in table(tmp_path / str(typed)).rows) == [[0, 1], [0, 1]]
        for row in table(tmp_path / str(typed)).rows:
            assert len({run.report["config"]["loss"]["temperature"] for run in row.runs}) == 1


def test_other_data_recipe_or_command_is_another_row(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    write_run(tmp_path / "a", small(base, 0, 0.9, 0.9), [])
    write_run(tmp_path / "b", small(base, 1, 0.9, 0.9) | {"data": {"fingerprint": "other"}}, [])
    write_run(tmp_path / "c", small(base, 2, 0.9, 0.9) | {"recipe_version": 2}, [])
    write_run(tmp_path / "d", small(base, 3, 0.9, 0.9) | {"command": "eval"}, [])
    assert len(table(tmp_path).rows) == 4


def test_without_a_config_what_was_typed_tells_runs_apart(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    for seed in (0, 1):
        for t in (1, 2):
            report = small(base, seed, 0.9, 0.9) | {"config": None}
            write_run(
                tmp_path / f"{t}-{seed}", report, [f"loss.temperature={t}", f"seed={seed}", "sweep=s", "hydra.verbose=true"]
            )
    assert sorted(row.label for row in table(tmp_path).rows) == ["loss.temperature=1", "loss.temperature=2"]


def test_a_seed_that_is_there_twice_counts_once_the_newest(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    old = write_run(tmp_path / "z-old", small(base, 0, 0.5, 0.5), [])
    write_run(tmp_path / "a-new", small(base, 0, 0.9, 0.9), [])
    os.utime(old / "report.json", (1, 1))
    result = table(tmp_path)
    assert result.rows[0].test["student"] == [0.9]
    assert any("seed 0 is there twice" in note and "z-old is not counted" in note for note in result.notes)


def test_unfinished_failed_and_unreadable_runs_are_counted_and_named(sweep: Path) -> None:
    (sweep / "running" / ".hydra").mkdir(parents=True)
    (sweep / "bad" / ".hydra").mkdir(parents=True)
    (sweep / "bad" / "failed.json").write_text('{"error": "loss: temperature must be > 0,\\n got -1"}')
    (sweep / "bad" / ".hydra" / "overrides.yaml").write_text("- loss.temperature=-1\n- seed=0\n")
    (sweep / "torn" / ".hydra").mkdir(parents=True)
    (sweep / "torn" / "report.json").write_text('{"models": {"stud')
    (sweep / "other").mkdir()
    (sweep / "other" / "report.json").write_text('{"a": 1}')
    (sweep / "future").mkdir()
    (sweep / "future" / "report.json").write_text('{"schema_version": 9, "models": {}}')
    result, out = table(sweep), io.StringIO()
    print_leaderboard.show(result, file=out)
    text = out.getvalue()
    assert "15 runs: 10 finished, 1 unfinished, 1 failed, 3 unreadable" in text
    assert f"failed: {sweep / 'bad'}: loss.temperature=-1 seed=0: loss: temperature must be > 0, got -1" in text
    assert f"unreadable: {sweep / 'torn' / 'report.json'}: cannot be read (" in text
    assert "is not a report of distill (it has no models)" in text
    assert "has schema version 9, this distill reads 1" in text


def test_a_rerun_that_finished_is_no_longer_failed(sweep: Path) -> None:
    (sweep / "1-0" / "failed.json").write_text('{"error": "x"}')
    assert len(collect([sweep]).finished) == 10


def test_a_sweep_without_any_finished_job_yet(tmp_path: Path) -> None:
    (tmp_path / "a" / ".hydra").mkdir(parents=True)
    (tmp_path / "b" / ".hydra").mkdir(parents=True)
    out = io.StringIO()
    sweep_report(tmp_path, file=out)
    assert out.getvalue().startswith("2 runs: 2 unfinished\n")
    assert (tmp_path / "results.md").exists()


def test_folders_that_hold_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="not a run, and no run is below it"):
        collect([tmp_path])
    (tmp_path / ".hydra").mkdir()
    with pytest.raises(UserError, match="run folder unfinished"):
        collect([tmp_path])


def test_a_folder_named_twice_counts_once(sweep: Path) -> None:
    assert len(collect([sweep, sweep / "1-0", sweep / ".." / "sweep"]).finished) == 10


def test_controls_and_seeds_that_lack_are_gaps_not_errors(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    alone = small(base, 0, 0.9, 0.9, controls=[])
    alone["models"] = {"teacher": alone["models"]["teacher"], "student": alone["models"]["student"], "scratch": None}
    write_run(tmp_path / "no_control", alone, ["controls=[]"])
    half = small(base, 1, 0.8, 0.8)
    half["models"]["scratch"]["test"]["macro_f1"] = None
    write_run(tmp_path / "null", half, [])
    teacher = small(base, 0, 0.9, 0.9, epochs=3) | {"command": "train-teacher"}
    teacher["models"] = {"teacher": teacher["models"]["teacher"]}
    write_run(tmp_path / "teacher", teacher, [])
    result, out = table(tmp_path), io.StringIO()
    print_leaderboard.show(result, file=out)
    assert [row.label for row in result.rows] == ["controls=[]", "heartbeat", "train-teacher: heartbeat"]
    assert "no seed has both a student and scratch: no verdict" in out.getvalue()
    csv.reader(io.StringIO(results_files.results_csv(result)))


def test_files_that_changed_under_one_name_make_another_row(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    same = {"unlabeled": {"fingerprint": "u"}, "teacher_fingerprint": "t"}
    others = [{}, {"unlabeled": {"fingerprint": "v"}}, {"teacher_fingerprint": "s"}]
    for number, other in enumerate(others):
        for seed in (0, 1):
            report = small(base, seed, 0.9, 0.9, teacher={"seed": 7}) | same | other
            write_run(tmp_path / f"{number}-{seed}", report, [f"seed={seed}"])
    result = table(tmp_path)
    assert [row.seeds for row in result.rows] == [[0, 1]] * 3
    assert {row.label.partition("(")[2] for row in result.rows} == {"", "unlabeled rows v)", "teacher s)"}
    for seed in (0, 1):  # a teacher for each seed is none of them
        report = small(base, seed, 0.9, 0.9, teacher={"seed": seed}) | {"teacher_fingerprint": f"t{seed}"}
        write_run(tmp_path / "own" / str(seed), report, [f"seed={seed}", "teacher.seed=${seed}"])
    (own,) = table(tmp_path / "own").rows
    assert own.seeds == [0, 1] and not own.one_teacher and len(set(own.test["teacher"])) == 1


def test_a_difference_that_can_be_detected_passes_the_correction_too(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    base = make_report()
    for t in range(3):
        for seed in range(5):
            report = small(base, seed, 0.9 + 0.01 * (seed % 2 + t), 0.9, loss={"temperature": t})
            write_run(tmp_path / f"{t}-{seed}", report, [f"loss.temperature={t}", f"seed={seed}"])
    compared = [c.result for _, c in table(tmp_path).comparisons]
    assert len(compared) >= 3
    for found in compared:
        assert found["minimum_detectable_effect"] == pytest.approx(
            minimum_detectable_effect(5, found["sd"], alpha=0.05 / len(compared))
        )
        assert found["minimum_detectable_effect"] > minimum_detectable_effect(5, found["sd"])


def test_one_teacher_for_all_seeds_has_no_spread(sweep: Path) -> None:
    result, out = table(sweep), io.StringIO()
    print_leaderboard.show(result, ["method", "teacher"], out)
    assert "loss.temperature=1          0.950\n" in out.getvalue().replace("  \n", "\n")
    assert any("say nothing about other teachers" in note for note in result.notes)


def test_results_csv_and_md_are_written_whole_and_harmless(sweep: Path) -> None:
    for path in sweep.glob("*/.hydra/overrides.yaml"):
        path.write_text(path.read_text() + ("- +loss@terms.x=cross_entropy\n" if "temperature=2" in path.read_text() else ""))
    out = io.StringIO()
    result = sweep_report(sweep, file=out)
    rows = list(csv.DictReader(io.StringIO((sweep / "results.csv").read_text(encoding="utf-8"), newline="")))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert rows[1]["method"] == "'+loss@terms.x=cross_entropy loss.temperature=2"
    assert float(rows[0]["test.student.mean"]) == pytest.approx(np.mean(result.rows[0].test["student"]))
    assert float(rows[0]["test.student.std"]) == pytest.approx(np.std(result.rows[0].test["student"], ddof=1))
    low, high = result.rows[0].comparisons[0].result["ci95"]
    assert (float(rows[0]["minus.scratch.low"]), float(rows[0]["minus.scratch.high"])) == (low, high)
    text = (sweep / "results.md").read_text()
    assert "best first by validation, never by test" in text
    assert text.count("scratch_122 0.8") == 2, "the verdict against every control is written"
    assert f"written: {sweep / 'results.csv'} and results.md" in out.getvalue()


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 30])
def test_the_table_fits_every_terminal_with_whole_numbers(sweep: Path, terminal: Any, columns: int) -> None:
    out = terminal(columns)
    result = table(sweep)
    print_leaderboard.show(result, file=out)
    above = out.shown.split("10 runs:")[0]
    assert max(map(len, above.splitlines())) <= columns
    for row in result.rows:
        assert f"{np.mean(row.test['student']):.3f}" in above
        assert f"{row.comparisons[0].result['ci95'][0]:+.3f}" in above


def test_sorting_by_test_is_possible_and_said(sweep: Path) -> None:
    result = table(sweep)
    sort(result, "student")
    assert result.rows[0].label == "loss.temperature=2"
    assert any("sorted by student" in line for line in columns_of.caption(result))
    with pytest.raises(UserError, match=r"sort=studnt: no such column of numbers; did you mean 'student'\?"):
        sort(result, "studnt")


def test_where_stored_outputs_lie_is_no_setting_and_their_views_are(tmp_path: Path, make_report: Make, write_run: Write) -> None:
    for seed, (folder, views) in enumerate((("a", 0), ("b", 0), ("b", 4))):
        report = small(
            make_report(), seed, 0.9, 0.8, outputs=folder, cache={"folder": f"{folder}/cache", "views": views, "max_gb": 4}
        )
        write_run(tmp_path / str(seed), report, ["experiment=x", f"seed={seed}"])
    assert sorted(len(row.runs) for row in build_leaderboard(collect([tmp_path])).rows) == [1, 2]
