"""Numerical checks of a loss.

The value against a reference, the gradient against finite differences, and both where the student equals its teacher.
"""

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
FLAT = 1e-3  # share of the loss: errors are relative to at least this, as finite differences have no more digits
ZERO = 1e-9  # largest value of a loss or a gradient that should vanish
STEPS = (1e-5, 1e-6)  # step sizes of central differences; a kink within one is seldom within the other
DIRECTIONS = 2  # random directions of each tensor


def reference_of(loss: Any) -> Callable[..., Any] | None:
    """Return the reference of a loss, as ``(loss, student, teachers, batch)``.

    The loss's own method `reference`, else that of a shipped loss.
    """
    if loss.reference is not None:
        return lambda loss, *inputs: loss.reference(*inputs)
    shipped = type(loss).__module__.startswith("distill_cli.losses.")
    return REFERENCES.get(type(loss).__name__) if shipped else None


def value(losses: Bound) -> CheckResult:
    """Check every value against the reference."""
    if reference_of(losses[0][0]) is None:
        return CheckResult("no reference")
    worst = 0.0
    for original, case in losses:
        loss = copy.deepcopy(original)
        result = call(loss, case, copied=False)
        if result.dtype != torch.float64 or result.dim() > 1:
            return failed(case, f"float64 inputs gave {result.dtype}, shape {tuple(result.shape)}")
        reference = reference_of(loss)
        assert reference is not None
        expected = reference(loss, *plain(case))
        rows = list(expected) if isinstance(expected, Sequence) else [float(expected)]
        if (result.dim() == 1) != isinstance(expected, Sequence) or result.numel() != len(rows):
            return failed(case, f"{result.numel()} values of shape {tuple(result.shape)}, the reference has {len(rows)}")
        for row, (a, b) in enumerate(zip(result.reshape(-1).tolist(), rows, strict=True)):
            worst = max(worst, difference(a, b))
            if difference(a, b) > TOLERANCE:
                return failed(case, f"row {row}: {a:.10g}, by the reference {b:.10g}")
    return CheckResult(f"{worst:.0e}" if worst else "0")


def gradient(losses: Bound) -> CheckResult:
    """Check the gradient along random directions against central differences.

    Of every output and every parameter.

    In the second step of a training: a value that a loss computes from the first batch, as CRD's Z, is then constant for both.
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
                # The whole gradient is the scale: along one direction the slope may almost vanish.
                off, numeric = closest_finite_difference(loss, moved, tensor, way, analytic, max(float(slope.norm()), floor))
                worst = max(worst, off if math.isfinite(off) else math.inf)
                if not off <= GRADIENT_TOLERANCE:
                    which = [*("logits",), *case.student.features][n] if n < len(leaves) else f"parameter {n - len(leaves)}"
                    return failed(case, f"{which}: slope {analytic:.8g}, by finite differences {numeric:.8g}")
    return CheckResult(f"{worst:.0e}" if worst else "0")


def after_first_step(original: Any, case: Case) -> Any:
    """Return a copy of a loss after the first step of a training.

    Without a graph, so that the loss can be copied again.
    """
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
    """Return the relative error of a slope and the slope by central differences.

    At the first step size at which both agree.
    """
    for step in STEPS:
        numeric = central(loss, case, tensor, way, step)
        off = abs(analytic - numeric) / max(abs(analytic), abs(numeric), scale)
        if off <= GRADIENT_TOLERANCE:
            break
    return off, numeric


@torch.no_grad()
def central(loss: Any, case: Case, tensor: Tensor, way: Tensor, step: float) -> float:
    """Return the slope of a loss along `way` by central differences.

    `tensor` is changed in place and restored.
    """
    start = tensor.detach().clone()
    ends = []
    for end in (step, -step):
        tensor.copy_(start + end * way)
        ends.append(float(total(call(loss, case))))
    tensor.copy_(start)
    return (ends[0] - ends[1]) / (2 * step)


def at_teacher(losses: Bound) -> CheckResult:
    """Check that a loss vanishes where the student equals its teacher.

    Checked for a loss that declares `zero_at_teacher`, with its gradient.

    On rows without labels, as a cross-entropy with labels does not vanish there. ``"gradient"``: the value is not checked.
    """
    for loss, case in losses:
        declared = loss.zero_at_teacher
        if not declared:
            return CheckResult("-")
        pairs = {p[0]: p[1] for p in loss.pairs}
        features = {path: case.teachers[0].features[pairs[path]] for path in case.student.features}
        logits = torch.stack([t.logits for t in case.teachers]).mean(dim=0)
        equal, leaves = with_gradient(replace(case.unlabeled(), student=ModelOutput(logits, features)))
        result = call(loss, equal)
        size = float(result.detach().abs().max())
        if declared is True and not size <= ZERO:
            return failed(case, f"loss {size:.3g} where the student equals its teacher")
        steepest = max(float(g.abs().max()) for g in gradients(result, leaves))
        if not steepest <= ZERO:
            return failed(case, f"gradient {steepest:.3g} where the student equals its teacher")
    return CheckResult("0" if declared is True else "flat")
