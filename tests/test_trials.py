"""Trials: what an hparams preset draws, what a search finds in a sweep, and the tuned control beside the student."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Ran
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.config import resolvers
from distill_cli.errors import UserError
from distill_cli.factory import tuned_settings

Distill = Callable[..., Ran]
SEARCH = (
    "distill",
    *TINY[:3],
    "report.html=false",
    "bootstrap.resamples=20",
    "teacher.model.hidden=[16]",
    "student.model.hidden=[8]",
    "teacher.optimizer.lr=0.01",
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-4, 1.0), st.floats(1.0, 100.0))
def test_draws_stay_in_range_and_follow_from_the_trial_and_the_name(trial: int, low: float, high: float) -> None:
    root = {"trial": trial}
    for draw in (resolvers.uniform, resolvers.log_uniform):
        value = draw("lr", low, high, _root_=root)
        assert low * 0.99 <= value <= high * 1.01
        assert value == draw("lr", low, high, _root_=root)
    assert resolvers.choice("a", [1, 2, 3], _root_=root) in (1, 2, 3)


def test_log_uniform_draws_are_uniform_in_the_logarithm() -> None:
    draws = [np.log10(resolvers.log_uniform("lr", 1e-4, 1.0, _root_={"trial": n})) for n in range(2000)]
    counts, _ = np.histogram(draws, bins=4, range=(-4, 0))
    assert counts.min() > 420 and counts.max() < 580
    other = [np.log10(resolvers.log_uniform("decay", 1e-4, 1.0, _root_={"trial": n})) for n in range(2000)]
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: resolvers.log_uniform("lr", 0, 1, _root_={"trial": 0}), "the lower end must be > 0"),
        (lambda: resolvers.uniform("lr", 2, 1, _root_={"trial": 0}), "the lower first"),
        (lambda: resolvers.choice("a", [], _root_={"trial": 0}), "expected a list"),
        (lambda: resolvers.listed("a", [1, 2], _root_={"trial": 2}), "has trials 0 to 1"),
        (lambda: resolvers.listed("a", [1, 2], _root_={"trial": None}), "give a number of 0 or more"),
    ],
)
def test_draws_that_make_no_sense_are_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()


@pytest.fixture
def sweep(distill: Distill) -> Ran:
    ran = distill(*SEARCH, "hparams=random_soft_target", "sweep=search", "-m", "trial=range(0,3)")
    assert ran.code == 0, ran.err
    return ran


def reports() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path("outputs/sweeps/search").glob("*/report.json"))]


def test_each_arm_gets_the_trial_that_was_best_for_it_on_validation(sweep: Ran, distill: Distill) -> None:
    found = reports()
    best = {name: max(found, key=lambda r: r["models"][name]["val"]["macro_f1"])["config"] for name in ("student", "scratch")}
    ran = distill(*SEARCH, "tuned_from=outputs/sweeps/search", "controls=[scratch,tuned]", "seed=9")
    assert ran.code == 0, ran.err
    searched = ran.report["tuned_from"]
    assert searched["trials"] == {"student": 3, "tuned": 3}
    assert searched["settings"]["student"]["optimizer"] == best["student"]["optimizer"] == ran.report["config"]["optimizer"]
    assert ran.report["config"]["loss"] == best["student"]["loss"]
    assert searched["settings"]["tuned"]["optimizer"] == best["scratch"]["optimizer"]
    assert searched["seeds"] == [0] and not searched["seed_was_searched"]
    assert "tuned" in ran.report["verdict"]
    assert f"optimizer.lr {best['student']['optimizer']['lr']:g}" in (ran.folder / "report.md").read_text()
    # the tuned control is the scratch control of a run with its settings
    lr, decay = (best["scratch"]["optimizer"][key] for key in ("lr", "weight_decay"))
    alone = distill(*SEARCH, f"optimizer.lr={lr}", f"optimizer.weight_decay={decay}", "seed=9")
    assert alone.report["models"]["scratch"]["test"] == {
        **ran.report["models"]["tuned"]["test"], "agreement": alone.report["models"]["scratch"]["test"]["agreement"],
    }  # fmt: skip


def test_searches_that_fit_nothing_are_refused(sweep: Ran, distill: Distill, tmp_path: Path) -> None:
    folder = "outputs/sweeps/search"
    for words, line in [
        (("controls=[tuned]",), "controls.0=tuned: its settings come from a sweep of trials; give tuned_from=FOLDER"),
        (("tuned_from=nowhere",), "tuned_from=nowhere: no such folder; give the folder of a finished sweep, such as outputs/sweeps/NAME"),
        (("tuned_from=outputs/teachers",), "tuned_from=outputs/teachers: 0 finished trials of this version in it; "
         "run a sweep of two or more with controls=[scratch]"),
    ]:  # fmt: skip
        ran = distill(*SEARCH, *words)
        assert (ran.code, ran.err.splitlines()) == (2, [f"distill distill: error: {line}"])
    first = sorted(Path(folder).glob("*/report.json"))[0].parent.name
    ran = distill(*SEARCH, f"tuned_from={folder}", "dataset.split_seed=1")
    assert ran.err.endswith(
        f"tuned_from={folder}: {first}: this trial was run on other data or another split; search on the data that is used\n"
    )
    ran = distill(*SEARCH, f"tuned_from={folder}", "dataset.label_fraction=0.5")
    assert ran.err.endswith(
        f"{first}: this trial was run with dataset.label_fraction=1.0, this run has 0.5; search on the data that is used\n"
    )
    ran = distill(*SEARCH, f"tuned_from={folder}", "student.model.hidden=[9]")
    assert ran.err.endswith("this trial trained another student; search with the student that is used\n")


def test_a_control_with_fewer_trials_than_the_student_is_refused(distill: Distill) -> None:
    distill(*SEARCH, "sweep=t", "-m", "loss=soft_target,logits_mse")
    ran = distill(*SEARCH, "tuned_from=outputs/sweeps/t", "controls=[tuned]")
    assert ran.code == 2
    assert "the student had 2 trials, the control only 1; vary the training in each" in ran.err


LOSSES = "distill_cli.losses."
SOFT = {"_target_": f"{LOSSES}soft_target.SoftTarget", "weight": 1.0}
CROSS_ENTROPY = {"_target_": f"{LOSSES}cross_entropy.CrossEntropy", "class_weight": "none"}
SMOOTH = {"_target_": f"{LOSSES}label_smoothing.LabelSmoothing"}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((SOFT, {}), ({**SOFT, "temperature": 9.0}, {}), True),
        ((SOFT, {}), ({"_target_": f"{LOSSES}logits_mse.LogitsMSE"}, {}), True),
        ((SOFT, {}), ({**SOFT, "class_weight": "balanced"}, {}), False),
        (
            (SOFT, {"cross_entropy": {**CROSS_ENTROPY, "weight": 0.01}}),
            (SOFT, {"cross_entropy": {**CROSS_ENTROPY, "weight": 0.5}}),
            True,
        ),
        (
            (SOFT, {"cross_entropy": {**CROSS_ENTROPY, "weight": 2.0}}),
            (SOFT, {"cross_entropy": {**CROSS_ENTROPY, "weight": 1.0}}),
            False,
        ),
        ((SOFT, {"own": {**SMOOTH, "epsilon": 0.1}}), (SOFT, {"own": {**SMOOTH, "epsilon": 0.2}}), False),
    ],
)
def test_trials_are_distinct_for_a_control_by_what_it_keeps_of_their_losses(a: Any, b: Any, same: bool) -> None:
    kept = [tuned_settings.without_teacher({"loss": loss, "terms": terms}, "") for loss, terms in (a, b)]
    assert (kept[0] == kept[1]) == same


def test_a_tuned_control_has_the_losses_of_its_own_trial(distill: Distill) -> None:
    smooth = (*SEARCH, "+loss@terms.own=label_smoothing", "terms.own.weight=0.1")
    for trial, (rate, epsilon, temperature) in enumerate([(0.05, 0.6, 1), (1e-4, 0.1, 4)]):
        words = (f"optimizer.lr={rate}", f"terms.own.epsilon={epsilon}", f"loss.temperature={temperature}")
        assert distill(*smooth, *words, "sweep=search", "-m", f"trial={trial}").code == 0
    for path in Path("outputs/sweeps/search").glob("*/report.json"):  # the student's best is the other trial
        report = json.loads(path.read_text())
        report["models"]["student"]["val"]["macro_f1"] = 1.0 if report["config"]["terms"]["own"]["epsilon"] == 0.1 else 0.0
        path.write_text(json.dumps(report))
    ran = distill(*smooth, "tuned_from=outputs/sweeps/search", "controls=[scratch,tuned]", "seed=9")
    assert ran.code == 0, ran.err
    assert ran.report["config"]["terms"]["own"]["epsilon"] == 0.1
    own = ran.report["tuned_from"]["settings"]["tuned"]["loss"]["own"]
    assert (own["epsilon"], own["weight"]) == (0.6, pytest.approx(1.0))
    alone = distill(*smooth, "optimizer.lr=0.05", "terms.own.epsilon=0.6", "seed=9")
    scores = [report["models"][name]["test"]["macro_f1"] for report, name in ((ran.report, "tuned"), (alone.report, "scratch"))]
    assert scores[0] == scores[1]


def changed(report: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *path, last = place.split(".")
    node: Any = report
    for key in path:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return report


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            "config.loss",
            {"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "y"},
            "loss._target_=torch.hub.load is not trusted",
        ),
        ("config.terms.own._target_", "torch.hub.load", "terms.own._target_=torch.hub.load is not trusted"),
        ("config.terms", 5, "holds no usable config"),
        ("config.terms", None, "holds no usable config"),
        ("config.terms", {"own": 5}, "own"),
        ("config.terms.own.weight", "heavy", "terms.own.weight"),
        ("config.optimizer", None, "holds no usable config"),
        ("seed", None, "holds no usable config"),
        ("seed", "zero", "holds no usable config"),
    ],
)
def test_a_strangers_trials_run_no_code_and_end_in_one_line(
    strange: list[Path], distill: Distill, monkeypatch: pytest.MonkeyPatch, place: str, value: Any, said: str
) -> None:
    called: list[object] = []
    monkeypatch.setattr("torch.hub.load", lambda *words, **more: called.append(words))
    search_it = (*SEARCH, "+loss@terms.own=label_smoothing", "tuned_from=outputs/sweeps/search", "controls=[tuned]")
    for path in strange:
        path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
        ran = distill(*search_it)
        assert not called
        if path == strange[0]:
            assert ran.code == 2 and said in ran.err.splitlines()[-1] and "Traceback" not in ran.err, ran.err
        else:  # what all trials share is not theirs to say, but for what makes them unusable
            assert ran.code in (0, 2) and "Traceback" not in ran.err, ran.err


@pytest.fixture
def strange(distill: Distill) -> list[Path]:
    """Reports of two trials, written by hand: they differ in their rate and in a term."""
    ran = distill(*SEARCH, "+loss@terms.own=label_smoothing", "sweep=search", "-m", "trial=0")
    assert ran.code == 0, ran.err
    (first,) = Path("outputs/sweeps/search").glob("*/report.json")
    second = json.loads(first.read_text())
    second["config"]["terms"]["own"]["epsilon"], second["config"]["optimizer"]["lr"] = 0.7, 0.002
    other = first.parent.parent / "other" / "report.json"
    other.parent.mkdir()
    other.write_text(json.dumps(second))
    return [first, other]


@pytest.mark.slow
def test_trials_that_differ_in_more_than_the_students_training_are_refused(distill: Distill) -> None:
    distill(*SEARCH, "sweep=t", "-m", "optimizer.lr=0.01,0.02", "teacher.seed=0,1")
    ran = distill(*SEARCH, "tuned_from=outputs/sweeps/t")
    assert ran.code == 2
    assert "its trials differ in teacher, which is not carried over; vary the student's training" in ran.err


def test_a_fixed_list_serves_both_arms(distill: Distill) -> None:
    ran = distill(*SEARCH, "hparams=rates", "trial=1", "--cfg", "job")
    assert "lr: 0.001" in ran.out or "${listed:lr" in ran.out
    ran = distill(*SEARCH, "hparams=rates", "trial=7")
    assert ran.code == 2 and "trial=7: the list of lr has trials 0 to 4" in ran.err


@pytest.mark.slow
def test_a_search_of_the_training_serves_another_loss_and_trials_kept_elsewhere(distill: Distill) -> None:
    for trial, place in enumerate(("one", "two")):
        assert distill(*SEARCH, "hparams=random", f"outputs={place}", "sweep=t", "-m", f"trial={trial}").code == 0
    shutil.copytree("two/sweeps/t", "one/sweeps/t", dirs_exist_ok=True)
    hint = ("loss=hint", "loss.features=[body.1,body.1]", "controls=[scratch,tuned]")
    ran = distill(*SEARCH, *hint, "tuned_from=one/sweeps/t", "dataset.label_fraction=1")
    assert ran.code == 0, ran.err
    assert ran.report["tuned_from"]["trials"] == {"student": 2, "tuned": 2}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("hparams=rates", "trial=7"), "trial=7: the list of lr has trials 0 to 4"),
        (("optimizer.lr=${uniform:lr,3,1}", "trial=0"), "uniform:lr: expected two numbers, the lower first, got 3 and 1"),
        (("optimizer.lr=${unifrom:lr,1,3}", "trial=0"), "optimizer.lr: there is no ${unifrom:...}; did you mean 'uniform'?"),
        (("optimizer.lr=${uniform:lr,1}", "trial=0"), "optimizer.lr: uniform() missing 1 required positional argument: 'high'"),
    ],
)
def test_a_wrong_draw_is_one_line(distill: Distill, words: tuple[str, ...], line: str) -> None:
    ran = distill("distill", *words)
    assert (ran.code, ran.err.splitlines()) == (2, [f"distill distill: error: {line}"])
