"""All checks of one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from distill_cli.verify import conduct, numbers
from distill_cli.verify.cases import Case, bound, cases, wider_cases
from distill_cli.verify.probe import Bound, Outcome

# A heading of the table each.
CHECKS: dict[str, Callable[[Bound], Outcome]] = {
    "value": numbers.value,
    "gradient": numbers.gradient,
    "at teacher": numbers.at_teacher,
    "alone": conduct.alone,
    "finite": conduct.finite,
    "parameters": conduct.trained,
    "untouched": conduct.untouched,
    "labels": conduct.labels,
}
ON_WIDER_TEACHERS = ("gradient", "finite", "parameters", "untouched")  # where adapters stand between


def verify(make: Callable[[], Any]) -> dict[str, Outcome]:
    """Return what each check found.

    Args:
        make: builds the loss, unbound; it is called for every case.

    Raises:
        ValueError: the loss refuses all features that it could be checked on.
    """
    plain = list(bind_each(make, cases(make())))
    if not plain:
        refused = "it refuses the features of every shape that it could be checked on; say which it takes by feature_shapes"
        raise ValueError(refused)
    wider = list(bind_each(make, wider_cases(make())))
    return {name: run(check, [*plain, *wider] if name in ON_WIDER_TEACHERS else plain) for name, check in CHECKS.items()}


def bind_each(make: Callable[[], Any], wanted: Iterator[Case]) -> Iterator[tuple[Any, Case]]:
    """Yield a loss bound to each case, leaving out those that it refuses by a ValueError."""
    for case in wanted:
        try:
            yield bound(make, case), case
        except ValueError:
            if not getattr(make(), "pairs", ()):
                raise


def run(check: Callable[[Bound], Outcome], losses: Bound) -> Outcome:
    """Return a check's outcome; an exception of the loss is a failure."""
    try:
        return check(losses)
    except Exception as e:
        return Outcome("FAIL", f"{type(e).__name__}: {' '.join(str(e).split())[:200]}")
