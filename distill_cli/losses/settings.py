"""Range checks of loss settings.

A ValueError becomes one line for the user.
"""

from __future__ import annotations

from typing import Literal

# The paper's formula, or that of common code where the two differ.
Variant = Literal["paper", "code"]


def check_above_zero(**settings: float) -> None:
    """Check that settings are finite numbers above 0.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be > 0, got {value}")


def check_not_negative(**settings: float) -> None:
    """Check that settings are finite numbers of at least 0.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be >= 0, got {value}")


def check_share(**settings: float) -> None:
    """Check that settings are between 0 and 1.

    Raises:
        ValueError: names the first.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")


def check_variant(variant: str) -> None:
    """Check that a variant is ``paper`` or ``code``.

    Raises:
        ValueError: names both.
    """
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be paper or code, got {variant}")
