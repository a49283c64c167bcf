"""Losses on logits. Several teachers count as the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_cli.references.plain import PlainBatch, PlainOutput, Reference, Row, cross_entropy, kl, mean, softmax


def teacher_logits(teachers: Sequence[PlainOutput]) -> list[Row]:
    """Return the mean over the teachers of every logit."""
    rows, classes = len(teachers[0].logits), len(teachers[0].logits[0])
    return [[mean([t.logits[b][c] for t in teachers]) for c in range(classes)] for b in range(rows)]


def hard_rows(student: PlainOutput, batch: PlainBatch) -> Row:
    """Return the cross-entropy of each sample, 0 without a label."""
    return [y * cross_entropy(t, softmax(z)) for z, t, y in zip(student.logits, batch.target, batch.labelled, strict=True)]


def hard(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Cross-entropy with the labels."""
    return hard_rows(student, batch)


def soft_target(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Hinton et al. 2015, section 2: both cross-entropies, the soft one times T^2; less the teacher's entropy."""
    rows = []
    for z, v, ce in zip(student.logits, teacher_logits(teachers), hard_rows(student, batch), strict=True):
        soft = loss.temperature**2 * kl(softmax(v, loss.temperature), softmax(z, loss.temperature))
        rows.append(loss.alpha * soft + (1 - loss.alpha) * ce)
    return rows


def kl_mae(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """The heartbeat tutorial's `custom_loss`."""
    rows = []
    for z, v in zip(student.logits, teacher_logits(teachers), strict=True):
        p, q = softmax(z), softmax(v)
        rows.append(kl(q, p) + loss.mae * mean([abs(a - b) for a, b in zip(q, p, strict=True)]))
    return rows


def logits_mse(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Mean over the classes of squared differences."""
    pairs = zip(student.logits, teacher_logits(teachers), strict=True)
    return [mean([(a - b) ** 2 for a, b in zip(z, v, strict=True)]) for z, v in pairs]


REFERENCES: dict[str, Reference] = {"Hard": hard, "SoftTarget": soft_target, "KLMAE": kl_mae, "LogitsMSE": logits_mse}
