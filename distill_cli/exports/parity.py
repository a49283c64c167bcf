"""Whether an export says what the model says, on every row of validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.exports.subject import Artifact
from distill_cli.metrics.classification import ece
from distill_cli.tasks.task import Evaluator
from distill_cli.types import Pool

SAME_PROBABILITY = 1e-4
# Another batch size sums in another order; more than this is another computation.
SAME_ALONE = 1e-3
Listener = Callable[[int], object]
"""Told how many rows are done."""


@dataclass(frozen=True)
class Reference:
    """What the model itself says.

    Attributes:
        pool: the rows, all of validation.
        logits: ``[N, C]`` of the model.
        evaluate: scores logits of rows, by the task.
        show: turns logits into probabilities, by the task.
        temperature: of the probabilities.
        chunk: rows at once.
        max_f1_drop: how much macro F1 may fall where weights are rounded.
    """

    pool: Pool
    logits: np.ndarray
    evaluate: Callable[[np.ndarray, Pool], Evaluator]
    show: Callable[[np.ndarray], np.ndarray]
    temperature: float
    chunk: int
    max_f1_drop: float



def compare(written: Artifact, reference: Reference, listen: Listener = lambda rows: None) -> dict[str, Any]:
    """Run what was written over all rows, in chunks and the first row once more alone.

    Returns:
        ``rows``, ``max_logit_difference``, ``max_probability_difference``, ``changed_predictions``, ``macro_f1``,
        ``macro_f1_drop``, ``ece``.

    Raises:
        UserError: it differs by more than its format may, or gives what no classifier gives.
    """
    logits, probabilities = _run(written, reference, listen)
    wanted = reference.show(reference.logits / reference.temperature)
    own, written_scores = (reference.evaluate(values, reference.pool) for values in (reference.logits, logits))
    f1 = written_scores.primary_score()
    found = {
        "rows": len(logits),
        "max_logit_difference": float(np.abs(logits - reference.logits).max()),
        "max_probability_difference": float(np.abs(probabilities - wanted).max()),
        "changed_predictions": round((1 - (own.agreement(written_scores) or 0.0)) * len(logits)),
        "macro_f1": f1,
        "macro_f1_drop": own.primary_score() - f1,
        "ece": ece(probabilities, reference.pool.y) if reference.pool.y.ndim == 1 else None,
    }
    if wrong := _wrong(found, written.difference, reference.max_f1_drop):
        raise UserError(f"format={written.name}: {wrong} on the {len(logits)} rows of validation; nothing was written")
    return found


def scores_of_rounded(
    written: Artifact, pools: Mapping[str, Pool], reference: Reference, checked: float, listen: Listener = lambda rows: None
) -> dict[str, float]:
    """Return macro F1 of what was written on each split: nothing is decided by it, but it is what a user of the file gets.

    Args:
        written: with rounded weights.
        pools: the splits.
        reference: whose pool is one of them.
        checked: macro F1 of that one, as `compare` found it.
    """
    found = {}
    for split, pool in pools.items():
        if pool is reference.pool:
            found[split] = checked
            continue
        found[split] = reference.evaluate(_outputs(written, pool, reference.chunk, listen)[0], pool).primary_score()
    return found


def _outputs(written: Artifact, pool: Pool, chunk: int, listen: Listener) -> tuple[np.ndarray, np.ndarray]:
    parts, done = [], 0
    for x in pool.iter_batches(chunk):
        parts.append(written.run(x))
        listen(done := done + len(x))
    logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return logits, probabilities


def _run(written: Artifact, reference: Reference, listen: Listener) -> tuple[np.ndarray, np.ndarray]:
    logits, probabilities = _outputs(written, reference.pool, reference.chunk, listen)
    if logits.shape != reference.logits.shape or probabilities.shape != logits.shape:
        raise UserError(f"format={written.name}: gives outputs of shape {logits.shape}, the model {reference.logits.shape}")
    if not np.isfinite(logits).all() or not np.isfinite(probabilities).all():
        raise UserError(f"format={written.name}: gives outputs that are NaN or infinite; nothing was written")
    alone, _ = written.run(next(reference.pool.iter_batches(1)))
    if np.abs(alone - logits[:1]).max() > SAME_ALONE:
        raise UserError(f"format={written.name}: the first row alone and in a batch give different logits; nothing was written")
    return logits, probabilities


def _wrong(found: dict[str, Any], difference: float | None, max_f1_drop: float) -> str:
    if difference is None:
        drop = found["macro_f1_drop"]
        said = f"macro F1 falls by {drop:.4f} to {found['macro_f1']:.4f}, more than max_f1_drop={max_f1_drop:g} allows,"
        return said if drop > max_f1_drop else ""
    if found["max_logit_difference"] > difference:
        return f"logits differ by up to {found['max_logit_difference']:.2g} from the model's, more than {difference:g},"
    if found["max_probability_difference"] > SAME_PROBABILITY:
        return f"probabilities differ by up to {found['max_probability_difference']:.2g} from the model's"
    return f"macro F1 is {found['macro_f1']} and not the model's" if found["macro_f1_drop"] != 0 else ""
