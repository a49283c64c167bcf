"""Rules for single values, and the messages on violations."""

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
    """A rule for one value: a kind of number with a condition, or a choice.

    Attributes:
        kind: ``int`` or ``number``.
        predicate: condition of a number.
        description: text of the condition.
        choices: allowed values; empty: any number that meets the condition.
        optional: whether None is allowed.
    """

    kind: str = "number"
    predicate: Callable[[Any], bool] = math.isfinite
    description: str = "finite"
    choices: tuple[Any, ...] = ()
    optional: bool = False

    def violation(self, value: Any) -> str:
        """Return the message on `value`, or an empty string if it is valid."""
        null = " or null" if self.optional else ""
        allowed = " or ".join(dict.fromkeys(map(format_value, self.choices)))
        if value is None:
            return "" if self.optional else f"expected {allowed or self.kind}"
        if allowed:
            return "" if value in self.choices else f"expected {allowed}{null}{did_you_mean(value, self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else (int, float)):
            return f"expected {self.kind}{null}"
        return "" if math.isfinite(value) and self.predicate(value) else f"must be {self.description}{null}"


def at_least(low: int, kind: str = "int", *, optional: bool = False) -> Rule:
    """Return the rule ``value >= low``."""
    return Rule(kind, lambda v: v >= low, f">= {low}", optional=optional)


def one_of(*choices: Any) -> Rule:
    """Return the rule that a value is one of `choices`."""
    return Rule(choices=choices)


def look_up(config: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or MISSING."""
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return MISSING
        node = node[key]
    return node


def check_rules(config: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Check the values of `config` against `rules`.

    Raises:
        UserError: ``path=value: what the value must be``.
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
    """Check that there are no unknown keys.

    Such keys come from ``+key=value`` or a user's own option.

    Raises:
        UserError: names the first such key, with the nearest known one.
    """
    for key in node:
        if key not in known:
            raise UserError(moved(f"{prefix}{key}") or f"unknown key '{prefix}{key}'{did_you_mean(str(key), known)}")


def check_complete(node: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
    """Check that there are no unknown and no missing keys.

    Missing keys come from ``~key`` or a user's own option.

    Raises:
        UserError: names the first such key.
    """
    known = list(known)
    check_keys(node, known, prefix)
    for key in known:
        if key not in node:
            raise UserError(f"{prefix}{key} is missing: it cannot be taken away; set it to another value")
