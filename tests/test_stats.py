"""Intervals, tests and verdicts against scipy, against what is worked out by hand, and against simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from distill_cli.metrics.confusion import confusion_counts, macro_f1
from distill_cli.metrics.statistics import (
    bootstrap_intervals,
    holm,
    p_text,
    paired_bootstrap,
    paired_t,
    verdict_label,
    verdict_one_run,
    verdict_over_seeds,
)
from distill_cli.tasks.classification.evaluator import PredictedClasses


def macro_interval(y: np.ndarray, said: np.ndarray, classes: int, averaged: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the interval of macro F1 alone."""
    return bootstrap_intervals(PredictedClasses(y, said, classes, averaged), *args, **kwargs)[0]


def paired(y: np.ndarray, a: np.ndarray, b: np.ndarray, *args: Any) -> dict[str, Any]:
    """Return the paired bootstrap of two predictions of three classes."""
    return paired_bootstrap(PredictedClasses(y, a, 3, range(3)), PredictedClasses(y, b, 3, range(3)), *args)


def drawn(n: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.choice(3, n, p=[0.6, 0.3, 0.1])
    return y, np.where(random.random(n) < right, y, random.integers(0, 3, n))


def test_interval_is_that_of_rows_drawn_one_by_one_within_their_class() -> None:
    y, said = drawn(300, 0.8, 0)
    random = np.random.default_rng(1)
    rows = [np.flatnonzero(y == c) for c in range(3)]
    plain = []
    for _ in range(1500):
        chosen = np.concatenate([random.choice(r, len(r)) for r in rows])
        plain.append(macro_f1(confusion_counts(y[chosen], said[chosen], 3), range(3)))
    got = macro_interval(y, said, 3, range(3), resamples=4000)
    assert got == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.008)


def test_interval_over_groups_is_that_of_whole_groups_drawn() -> None:
    y, said = drawn(300, 0.8, 0)
    groups = np.arange(300) // 25
    said[groups < 3] = 0
    random = np.random.default_rng(1)
    plain = []
    for _ in range(1500):
        chosen = np.concatenate([np.flatnonzero(groups == g) for g in random.integers(0, 12, 12)])
        plain.append(macro_f1(confusion_counts(y[chosen], said[chosen], 3), range(3)))
    got = macro_interval(y, said, 3, range(3), groups.astype(str), resamples=4000)
    assert got == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.012)
    over_rows = macro_interval(y, said, 3, range(3), resamples=4000)
    assert got[1] - got[0] > 1.5 * (over_rows[1] - over_rows[0]), "patients who fail as a whole must widen the interval"


def test_a_draw_without_a_class_averages_over_those_it_holds() -> None:
    # class 2 lives in one group of four: many draws lack it, none may score it 0
    y = np.array([0, 1] * 8 + [2, 2])
    groups = np.array(["a"] * 6 + ["b"] * 6 + ["c"] * 4 + ["d"] * 2)
    assert macro_interval(y, y, 3, range(3), groups) == [1.0, 1.0]


def test_a_class_absent_from_the_split_counts_zero_in_score_and_interval_alike() -> None:
    y = np.array([0, 1] * 10)
    groups = np.repeat(["a", "b", "c", "d"], 5)
    for grouping in (None, groups):
        assert macro_interval(y, y, 3, range(3), grouping) == pytest.approx([2 / 3, 2 / 3])


def test_same_seed_same_interval_other_seed_another() -> None:
    y, said = drawn(200, 0.8, 0)
    assert macro_interval(y, said, 3, range(3), seed=1) == macro_interval(y, said, 3, range(3), seed=1)
    assert macro_interval(y, said, 3, range(3), seed=1) != macro_interval(y, said, 3, range(3), seed=2)


def test_no_interval_without_draws_or_with_a_single_group() -> None:
    y, said = drawn(50, 0.8, 0)
    assert macro_interval(y, said, 3, range(3), resamples=0) is None
    assert macro_interval(y, said, 3, range(3), np.full(50, "one")) is None


def test_coverage_of_the_interval_is_near_its_name() -> None:
    """With classes of a fixed size, the interval holds the macro F1 of the population in about 95 % of samples."""
    rates = np.array([[0.9, 0.06, 0.04], [0.15, 0.8, 0.05], [0.1, 0.1, 0.8]])
    sizes = np.array([300, 150, 60])
    truth = macro_f1(rates * sizes[:, None], range(3))
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        counts = np.stack([random.multinomial(n, p) for n, p in zip(sizes, rates, strict=True)])
        y = np.repeat(np.arange(3), sizes)
        said = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
        low, high = macro_interval(y, said, 3, range(3), resamples=300, seed=trial)
        held += low <= truth <= high
    assert 0.89 <= held / 200 <= 0.99


def test_paired_bootstrap_keeps_pairs_together() -> None:
    y, a = drawn(400, 0.8, 0)
    b = a.copy()
    same = paired(y, a, b)
    assert same == {"difference": 0.0, "ci95": [0.0, 0.0], "resampled": "samples", "n_groups": None}
    b[:4] = (y[:4] + 1) % 3
    close = paired(y, a, b)
    alone = macro_interval(y, a, 3, range(3))
    assert close["ci95"][1] - close["ci95"][0] < 0.5 * (alone[1] - alone[0])
    assert close["ci95"][0] <= close["difference"] <= close["ci95"][1]


def test_paired_bootstrap_over_groups_says_so() -> None:
    y, a = drawn(400, 0.9, 0)
    _, b = drawn(400, 0.6, 0)
    groups = (np.arange(400) % 8).astype(str)
    result = paired(y, a, b, groups)
    assert (result["resampled"], result["n_groups"]) == ("groups", 8)
    assert result["ci95"][0] > 0
    swapped = paired(y, b, a, groups)
    assert swapped["difference"] == -result["difference"]
    assert swapped["ci95"] == pytest.approx([-result["ci95"][1], -result["ci95"][0]])


def test_many_groups_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    y, said = drawn(200, 0.8, 0)
    groups = np.arange(200) // 4
    whole = macro_interval(y, said, 3, range(3), groups, resamples=100)
    monkeypatch.setattr("distill_cli.metrics.bootstrap.WEIGHTS_AT_ONCE", 350)
    assert macro_interval(y, said, 3, range(3), groups, resamples=100) == pytest.approx(whole)


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=12))
@settings(max_examples=40, deadline=None)
def test_paired_t_is_students(differences: list[float]) -> None:
    if np.std(differences) < 1e-9:
        return
    got, n = paired_t(differences), len(differences)
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(n)
    assert got["p"] == pytest.approx(2 * t.sf(abs(mean) / error, n - 1), rel=1e-9)
    half = t.ppf(0.975, n - 1) * error
    assert got["ci95"] == pytest.approx([mean - half, mean + half])
    excludes_zero = got["ci95"][0] > 0 or got["ci95"][1] < 0
    assert excludes_zero == (got["p"] < 0.05)


def test_paired_t_of_pairs_is_ttest_rel() -> None:
    student, control = [0.91, 0.92, 0.90, 0.93, 0.92], [0.90, 0.90, 0.91, 0.90, 0.90]
    got = paired_t([a - b for a, b in zip(student, control, strict=True)])
    assert got["p"] == pytest.approx(ttest_rel(student, control).pvalue)
    assert got["n"] == 5
    assert got["sd"] == pytest.approx(np.std(np.subtract(student, control), ddof=1))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_minimum_detectable_effect_is_found_in_four_of_five_trials(n: int) -> None:
    random = np.random.default_rng(n)
    differences = random.normal(0, 1, n)
    delta = paired_t(differences)["minimum_detectable_effect"] / np.std(differences, ddof=1)
    trials = random.normal(delta, 1, (20_000, n))
    statistic = trials.mean(1) / trials.std(1, ddof=1) * np.sqrt(n)
    assert np.mean(np.abs(statistic) > t.ppf(0.975, n - 1)) == pytest.approx(0.8, abs=0.015)


def test_no_verdict_label_below_five_seeds_however_clear() -> None:
    assert paired_t([0.1, 0.11, 0.1, 0.12])["verdict"] == "too few seeds (4 of 5)"
    assert paired_t([0.1, 0.11, 0.1, 0.12, 0.1])["verdict"] == "helped"
    assert paired_t([-0.1, -0.11, -0.1, -0.12, -0.1])["verdict"] == "hurt"
    assert paired_t([0.1, -0.11, 0.1, -0.12, 0.0])["verdict"] == "no evidence"


def test_one_seed_none_and_seeds_that_do_not_differ() -> None:
    one = paired_t([0.01])
    assert (one["n"], one["mean"], one["ci95"], one["p"], one["verdict"]) == (1, 0.01, None, None, "too few seeds (1 of 5)")
    assert paired_t([])["mean"] is None
    same = paired_t([0.01] * 5)
    assert (same["sd"], same["ci95"], same["p"], same["verdict"]) == (pytest.approx(0, abs=1e-15), None, None, "no evidence")


def test_two_seeds_show_their_values_in_place_of_an_interval() -> None:
    student, control = [0.9, 0.8], [0.2, 0.18]
    two = paired_t([a - b for a, b in zip(student, control, strict=True)])
    assert (two["ci95"], two["minimum_detectable_effect"]) == (None, None)
    assert two["p"] is not None
    sentence = verdict_over_seeds(student, control, two)
    assert "(+0.700 and +0.620; a t interval needs 3 seeds or more)" in sentence
    assert "paired t over seeds" not in sentence


def test_a_t_interval_ends_at_the_bounds_of_its_score() -> None:
    values = [0.9, 0.99, 0.7]
    assert paired_t(values)["ci95"][1] > 1
    low, high = paired_t(values, bounds=(0.0, 1.0))["ci95"]
    assert low == paired_t(values)["ci95"][0] and high == 1.0
    assert paired_t([-v for v in values], bounds=(-1.0, 1.0))["ci95"] == [-1.0, -low]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    by_p = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


def test_verdicts_follow_the_p_they_are_given() -> None:
    assert verdict_label(5, 0.01, 0.049) == "helped"
    assert verdict_label(5, 0.01, 0.051) == "no evidence"
    assert verdict_label(5, -0.01, 0.049) == "hurt"


def test_the_verdict_on_one_run() -> None:
    comparison = {"difference": 0.0071, "ci95": [-0.0042, 0.0183], "resampled": "samples", "n_groups": None}
    assert verdict_one_run(0.9121, 0.905, comparison) == (
        "one seed: distilled 0.912, scratch 0.905, difference +0.007 [-0.004, +0.018] (95 % paired bootstrap over samples): "
        "no verdict from one seed; run 5 or more"
    )
    grouped = verdict_one_run(0.9, 0.8, comparison | {"resampled": "groups", "n_groups": 22}, "scratch_122")
    assert "scratch_122 0.800" in grouped and "over 22 groups" in grouped
    assert "bootstrap" not in verdict_one_run(0.9, 0.8, comparison | {"ci95": None})
    assert verdict_one_run(0.9, 0.8, comparison, split="train").startswith("one seed, on train: distilled")


@pytest.mark.parametrize(("p", "said"), [(0.04999, "0.04999"), (0.0503, "0.0503"), (0.3, "0.300"), (1e-5, "<0.001")])
def test_a_p_value_has_the_digits_that_tell_its_side(p: float, said: str) -> None:
    assert p_text(p) == said


def test_the_verdict_over_seeds() -> None:
    student, control = [0.92, 0.93, 0.91, 0.92, 0.93], [0.90, 0.90, 0.90, 0.90, 0.90]
    result = paired_t([a - b for a, b in zip(student, control, strict=True)])
    assert verdict_over_seeds(student, control, result) == (
        "5 seeds: macro F1 distilled 0.922 +- 0.008, scratch 0.900 +- 0.000, difference +0.022 [+0.012, +0.032] "
        "(95 % paired t over seeds), p 0.004: helped"
    )
    assert verdict_over_seeds(student, control, result | {"p_holm": 0.03}).endswith(
        "p 0.004, 0.030 after Holm's correction: helped"
    )
    few = paired_t([0.02])
    assert verdict_over_seeds([0.92], [0.9], few) == (
        "1 seed: macro F1 distilled 0.920, scratch 0.900, difference +0.020: no verdict from 1 seed; run 5 or more"
    )
    unsure = [0.92, 0.88, 0.91, 0.89, 0.90]
    nothing = paired_t([a - b for a, b in zip(unsure, control, strict=True)])
    assert "no evidence; a difference under 0.0" in verdict_over_seeds(unsure, control, nothing)
    assert verdict_over_seeds([], [], paired_t([])).endswith("no verdict")
    assert "seeds are no sample" in verdict_over_seeds([0.9] * 5, [0.9] * 5, paired_t([0.0] * 5))


def test_each_classs_interval_comes_from_the_draws_of_macro_f1() -> None:
    random = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [300, 200, 0])
    said = np.where(random.random(500) < 0.8, y, 1 - y)
    whole, by_class = bootstrap_intervals(PredictedClasses(y, said, 3, [0, 1]), resamples=4000)
    assert whole == macro_interval(y, said, 3, [0, 1], resamples=4000)
    f1 = sklearn.metrics.f1_score(y, said, labels=[0, 1, 2], average=None, zero_division=0)
    drawn = [sklearn.metrics.f1_score(y[rows], said[rows], labels=[0, 1], average=None) for rows in
             (np.concatenate([random.choice(np.flatnonzero(y == c), (y == c).sum()) for c in (0, 1)]) for _ in range(400))]  # fmt: skip
    for c in (0, 1):
        low, high = by_class[c]
        assert low < f1[c] < high
        assert np.quantile([d[c] for d in drawn], [0.025, 0.975]) == pytest.approx([low, high], abs=0.012)
    assert by_class[2] is None
