"""All checks of one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from distill_cli.losses.base import DistillationLoss, as_loss
from distill_cli.verify import numerical, properties
from distill_cli.verify.cases import Case, bind_to_case, cases, wider_cases
from distill_cli.verify.probe import Bound, CheckResult

# By heading of the table's columns.
CHECKS: dict[str, Callable[[Bound], CheckResult]] = {
    "value": numerical.value,
    "gradient": numerical.gradient,
    "at teacher": numerical.at_teacher,
    "alone": properties.batch_independence,
    "finite": properties.finite,
    "own": properties.trainable_parameters,
    "intact": properties.untouched,
    "labels": properties.labels,
}
ON_WIDER_TEACHERS = ("gradient", "finite", "own", "intact")  # checks that are also run with adapters


def verify(make: Callable[[], Any]) -> dict[str, CheckResult]:
    """Return the result of each check of a loss.

    Args:
        make: function that builds the unbound loss; called for every case.

    Raises:
        ValueError: the object is no loss, or refuses the features of all cases.
    """

    def build() -> DistillationLoss:
        return as_loss(make())

    plain, refusals = bind_each(build, cases(build()))
    if not plain:
        raise ValueError(f"it refuses all that it could be checked on ({refusals[0]})")
    wider, _ = bind_each(build, wider_cases(build()))
    return {name: run(check, [*plain, *wider] if name in ON_WIDER_TEACHERS else plain) for name, check in CHECKS.items()}


def bind_each(
    make: Callable[[], DistillationLoss], candidates: Iterator[Case]
) -> tuple[list[tuple[Any, Case]], list[ValueError]]:
    """Return the loss bound to each case, and the errors of refused cases.

    A loss may refuse features of some shapes.
    """
    bound, refusals = [], []
    for case in candidates:
        try:
            bound.append((bind_to_case(make, case), case))
        except ValueError as e:
            refusals.append(e)
    return bound, refusals


def run(check: Callable[[Bound], CheckResult], losses: Bound) -> CheckResult:
    """Return a check's result.

    An exception of the loss is a failure.
    """
    try:
        return check(losses)
    except Exception as e:
        return CheckResult("FAIL", f"{type(e).__name__}: {' '.join(str(e).split())[:200]}")
