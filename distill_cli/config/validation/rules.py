"""What one value must be, and how to say that it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distill_cli.config.options import moved
from distill_cli.errors import UserError, did_you_mean

MISSING = object()


@dataclass(frozen=True)
class Rule:
    """What one value must be: a kind of number, a condition and how to say it; or one of some words."""

    kind: str = "number"
    predicate: Callable[[Any], bool] = math.isfinite
    description: str = "finite"
    choices: tuple[Any, ...] = ()
    optional: bool = False

    def violation(self, value: Any) -> str:
        """Return what is wrong with `value`, or an empty string."""
        null = " or null" if self.optional else ""
        words = " or ".join(dict.fromkeys(map(format_value, self.choices)))
        if value is None:
            return "" if self.optional else f"expected {words or self.kind}"
        if words:
            return "" if value in self.choices else f"expected {words}{null}{did_you_mean(value, self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else (int, float)):
            return f"expected {self.kind}{null}"
        return "" if math.isfinite(value) and self.predicate(value) else f"must be {self.description}{null}"


def at_least(low: int, kind: str = "int", *, optional: bool = False) -> Rule:
    """Return the rule ``value >= low``."""
    return Rule(kind, lambda v: v >= low, f">= {low}", optional=optional)


def one_of(*words: Any) -> Rule:
    """Return the rule that a value is one of `words`."""
    return Rule(choices=words)


def look_up(config: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or MISSING."""
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return MISSING
        node = node[key]
    return node


def check_rules(config: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Hold the values that `config` has against `rules`.

    Raises:
        UserError: ``path=value: what it must be``.
    """
    for path, rule in rules.items():
        value = look_up(config, path)
        if value is not MISSING and (wrong := rule.violation(value)):
            raise UserError(f"{prefix}{path}={format_value(value)}: {wrong}")


def format_value(value: Any) -> str:
    """Return a value as a user would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def check_keys(node: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
    """Refuse keys that nobody reads, which ``+key=value`` and a user's own option can bring.

    Raises:
        UserError: the first such key, with the nearest known one.
    """
    for key in node:
        if key not in known:
            raise UserError(moved(f"{prefix}{key}") or f"unknown key '{prefix}{key}'{did_you_mean(str(key), known)}")


def check_complete(node: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
    """Refuse unknown keys, and keys that are not there, which ``~key`` and a user's own option can bring.

    Raises:
        UserError: the first such key.
    """
    known = list(known)
    check_keys(node, known, prefix)
    for key in known:
        if key not in node:
            raise UserError(f"{prefix}{key} is missing: it cannot be taken away; set it to another value")
