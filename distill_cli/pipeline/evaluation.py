"""Models -> scores, comparisons and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill_cli.factory.context import RunContext
from distill_cli.metrics.classification import scores
from distill_cli.metrics.statistics import paired_bootstrap, verdict_one_run
from distill_cli.models.classifier import Classifier
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
    return {name: predict(model, context.rows(pool, dataset), context.eval_batch_size).numpy() for name, pool in pools.items()}


def score_all(logits: Mapping[str, Logits], pools: Mapping[str, Pool], dataset: Dataset, context: RunContext) -> Scores:
    """Return the scores of each model on each split: ``{model: {split: scores}}``."""
    teacher = logits.get(TEACHER, {})
    return {
        model: {
            split: scores(
                by_split[split],
                pool.y,
                dataset.class_names,
                dataset.macro_classes,
                pool.group,
                context.bootstrap["resamples"],
                context.bootstrap["seed"],
                teacher_logits=None if model == TEACHER else teacher.get(split),
            )
            for split, pool in pools.items()
            if split in by_split
        }
        for model, by_split in logits.items()
    }


def compare(logits: Mapping[str, Logits], pool: Pool, split: str, dataset: Dataset, context: RunContext) -> Scores:
    """Return the student's macro F1 minus that of each control.

    Intervals are paired bootstrap intervals.
    """
    student = logits[STUDENT][split].argmax(axis=1)
    compared = {}
    for control in logits:
        if control in (TEACHER, STUDENT):
            continue
        result = paired_bootstrap(
            pool.y, student, logits[control][split].argmax(axis=1), len(dataset.class_names), dataset.macro_classes, pool.group,
            context.bootstrap["resamples"], context.bootstrap["seed"],
        )  # fmt: skip
        compared[control] = {"metric": "macro_f1", "split": split, **result}
    return compared


def verdict(models: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Mapping[str, Any]], split: str) -> str:
    """Return the run's one sentence on the student against a control.

    The control is the tuned one, else the scratch one, else the first there is.
    """
    if STUDENT not in models or not comparison:
        name = STUDENT if STUDENT in models else TEACHER
        score = models.get(name, {}).get(split, {}).get("macro_f1")
        score_text = "no scores" if score is None else f"macro F1 {score:.3f} on {split}"
        return f"one seed: {name} {score_text}; no control was trained, so nothing is said about distillation"
    control = next((name for name in (TUNED, SCRATCH) if name in comparison), next(iter(comparison)))
    return verdict_one_run(
        models[STUDENT][split]["macro_f1"], models[control][split]["macro_f1"], comparison[control], control, split
    )
