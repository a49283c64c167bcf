"""Interpolations for the values of trials, random and listed.

A value is a function of the config's `trial` and of the value's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from distill_cli.errors import UserError
from distill_cli.rng import derive_seed

DIGITS = 3
WHOLE = 1 << 63


def trial_uniform(name: str, root: Any) -> float:
    """Return a number in [0, 1) from the trial and the value's name."""
    return derive_seed(_trial(name, root), f"hparams/{name}") / WHOLE


def uniform(name: str, low: float, high: float, *, _root_: Any) -> float:
    """Return ``${uniform:NAME,LOW,HIGH}``: uniform on [low, high).

    The value has three significant digits.
    """
    low, high = _range("uniform", name, low, high)
    return _rounded(low + (high - low) * trial_uniform(name, _root_))


def log_uniform(name: str, low: float, high: float, *, _root_: Any) -> float:
    """Return ``${log_uniform:NAME,LOW,HIGH}``: log-uniform on [low, high), low > 0.

    The value has three significant digits.
    """
    low, high = _range("log_uniform", name, low, high)
    if low <= 0:
        raise UserError(f"log_uniform:{name}: the lower end must be > 0, got {low}")
    return _rounded(low * (high / low) ** trial_uniform(name, _root_))


def choice(name: str, values: Sequence[Any], *, _root_: Any) -> Any:
    """Return ``${choice:NAME,[A,B,...]}``: one of the values, equally likely."""
    return values[int(trial_uniform(name, _root_) * len(_some("choice", name, values)))]


def listed(name: str, values: Sequence[Any], *, _root_: Any) -> Any:
    """Return ``${listed:NAME,[A,B,...]}``: the trial's own value of a fixed list."""
    number = _trial(name, _root_)
    if number >= len(_some("listed", name, values)):
        raise UserError(f"trial={number}: the list of {name} has trials 0 to {len(values) - 1}")
    return values[number]


RESOLVERS = {"uniform": uniform, "log_uniform": log_uniform, "choice": choice, "listed": listed}


def _trial(name: str, root: Any) -> int:
    number = root.get("trial")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise UserError(f"trial={number}: {name} is drawn by it; give a number of 0 or more")
    return number


def _range(kind: str, name: str, low: Any, high: Any) -> tuple[float, float]:
    if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in (low, high)) or low > high:
        raise UserError(f"{kind}:{name}: expected two numbers, the lower first, got {low} and {high}")
    return float(low), float(high)


def _some(kind: str, name: str, values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise UserError(f"{kind}:{name}: expected a list of values, got {values}")
    return values


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
