"""The net of numbers: a difference in a last digit shows, under the names of today, and nothing that times decide does."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "same_numbers.py"


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("same_numbers")


def test_a_last_digit_a_missing_and_a_new_number_differ(net: ModuleType) -> None:
    stored = {"a/report.f1": 0.1, "a/report.nll": 0.30000000000000004, "a/report.n": 5, "a/report.gone": 1}
    found = net.differences(stored, {"a/report.f1": 0.1, "a/report.nll": 0.3, "a/report.n": 5, "a/report.fresh": None})
    assert found == {
        "a/report.nll": "0.30000000000000004 -> 0.3",
        "a/report.gone": "1 -> (absent)",
        "a/report.fresh": "(absent) -> None",
    }


def test_renames_move_whole_parts_of_keys_and_whole_words(net: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "RENAMED_KEYS", {"models.scratch": "models.control", "overflows": "skipped_steps"})
    monkeypatch.setattr(net, "RENAMED_VALUES", {"scratch": "control", "tool.models.mlp": "tool.networks"})
    stored = {
        "a/distill.1/report.models.scratch.overflows": 3,
        "a/distill.1/report.models.scratch_122.n": 4,
        "a/distill.1/report.verdict": "scratch 0.3, scratch_122 0.4",
        "a/distill.1/metrics.stage": ["10 x scratch", "tool.models.mlp.MLP"],
    }
    assert net.renamed(stored) == {
        "a/distill.1/report.models.control.skipped_steps": 3,
        "a/distill.1/report.models.scratch_122.n": 4,
        "a/distill.1/report.verdict": "control 0.3, scratch_122 0.4",
        "a/distill.1/metrics.stage": ["10 x control", "tool.networks.MLP"],
    }


def test_changes_on_purpose_are_counted_by_their_reason(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(net, "CHANGED", [(r"\.ece$", "other bins")])
    outcome = net.Outcome({"a/r.ece": 0.2, "a/r.n": 6, "a/r.f1": 0.5})
    assert net.judge("a", outcome, {"a/r.ece": 0.1, "a/r.n": 5, "a/r.f1": 0.5}) == (1, {"other bins": 1})
    assert capsys.readouterr().out.splitlines() == ["a: 3 numbers, 1 differ, 1 changed on purpose, 0 s", "  a/r.n: 5 -> 6"]


def test_a_run_is_named_by_its_place_and_its_tables_by_their_columns(net: ModuleType, tmp_path: Path) -> None:
    for number, name in enumerate(("z-first", "a-second")):
        folder = tmp_path / "outputs" / "distill" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"seed": number, "counts": {"a": [[1, 2], [3, 4]]}}))
        os.utime(folder / "report.json", ns=(0, number))
    (folder / "metrics.csv").write_text("model,epoch,loss\n" + "".join(f"student,{n},{n / 3}\n" for n in range(9)))
    found = dict(net.numbers_below(tmp_path / "outputs"))
    assert found["distill.1/report.seed"] == 0 and found["distill.2/report.seed"] == 1
    assert found["distill.1/report.counts.a"] == [[1, 2], [3, 4]]
    assert found["distill.2/metrics.student.loss"][:4] == [9, 0.0, 4 / 3, 8 / 3]
    assert net.clean(f"trained {tmp_path}/outputs/x-1", tmp_path) == "trained FOLDER"


def test_what_is_stored_is_of_the_cases_and_nothing_that_times_decide(net: ModuleType) -> None:
    stored = json.loads(net.STORED.read_text())["numbers"]
    assert {key.partition("/")[0] for key in stored} <= set(net.CASES)
    assert net.compared(stored) == stored
    assert not [key for key in stored if "seconds" in key or "latency_ms" in key]
