"""Models -> scores, comparisons and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill_cli.factory.context import RunContext
from distill_cli.metrics.statistics import bootstrap_intervals, paired_bootstrap, verdict_one_run
from distill_cli.models.classifier import Classifier
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Evaluator, Metric
from distill_cli.training.trainer import predict
from distill_cli.types import SCRATCH, STUDENT, TEACHER, TUNED, Dataset, Pool

# Logits of one model by split.
Logits = dict[str, np.ndarray]
Scores = dict[str, dict[str, Any]]


def eval_splits(dataset: Dataset, split: str = "all") -> dict[str, Pool]:
    """Return the pools that are scored: ``all`` is every one but train."""
    return {k: p for k, p in dataset.pools.items() if (k == split or (split == "all" and k != "train"))}


def predict_splits(model: Classifier, dataset: Dataset, context: RunContext, split: str = "all") -> Logits:
    """Return a model's logits on every scored split."""
    pools = eval_splits(dataset, split)
    task, chunk = find_task(dataset.task), context.eval_batch_size
    return {name: predict(model, context.rows(pool, dataset), chunk, task).numpy() for name, pool in pools.items()}


def score_all(logits: Mapping[str, Logits], pools: Mapping[str, Pool], dataset: Dataset, context: RunContext) -> Scores:
    """Return the scores of each model on each split: ``{model: {split: scores}}``."""
    by_model: Scores = {model: {} for model in logits}
    for split, pool in pools.items():
        evaluators = {model: evaluator(by_split[split], pool, dataset) for model, by_split in logits.items() if split in by_split}
        for model, own in evaluators.items():
            scores = with_intervals(own, pool.group, context.bootstrap["resamples"], context.bootstrap["seed"])
            agreement = own.agreement(evaluators[TEACHER]) if model != TEACHER and TEACHER in evaluators else None
            by_model[model][split] = scores if agreement is None else scores | {"agreement": agreement}
    return by_model


def evaluator(outputs: np.ndarray, pool: Pool, dataset: Dataset) -> Evaluator:
    """Return the evaluator of a model's outputs ``[N, C]`` on a pool."""
    return find_task(dataset.task).evaluator(outputs, pool, dataset)


def with_intervals(scored: Evaluator, groups: np.ndarray | None, resamples: int, seed: int) -> dict[str, Any]:
    """Return all scores, with bootstrap intervals.

    The primary metric has one, and that of each part.

    Args:
        scored: outputs and targets of one split.
        groups: ``[N]`` names, resampled whole, or None.
        resamples: draws; 0 for none.
        seed: of the draws.
    """
    scores, (parts, metric) = scored.compute(), scored.parts
    interval, of_parts = bootstrap_intervals(scored, groups, resamples, seed)
    for n, name in enumerate(scores.get(parts) or ()):
        scores[parts][name] = insert_after(scores[parts][name], metric, of_parts[n] if of_parts else None)
    return insert_after(scores, scored.primary_metric, interval)


def insert_after(scores: Mapping[str, Any], metric: str, interval: list[float] | None) -> dict[str, Any]:
    """Return scores with the interval of one of them behind it, as ``<metric>_ci95``."""
    section: dict[str, Any] = {}
    for key, value in scores.items():
        section[key] = value
        if key == metric:
            section[f"{metric}_ci95"] = interval
    return section


def compare(logits: Mapping[str, Logits], pool: Pool, split: str, dataset: Dataset, context: RunContext) -> Scores:
    """Return the student's primary metric minus that of each control.

    Intervals are paired bootstrap intervals.
    """
    student = evaluator(logits[STUDENT][split], pool, dataset)
    metric = student.primary_metric
    compared = {}
    for control in logits:
        if control in (TEACHER, STUDENT):
            continue
        baseline = evaluator(logits[control][split], pool, dataset)
        result = paired_bootstrap(student, baseline, pool.group, context.bootstrap["resamples"], context.bootstrap["seed"])
        compared[control] = {"metric": metric, "split": split, **result}
    return compared


def verdict(
    models: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Mapping[str, Any]], split: str, metric: Metric
) -> str:
    """Return the run's one sentence on the student against a control.

    The control is the tuned one, else the scratch one, else the first there is.
    """
    if STUDENT not in models or not comparison:
        name = STUDENT if STUDENT in models else TEACHER
        score = models.get(name, {}).get(split, {}).get(metric.name)
        score_text = "no scores" if score is None else f"{metric.title} {score:.3f} on {split}"
        return f"one seed: {name} {score_text}; no control was trained, so nothing is said about distillation"
    control = next((name for name in (TUNED, SCRATCH) if name in comparison), next(iter(comparison)))
    student, baseline = models[STUDENT][split][metric.name], models[control][split][metric.name]
    return verdict_one_run(
        student, baseline, comparison[control], control, split, "" if metric.title == "macro F1" else metric.title
    )
