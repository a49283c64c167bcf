"""How sure a number is: bootstrap intervals of one run, paired t over seeds, Holm's correction, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_cli.metrics.bootstrap import Resampled, iter_draws

MIN_SEEDS = 5
INTERVAL_SEEDS = 3  # a t interval of two values is about nine times as wide as they are apart
POWER = 0.8
ALPHA = 0.05
MIN_STD = 1e-12


def bootstrap_intervals(
    scored: Resampled, groups: np.ndarray | None = None, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[list[float] | None, list[list[float] | None]]:
    """Return percentile bootstrap intervals of the primary metric and of each part's (Efron and Tibshirani 1993, chapter 13).

    Without groups, rows are resampled within each stratum; of classes that is the same as drawing each row of the confusion
    matrix from a multinomial distribution. With groups, whole groups are resampled. A draw that holds no row of a part says
    nothing of it. An interval is [low, high]; None when there are no draws or fewer than two groups.

    Args:
        scored: outputs and targets of one split.
        groups: ``[N]`` names, or None.
        resamples: number of draws.
        seed: of the draws.
        confidence: 0..1.
    """
    draws = list(iter_draws(scored.cells[:, None], scored.strata, groups, resamples, seed))
    if not draws:
        return None, []
    whole = np.concatenate([scored.resampled(*draw) for draw in draws])
    parts = np.concatenate([scored.resampled_parts(*draw) for draw in draws])
    return _interval(whole, confidence), [_interval(column, confidence) for column in parts.T]


def paired_bootstrap(
    a: Resampled,
    b: Resampled,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Return the primary metric of a minus that of b on the same rows, with its percentile bootstrap interval.

    What is drawn keeps pairs together: rows within their stratum, or whole groups.

    Args:
        a, b: what two models gave for the same rows.
        groups, resamples, seed, confidence: as in `bootstrap_intervals`.

    Returns:
        ``difference``, ``ci95`` ([low, high] or None), ``resampled`` (``samples`` or ``groups``), ``n_groups`` (or None).
    """
    draws = iter_draws(np.stack([a.cells, b.cells], axis=1), a.strata, groups, resamples, seed)
    values = [a.resampled(*draw) - b.resampled(*draw) for draw in draws]
    return {
        "difference": a.primary_score() - b.primary_score(),
        "ci95": _interval(np.concatenate(values), confidence) if values else None,
        "resampled": "samples" if groups is None else "groups",
        "n_groups": None if groups is None else len(np.unique(groups)),
    }


def _interval(values: np.ndarray, confidence: float) -> list[float] | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [float(low), float(high)]


def paired_t(differences: Sequence[float], confidence: float = 0.95, bounds: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return what paired differences, one a seed, say about their mean (Student's paired t).

    Args:
        differences: student minus control for each seed, higher is better.
        confidence: of the interval, 0..1; the test is two-sided at 1 - confidence.
        bounds: least and largest value that a mean can have, at which the interval is cut; None where there are none.

    Returns:
        ``n``, ``mean``, ``sd`` (sample), ``ci95``, ``p``, ``minimum_detectable_effect`` (a true difference that a test of this
        n and sd finds with 80 % power) and ``verdict``; what n does not allow is None, which for ``ci95`` and the effect is an n
        below `INTERVAL_SEEDS`. Seeds without any spread did not differ, so they are no sample: no interval, no p, no evidence.
    """
    from scipy.stats import ttest_1samp

    n = len(differences)
    mean = float(np.mean(differences)) if n else None
    sd = float(np.std(differences, ddof=1)) if n >= 2 else None
    result: dict[str, Any] = {"n": n, "mean": mean, "sd": sd, "ci95": None, "p": None, "minimum_detectable_effect": None}
    if sd is not None and mean is not None and sd > MIN_STD:
        test = ttest_1samp(differences, 0.0)
        low, high = bounds or (-math.inf, math.inf)
        result["p"] = float(test.pvalue)
        if n >= INTERVAL_SEEDS:
            ends = test.confidence_interval(confidence)
            result["minimum_detectable_effect"] = minimum_detectable_effect(n, sd, alpha=1 - confidence)
            result["ci95"] = [max(low, float(ends.low)), min(high, float(ends.high))]
    return result | {"verdict": verdict_word(n, mean, result["p"], 1 - confidence)}


def minimum_detectable_effect(n: int, sd: float, comparisons: int = 1, alpha: float = ALPHA) -> float:
    """Return the true difference that a two-sided paired t test finds with 80 % power.

    Args:
        n: pairs.
        sd: sample standard deviation of their differences.
        comparisons: made at once; each must then pass at ``alpha / comparisons``, which Holm's correction asks of the first.
        alpha: of all together.
    """
    return sd / math.sqrt(n) * _detectable(n, alpha / comparisons)


def _detectable(n: int, alpha: float) -> float:
    """Return the noncentrality (true difference in standard errors) at which a two-sided t test of n pairs has 80 % power
    (Cohen 1988, chapter 2)."""
    from scipy.optimize import brentq
    from scipy.stats import chi2, norm, t

    # scipy's noncentral t is NaN at the large noncentralities that two or three pairs need, so the power is
    # averaged over quantiles of the sample variance instead.
    quantiles = (np.arange(2000) + 0.5) / 2000
    limit = t.ppf(1 - alpha / 2, n - 1) * np.sqrt(chi2.ppf(quantiles, n - 1) / (n - 1))

    def power(noncentrality: float) -> float:
        return float((norm.sf(limit - noncentrality) + norm.cdf(-limit - noncentrality)).mean())

    return float(brentq(lambda x: power(x) - POWER, 0.0, 2 * limit.max() + 2))


def verdict_word(n: int, mean: float | None, p: float | None, alpha: float = ALPHA) -> str:
    """Return ``helped``, ``no evidence`` or ``hurt``; below five seeds how many there are."""
    if n < MIN_SEEDS or mean is None:
        return f"too few seeds ({n} of {MIN_SEEDS})"
    if p is None or p >= alpha:
        return "no evidence"
    return "helped" if mean > 0 else "hurt"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted for being several (Holm 1979), in the given order; None stays None and is not counted.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def verdict_one_run(
    student: float,
    control: float,
    comparison: Mapping[str, Any],
    control_name: str = "scratch",
    split: str = "test",
    metric: str = "",
) -> str:
    """Return one sentence on one run: the difference and its interval, and that one seed allows no verdict.

    Args:
        student, control: their scores.
        comparison: what `paired_bootstrap` returned.
        control_name: what the control is called.
        split: that was scored.
        metric: what the scores are, where that is not macro F1.
    """
    where = "" if split == "test" else f", on {split}"
    scored = f"{metric} distilled" if metric else "distilled"
    return (
        f"one seed{where}: {scored} {student:.3f}, {control_name} {control:.3f}, difference {comparison['difference']:+.3f}"
        f"{bootstrapped(comparison)}: no verdict from one seed; run {MIN_SEEDS} or more"
    )


def bootstrapped(comparison: Mapping[str, Any]) -> str:
    """Return `` [-0.004, +0.018] (95 % paired bootstrap over samples)``, or nothing where there is no interval."""
    if comparison["ci95"] is None:
        return ""
    how = "samples" if comparison["resampled"] == "samples" else f"{comparison['n_groups']} groups"
    return f" {bracket(comparison['ci95'])} (95 % paired bootstrap over {how})"


def verdict_over_seeds(
    student: Sequence[float],
    control: Sequence[float],
    result: Mapping[str, Any],
    control_name: str = "scratch",
    metric: str = "macro F1",
) -> str:
    """Return one sentence on several seeds: means, their difference, its t interval, and what it shows.

    Args:
        student, control: their scores, seed by seed.
        result: what `paired_t` returned for their differences; `p_holm`, where it has one, is said as well.
        control_name: what the control is called.
        metric: what the scores are.
    """
    n = result["n"]
    if not n:
        return f"no seed has both a student and {control_name}: no verdict"
    text = (
        f"{n} seed{'s' if n > 1 else ''}: {metric} distilled {mean_std(student)}, {control_name} {mean_std(control)}, "
        f"difference {result['mean']:+.3f}"
    )
    if result["ci95"] is not None:
        text += f" {bracket(result['ci95'])} (95 % paired t over seeds)"
    elif 1 < n < INTERVAL_SEEDS:
        each = " and ".join(f"{a - b:+.3f}" for a, b in zip(student, control, strict=True))
        text += f" ({each}; a t interval needs {INTERVAL_SEEDS} seeds or more)"
    if n < MIN_SEEDS:
        return f"{text}: no verdict from {n} seed{'s' if n > 1 else ''}; run {MIN_SEEDS} or more"
    if result["p"] is None:
        return f"{text}: {result['verdict']}; the difference is the same in every seed, so the seeds are no sample"
    holm_p = result.get("p_holm")
    text += f", p {p_text(result['p'])}" + ("" if holm_p is None else f", {p_text(holm_p)} after Holm's correction")
    text += f": {result['verdict']}"
    if result["verdict"] == "no evidence":
        least = result["minimum_detectable_effect"]
        text += f"; a difference under {least:.3f} would likely be missed with these seeds (80 % power)"
    return text


def p_text(value: float) -> str:
    """Return ``0.012`` or ``<0.001``; near 0.05, which decides, as many digits as tell the side."""
    if value < 0.001:
        return "<0.001"
    return next((text for digits in (3, 4, 5) if float(text := f"{value:.{digits}f}") != ALPHA), f"{value:.6f}")


def bracket(interval: Sequence[float]) -> str:
    """Return ``[-0.004, +0.018]``."""
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


def mean_std(values: Sequence[float]) -> str:
    """Return the mean and, of two or more values, the sample standard deviation: ``0.912 +- 0.004``."""
    return f"{np.mean(values):.3f}" + (f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
