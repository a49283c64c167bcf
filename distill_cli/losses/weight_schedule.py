"""A term's weight as a function of its stage's progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

SHAPES = ("linear", "cosine", "step")


@dataclass(frozen=True)
class WeightSchedule:
    """A weight that changes from one value to another during a stage.

    FitNets' second stage lets the teacher's weight fall linearly (Romero et al. 2015, arXiv:1412.6550, section 2.2).

    Args:
        start_value: weight up to `start`, >= 0.
        end_value: weight from `end` on, >= 0.
        shape: ``linear``; ``cosine``, half a period; ``step``, at once, half way between `start` and `end`.
        start, end: shares of the stage's steps, 0 <= start <= end <= 1; the first step is at 0, the last at 1.

    >>> [WeightSchedule(1.0, 0.0).value_at(done) for done in (0.0, 0.25, 1.0)]
    [1.0, 0.75, 0.0]
    """

    start_value: float
    end_value: float
    shape: str = "linear"
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.start_value < math.inf and 0 <= self.end_value < math.inf):
            raise ValueError(f"a weight must be >= 0 and finite, got from {self.start_value} to {self.end_value}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape}")
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"start and end must be shares with 0 <= start <= end <= 1, got {self.start} and {self.end}")

    def scaled(self, factor: float) -> WeightSchedule:
        """Return this weight multiplied by `factor` everywhere."""
        return replace(self, start_value=factor * self.start_value, end_value=factor * self.end_value)

    def value_at(self, done: float) -> float:
        """Return the weight where the share `done` (0..1) of the steps is done.

        The weight is always between `start_value` and `end_value`.
        """
        if self.shape == "step" or self.start == self.end:
            return self.start_value if done < (self.start + self.end) / 2 else self.end_value
        share = min(1.0, max(0.0, (done - self.start) / (self.end - self.start)))
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        low, high = sorted((self.start_value, self.end_value))
        return min(high, max(low, (1 - share) * self.start_value + share * self.end_value))


def parse_weight(value: float | Mapping[str, Any]) -> float | WeightSchedule:
    """Return a weight from its value in a config.

    A number, or ``{from: ..., to: ..., shape: ..., start: ..., end: ...}``.
    """
    if not isinstance(value, Mapping):
        return float(value)
    names = {"from": "start_value", "to": "end_value"}
    return WeightSchedule(**{names.get(key, key): part for key, part in value.items()})
