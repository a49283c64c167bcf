"""Parity checks of an export against the model, on all validation rows."""

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
# Another batch size sums in another order; a larger difference is another computation.
SAME_ALONE = 1e-3
Listener = Callable[[int], object]
"""Function that receives the number of rows done."""


@dataclass(frozen=True)
class Reference:
    """The model's own outputs, and the limits of the comparison.

    Attributes:
        pool: validation rows, N of them.
        logits: ``[N, C]`` of the model.
        evaluate: scores logits of rows, by the task.
        show: turns logits into probabilities, by the task.
        temperature: T > 0 of the probabilities.
        chunk: rows in a batch.
        max_f1_drop: largest allowed drop of macro F1 where weights are rounded.
    """

    pool: Pool
    logits: np.ndarray
    evaluate: Callable[[np.ndarray, Pool], Evaluator]
    show: Callable[[np.ndarray], np.ndarray]
    temperature: float
    chunk: int
    max_f1_drop: float


def compare(written: Artifact, reference: Reference, listen: Listener = lambda rows: None) -> dict[str, Any]:
    """Compare an export with the model on all rows, and on the first row alone.

    Args:
        written: the export.
        reference: the model's outputs and the limits.
        listen: function that receives the number of rows done.

    Returns:
        ``rows``, ``max_logit_difference``, ``max_probability_difference``, ``changed_predictions``, ``macro_f1``,
        ``macro_f1_drop``, ``ece``.

    Raises:
        UserError: the outputs differ by more than the format allows, are not finite, have another shape, or depend on the batch.
    """
    logits, probabilities = _run(written, reference, listen)
    expected = reference.show(reference.logits / reference.temperature)
    own, written_scores = (reference.evaluate(values, reference.pool) for values in (reference.logits, logits))
    f1 = written_scores.primary_score()
    figures = {
        "rows": len(logits),
        "max_logit_difference": float(np.abs(logits - reference.logits).max()),
        "max_probability_difference": float(np.abs(probabilities - expected).max()),
        "changed_predictions": round((1 - (own.agreement(written_scores) or 0.0)) * len(logits)),
        "macro_f1": f1,
        "macro_f1_drop": own.primary_score() - f1,
        "ece": ece(probabilities, reference.pool.y) if reference.pool.y.ndim == 1 else None,
    }
    if wrong := _wrong(figures, written.difference, reference.max_f1_drop):
        raise UserError(f"format={written.name}: {wrong} on the {len(logits)} rows of validation; nothing was written")
    return figures


def scores_of_rounded(
    written: Artifact, pools: Mapping[str, Pool], reference: Reference, checked: float, listen: Listener = lambda rows: None
) -> dict[str, float]:
    """Return macro F1 (0..1) of an export with rounded weights on each split.

    Why: no check depends on these scores, but users of the file get them.

    Args:
        written: export with rounded weights.
        pools: rows of each split.
        reference: its `pool` is one of the splits.
        checked: macro F1 on that split, from `compare`.
        listen: function that receives the number of rows done.
    """
    scores = {}
    for split, pool in pools.items():
        if pool is reference.pool:
            scores[split] = checked
            continue
        scores[split] = reference.evaluate(_outputs(written, pool, reference.chunk, listen)[0], pool).primary_score()
    return scores


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


def _wrong(figures: dict[str, Any], difference: float | None, max_f1_drop: float) -> str:
    if difference is None:
        drop = figures["macro_f1_drop"]
        message = f"macro F1 falls by {drop:.4f} to {figures['macro_f1']:.4f}, more than max_f1_drop={max_f1_drop:g} allows,"
        return message if drop > max_f1_drop else ""
    if figures["max_logit_difference"] > difference:
        return f"logits differ by up to {figures['max_logit_difference']:.2g} from the model's, more than {difference:g},"
    if figures["max_probability_difference"] > SAME_PROBABILITY:
        return f"probabilities differ by up to {figures['max_probability_difference']:.2g} from the model's"
    return f"macro F1 is {figures['macro_f1']} and not the model's" if figures["macro_f1_drop"] != 0 else ""
