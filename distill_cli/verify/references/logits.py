"""References of losses on logits.

Several teachers count as the mean of their logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from distill_cli.verify.references.plain import PlainBatch, PlainOutput, Reference, Row, cross_entropy, kl, mean, softmax


def teacher_logits(teachers: Sequence[PlainOutput]) -> list[Row]:
    """Return the mean of the teachers' logits."""
    rows, classes = len(teachers[0].logits), len(teachers[0].logits[0])
    return [[mean([t.logits[b][c] for t in teachers]) for c in range(classes)] for b in range(rows)]


def hard_rows(student: PlainOutput, batch: PlainBatch) -> Row:
    """Return the cross-entropy of each sample, 0 without a label."""
    return [y * cross_entropy(t, softmax(z)) for z, t, y in zip(student.logits, batch.target, batch.labeled, strict=True)]


def hard(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the cross-entropy with the labels."""
    return hard_rows(student, batch)


def soft_target(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the soft-target loss of each sample.

    Hinton et al. 2015, section 2: both cross-entropies, the soft one times T^2, minus the teacher's entropy.
    """
    rows = []
    for z, v, ce in zip(student.logits, teacher_logits(teachers), hard_rows(student, batch), strict=True):
        soft = loss.temperature**2 * kl(softmax(v, loss.temperature), softmax(z, loss.temperature))
        rows.append(loss.alpha * soft + (1 - loss.alpha) * ce)
    return rows


def kl_mae(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the loss of the heartbeat tutorial's `custom_loss`, of each sample."""
    rows = []
    for z, v in zip(student.logits, teacher_logits(teachers), strict=True):
        p, q = softmax(z), softmax(v)
        rows.append(kl(q, p) + loss.mae * mean([abs(a - b) for a, b in zip(q, p, strict=True)]))
    return rows


def logits_mse(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the mean over the classes of squared differences."""
    pairs = zip(student.logits, teacher_logits(teachers), strict=True)
    return [mean([(a - b) ** 2 for a, b in zip(z, v, strict=True)]) for z, v in pairs]


def soft_cross_entropy(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the soft cross-entropy of each sample.

    Hinton et al. 2015 multiply by T^2, TextBrewer does not.
    """
    scale = {"paper": loss.temperature**2, "code": 1.0}[loss.variant]
    pairs = zip(student.logits, teacher_logits(teachers), strict=True)
    return [scale * cross_entropy(softmax(v, loss.temperature), softmax(z, loss.temperature)) for z, v in pairs]


def jensen_shannon(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the Jensen-Shannon divergence of each sample.

    Lin 1991, with equal weights.
    """
    rows = []
    for z, v in zip(student.logits, teacher_logits(teachers), strict=True):
        p, q = softmax(z, loss.temperature), softmax(v, loss.temperature)
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        rows.append(loss.temperature**2 * (kl(p, m) / 2 + kl(q, m) / 2))
    return rows


def dkd(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the decoupled distillation loss of each sample.

    Zhao et al. 2022, equations 1 to 7.
    """
    rows = []
    for b, (z, v) in enumerate(zip(student.logits, teacher_logits(teachers), strict=True)):
        scores = batch.target[b] if batch.labeled[b] else v
        t = scores.index(max(scores))
        p, q = softmax(z, loss.temperature), softmax(v, loss.temperature)
        tckd = kl([q[t], 1 - q[t]], [p[t], 1 - p[t]])
        non_targets = [c for c in range(len(p)) if c != t]
        nckd = kl([q[c] / (1 - q[t]) for c in non_targets], [p[c] / (1 - p[t]) for c in non_targets])
        rows.append(loss.temperature**2 * (loss.alpha * tckd + loss.beta * nckd))
    return with_hard(rows, loss.hard, student, batch)


def with_hard(soft: Row, weight: float, student: PlainOutput, batch: PlainBatch) -> Row:
    """Return soft losses plus the weighted cross-entropy of each sample."""
    return [a + weight * ce for a, ce in zip(soft, hard_rows(student, batch), strict=True)]


def pearson(a: Row, b: Row) -> float:
    """Return Pearson's correlation."""
    mean_a, mean_b = mean(a), mean(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def dist(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> float:
    """Return the DIST loss of a batch.

    Huang et al. 2022, equations 6 to 8. The authors' code multiplies by T^2.
    """
    p = [softmax(z, loss.temperature) for z in student.logits]
    q = [softmax(v, loss.temperature) for v in teacher_logits(teachers)]
    between = mean([1 - pearson(p[b], q[b]) for b in range(len(p))])
    within = mean([1 - pearson([row[c] for row in p], [row[c] for row in q]) for c in range(len(p[0]))])
    scale = {"paper": 1.0, "code": loss.temperature**2}[loss.variant]
    return scale * (loss.beta * between + loss.gamma * within) + loss.hard * mean(hard_rows(student, batch))


def logit_standardisation(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the loss on standardised logits of each sample.

    Sun et al. 2024, algorithms 1 and 2. The authors' code divides by K - 1.
    """
    rows = []
    for z, v in zip(student.logits, teacher_logits(teachers), strict=True):
        of = [standardized(x, {"paper": len(x), "code": len(x) - 1}[loss.variant]) for x in (z, v)]
        p, q = softmax(of[0], loss.temperature), softmax(of[1], loss.temperature)
        rows.append(loss.soft * loss.temperature**2 * kl(q, p))
    return with_hard(rows, loss.hard, student, batch)


def standardized(x: Row, divisor: int) -> Row:
    """Return ``(x - mean) / sigma`` with sigma^2 the sum of squares over `divisor`."""
    centre = mean(x)
    sigma = math.sqrt(sum((value - centre) ** 2 for value in x) / divisor)
    return [(value - centre) / sigma for value in x]


def label_smoothing(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the label smoothing loss of each sample.

    Szegedy et al. 2016, section 7.
    """
    rows = []
    for z, t, y in zip(student.logits, batch.target, batch.labeled, strict=True):
        smoothed = [(1 - loss.epsilon) * a + loss.epsilon / len(t) for a in t]
        rows.append(y * cross_entropy(smoothed, softmax(z)))
    return rows


def virtual_teacher(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the virtual teacher's loss of each sample.

    Yuan et al. 2020, section 4.2; of a mixed target the mix of its classes' virtual teachers.
    """
    rows = []
    for z, t, y in zip(student.logits, batch.target, batch.labeled, strict=True):
        rest = (1 - loss.correct) / (len(t) - 1)
        virtual = [sum(share * (loss.correct if k == c else rest) for k, share in enumerate(t)) for c in range(len(t))]
        powers = [u ** (1 / loss.temperature) for u in virtual]
        soft = kl([power / sum(powers) for power in powers], softmax(z, loss.temperature))
        rows.append(y * ((1 - loss.alpha) * cross_entropy(t, softmax(z)) + loss.alpha * soft))
    return rows


REFERENCES: dict[str, Reference] = {
    "CrossEntropy": hard,
    "SoftTarget": soft_target,
    "KLMAE": kl_mae,
    "LogitsMSE": logits_mse,
    "SoftCrossEntropy": soft_cross_entropy,
    "JensenShannon": jensen_shannon,
    "DKD": dkd,
    "DIST": dist,
    "LogitStandardisation": logit_standardisation,
    "LabelSmoothing": label_smoothing,
    "VirtualTeacher": virtual_teacher,
}
