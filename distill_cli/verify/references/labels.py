"""Losses on labels that do not exclude each other. Several teachers count as the mean of their logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from distill_cli.verify.references.logits import teacher_logits
from distill_cli.verify.references.plain import PlainBatch, PlainOutput, Reference, Row, mean


def sigmoid(z: float) -> float:
    """Return 1 / (1 + exp(-z))."""
    return 1 / (1 + math.exp(-z))


def bernoulli_kl(q: float, p: float) -> float:
    """Return the KL divergence of one choice of two from another."""
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))


def binary_rows(student: PlainOutput, batch: PlainBatch) -> Row:
    """Return the mean cross-entropy over the labels of each sample, 0 without labels."""
    rows = []
    for z, t, y in zip(student.logits, batch.target, batch.labeled, strict=True):
        each = [-(b * math.log(sigmoid(a)) + (1 - b) * math.log(1 - sigmoid(a))) for a, b in zip(z, t, strict=True)]
        rows.append(y * mean(each))
    return rows


def binary_cross_entropy(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Cross-entropy of each label with its target."""
    return binary_rows(student, batch)


def binary_soft_target(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Hinton et al. 2015, section 2, of each label's two outcomes; the mean over the labels."""
    rows, t = [], loss.temperature
    for z, v, hard in zip(student.logits, teacher_logits(teachers), binary_rows(student, batch), strict=True):
        soft = t**2 * mean([bernoulli_kl(sigmoid(b / t), sigmoid(a / t)) for a, b in zip(z, v, strict=True)])
        rows.append(loss.alpha * soft + (1 - loss.alpha) * hard)
    return rows


REFERENCES: dict[str, Reference] = {"BinaryCrossEntropy": binary_cross_entropy, "BinarySoftTarget": binary_soft_target}
