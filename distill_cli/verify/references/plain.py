"""Inputs and outputs of the references, and formulas that several share.

Python floats and `math` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = list[float]


@dataclass(frozen=True)
class PlainOutput:
    """A ModelOutput as nested lists: ``logits[b][c]``, ``features[path][b]...``."""

    logits: list[Row]
    features: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PlainBatch:
    """The fields of a Batch that a loss may read, as lists.

    ``target[b][c]``, ``labeled[b]``, ``index[b]``.
    """

    target: list[Row]
    labeled: Row
    index: list[int]


# (loss, student, teachers, batch) -> one float a sample, or one float for losses that relate samples. The loss is there
# for its settings and its parameters (`.tolist()`), never to be called.
Reference = Callable[[Any, PlainOutput, Sequence[PlainOutput], PlainBatch], Row | float]


def softmax(values: Sequence[float], temperature: float = 1.0) -> Row:
    """Return ``exp(v_c / T) / sum_k exp(v_k / T)``."""
    top = max(values)
    powers = [math.exp((v - top) / temperature) for v in values]
    return [power / sum(powers) for power in powers]


def kl(q: Sequence[float], p: Sequence[float]) -> float:
    """Return ``sum_c q_c log(q_c / p_c)``."""
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)


def cross_entropy(target: Sequence[float], p: Sequence[float]) -> float:
    """Return ``-sum_c t_c log p_c``."""
    return -sum(t * math.log(b) for t, b in zip(target, p, strict=True) if t > 0)


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
