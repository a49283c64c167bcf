"""Numbers: the value against a reference, the gradient against finite differences, both where the student is its teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distill_cli.types import ModelOutput
from distill_cli.verify.cases import Case, draw, plain
from distill_cli.verify.probe import (
    TINY,
    TOLERANCE,
    Bound,
    CheckResult,
    call,
    difference,
    failed,
    gradients,
    parameters,
    total,
    with_gradient,
)
from distill_cli.verify.references import REFERENCES

GRADIENT_TOLERANCE = 1e-6  # relative to the whole gradient
FLAT = 1e-3  # of the loss: a gradient below this counts as one of this size, for differences have no more digits
ZERO = 1e-9  # of a loss or a gradient that should vanish
STEPS = (1e-5, 1e-6)  # of central differences; a kink between the ends of one is seldom within the other
DIRECTIONS = 2  # random ones, of each tensor


def reference_of(loss: Any) -> Callable[..., Any] | None:
    """Return the loss's own method `reference`, else that of a shipped loss, as ``(loss, student, teachers, batch)``."""
    if loss.reference is not None:
        return lambda loss, *inputs: loss.reference(*inputs)
    shipped = type(loss).__module__.startswith("distill_cli.losses.")
    return REFERENCES.get(type(loss).__name__) if shipped else None


def value(losses: Bound) -> CheckResult:
    """Hold every value against the reference."""
    if reference_of(losses[0][0]) is None:
        return CheckResult("no reference")
    worst = 0.0
    for original, case in losses:
        loss = copy.deepcopy(original)
        found = call(loss, case, copied=False)
        if found.dtype != torch.float64 or found.dim() > 1:
            return failed(case, f"float64 inputs gave {found.dtype}, shape {tuple(found.shape)}")
        reference = reference_of(loss)
        assert reference is not None
        wanted = reference(loss, *plain(case))
        rows = list(wanted) if isinstance(wanted, Sequence) else [float(wanted)]
        if (found.dim() == 1) != isinstance(wanted, Sequence) or found.numel() != len(rows):
            return failed(case, f"{found.numel()} values of shape {tuple(found.shape)}, the reference has {len(rows)}")
        for row, (a, b) in enumerate(zip(found.reshape(-1).tolist(), rows, strict=True)):
            worst = max(worst, difference(a, b))
            if difference(a, b) > TOLERANCE:
                return failed(case, f"row {row}: {a:.10g}, by the reference {b:.10g}")
    return CheckResult(f"{worst:.0e}" if worst else "0")


def gradient(losses: Bound) -> CheckResult:
    """Hold the gradient along random directions of every output and parameter against central differences.

    In the second step of a training: what a loss fixes in the first batch, as CRD's Z, is a constant of both by then.
    """
    worst = 0.0
    for original, case in losses:
        loss, used = after_first_step(original, case), after_first_step(original, case)
        moved, leaves = with_gradient(case)
        start = call(used, moved, copied=False)
        slopes = gradients(start, [*leaves, *parameters(used)])
        floor = FLAT * float(total(start.detach()).abs()) + TINY
        tensors = [*leaves, *parameters(loss)]
        for n, (tensor, slope) in enumerate(zip(tensors, slopes, strict=True)):
            for k in range(DIRECTIONS):
                way = draw(f"direction{n}/{k}", *tensor.shape)
                way /= way.norm()
                analytic = float((slope * way).sum())
                # The whole slope is the scale: along one direction it may all but vanish.
                off, numeric = closest_finite_difference(loss, moved, tensor, way, analytic, max(float(slope.norm()), floor))
                worst = max(worst, off if math.isfinite(off) else math.inf)
                if not off <= GRADIENT_TOLERANCE:
                    which = [*("logits",), *case.student.features][n] if n < len(leaves) else f"parameter {n - len(leaves)}"
                    return failed(case, f"{which}: slope {analytic:.8g}, by finite differences {numeric:.8g}")
    return CheckResult(f"{worst:.0e}" if worst else "0")


def after_first_step(original: Any, case: Case) -> Any:
    """Return a copy of a loss after the first step of a training, which leaves no graph that could not be copied again."""
    loss = copy.deepcopy(original)
    trained = parameters(loss)
    for parameter in trained:
        parameter.requires_grad_(False)
    call(loss, case, copied=False)
    for parameter in trained:
        parameter.requires_grad_(True)
    return loss


def closest_finite_difference(
    loss: Any, case: Case, tensor: Tensor, way: Tensor, analytic: float, scale: float
) -> tuple[float, float]:
    """Return how far a slope is from that by central differences, and the latter, at the first step that agrees."""
    for step in STEPS:
        numeric = central(loss, case, tensor, way, step)
        off = abs(analytic - numeric) / max(abs(analytic), abs(numeric), scale)
        if off <= GRADIENT_TOLERANCE:
            break
    return off, numeric


@torch.no_grad()
def central(loss: Any, case: Case, tensor: Tensor, way: Tensor, step: float) -> float:
    """Return the slope of a loss along `way` by central differences; `tensor` is moved in place and back."""
    start = tensor.detach().clone()
    ends = []
    for end in (step, -step):
        tensor.copy_(start + end * way)
        ends.append(float(total(call(loss, case))))
    tensor.copy_(start)
    return (ends[0] - ends[1]) / (2 * step)


def at_teacher(losses: Bound) -> CheckResult:
    """See a loss that says `zero_at_teacher` and its gradient vanish where the student equals its teacher.

    On rows without labels: a cross-entropy beside the soft part does not vanish there. ``"gradient"`` leaves the value out.
    """
    for loss, case in losses:
        declared = loss.zero_at_teacher
        if not declared:
            return CheckResult("-")
        pairs = {p[0]: p[1] for p in loss.pairs}
        features = {path: case.teachers[0].features[pairs[path]] for path in case.student.features}
        logits = torch.stack([t.logits for t in case.teachers]).mean(dim=0)
        equal, leaves = with_gradient(replace(case.unlabeled(), student=ModelOutput(logits, features)))
        found = call(loss, equal)
        size = float(found.detach().abs().max())
        if declared is True and not size <= ZERO:
            return failed(case, f"loss {size:.3g} where the student equals its teacher")
        steepest = max(float(g.abs().max()) for g in gradients(found, leaves))
        if not steepest <= ZERO:
            return failed(case, f"gradient {steepest:.3g} where the student equals its teacher")
    return CheckResult("0" if declared is True else "flat")
