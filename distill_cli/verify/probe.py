"""Helpers of all checks that call a loss and compute its gradient."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.rng import seeded
from distill_cli.verify.cases import Case, changed, draw

TOLERANCE = 1e-9  # relative error of values in float64
TINY = 1e-12


@dataclass(frozen=True)
class CheckResult:
    """Result of a check: a cell of the table and the problem, empty for none."""

    cell: str
    problem: str = ""


def failed(case: Case, problem: str) -> CheckResult:
    """Return the result of a failed check."""
    return CheckResult("FAIL", f"{case.name}: {problem}")


Bound = Sequence[tuple[Any, Case]]  # a loss and the case that it was bound to


def call(loss: Any, case: Case, *, copied: bool = True) -> Tensor:
    """Return the value of a loss on a case, with the same random draws each time.

    By default of a copy, because losses may have a state.
    """
    with seeded(0, "verify"):
        return (copy.deepcopy(loss) if copied else loss)(case.student, list(case.teachers), case.batch)


def with_gradient(case: Case) -> tuple[Case, list[Tensor]]:
    """Return the case with the student's outputs as leaves, and those leaves.

    The leaves require gradients.
    """
    student = changed(case.student, lambda t: t.detach().clone().requires_grad_())
    return replace(case, student=student), [student.logits, *student.features.values()]


def total(value: Tensor) -> Tensor:
    """Return a weighted sum over the samples.

    The weights differ, so that errors of rows cannot cancel.
    """
    return (value * (1 + draw("weights", value.numel()).abs()).reshape(value.shape).to(value.dtype)).sum()


def parameters(loss: Any) -> list[Tensor]:
    """Return the parameters of a loss that an optimizer would train."""
    return [p for p in loss.parameters() if p.requires_grad] if isinstance(loss, nn.Module) else []


def gradients(value: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of `total`.

    Zeros where the loss does not depend on a tensor.
    """
    if not (value.requires_grad and of):
        return [torch.zeros_like(t) for t in of]
    slopes = torch.autograd.grad(total(value), list(of), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(of, slopes, strict=True)]


def difference(a: float, b: float) -> float:
    """Return ``|a - b| / max(|a|, |b|)``.

    0 where both vanish, infinity where one of them is not finite.
    """
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), TINY)
