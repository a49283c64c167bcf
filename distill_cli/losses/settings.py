"""Ranges of a loss's settings; a ValueError becomes one line for the user."""

from __future__ import annotations

from typing import Literal

# What the paper has, or what common code computes where that is something else.
Variant = Literal["paper", "code"]


def check_above_zero(**settings: float) -> None:
    """Refuse settings that are not finite numbers above 0, by name.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be > 0, got {value}")


def check_not_negative(**settings: float) -> None:
    """Refuse settings that are not finite numbers of at least 0, by name.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be >= 0, got {value}")


def check_share(**settings: float) -> None:
    """Refuse settings that are not between 0 and 1, by name.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")


def check_variant(variant: str) -> None:
    """Refuse a variant that is neither ``paper`` nor ``code``.

    Raises:
        ValueError: says so.
    """
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be paper or code, got {variant}")
