"""Property checks of a loss.

Independence of the other samples in the batch, numerical stability, gradients of the parameters, no in-place changes of
inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill_cli.verify.cases import Case, changed
from distill_cli.verify.probe import TOLERANCE, Bound, CheckResult, call, difference, failed, gradients, parameters, with_gradient

LARGE, THOUSANDS = 30.0, 1000.0  # scales of outputs in half and in single precision
LOSS_SCALE = 2.0**-12  # in half precision: a scale that a gradient scaler may reach with a steep loss


def batch_independence(losses: Bound) -> CheckResult:
    """Check that a sample's loss is the same in a batch of one."""
    for loss, case in losses:
        whole = call(loss, case).detach()
        if whole.dim() == 0:
            return CheckResult("relates")
        for row in range(len(whole)):
            single = float(call(loss, case.rows(slice(row, row + 1))).detach())
            if difference(float(whole[row]), single) > TOLERANCE:
                return failed(case, f"row {row}: {float(whole[row]):.8g} in the batch, {single:.8g} alone")
    return CheckResult("ok")


def hard_cases(case: Case) -> Iterator[tuple[str, torch.dtype, Case]]:
    """Yield numerically difficult variants of a case.

    Half precision with large outputs, and float32 with constant or very large outputs.
    """
    for dtype in (torch.float16, torch.bfloat16):
        yield f"large outputs in {dtype}", dtype, case.to(dtype, LARGE)
    single = case.to(torch.float32)
    silent = replace(single, student=changed(single.student, torch.zeros_like))
    yield "a student of zeros", torch.float32, silent
    flat = replace(single, student=changed(single.student, lambda t: torch.full_like(t, 1 / 3)))
    yield "a student of one constant", torch.float32, flat
    yield "student and teacher of zeros", torch.float32, case.to(torch.float32, 0.0)
    yield "outputs in the thousands", torch.float32, case.to(torch.float32, THOUSANDS)


def finite(losses: Bound) -> CheckResult:
    """Check that loss and gradient are finite, and sums are in float32."""
    for original, case in losses:
        loss = copy.deepcopy(original)
        if isinstance(loss, nn.Module):
            loss.float()
        for name, dtype, hard in hard_cases(case):
            grown, leaves = with_gradient(hard)
            half = dtype != torch.float32
            with torch.autocast("cpu", dtype=dtype if half else torch.bfloat16, enabled=half):
                result = call(loss, grown)
            if result.dtype != torch.float32:
                return failed(case, f"{name}: the loss is {result.dtype}; sums need full precision")
            if not all(bool(t.isfinite().all()) for t in (result, *gradients(result * LOSS_SCALE if half else result, leaves))):
                what = "gradient" if result.isfinite().all() else "loss"
                return failed(case, f"{name}: the {what} is not finite")
    return CheckResult("ok")


def trainable_parameters(losses: Bound) -> CheckResult:
    """Check that all parameters get gradients and are registered with the module."""
    most = 0
    for original, case in losses:
        loss = copy.deepcopy(original)
        grown, leaves = with_gradient(case)
        result = call(loss, grown, copied=False)
        own = parameters(loss)
        known = {id(t) for t in (*leaves, *own)}
        if any(id(leaf) not in known for leaf in graph_leaves(result)):
            return failed(case, "trains a tensor that is not in parameters(), which no optimizer will see")
        if idle := [p for p, g in zip(own, gradients(result, own), strict=True) if not g.abs().sum() > 0]:
            return failed(case, f"{len(idle)} of {len(own)} parameter tensors get no gradient")
        most = max(most, sum(p.numel() for p in own))
    return CheckResult(str(most) if most else "none")


def graph_leaves(value: Tensor) -> list[Tensor]:
    """Return all leaf tensors that a value's gradient would reach."""
    leaves, seen, waiting = [], set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [before for before, _ in node.next_functions]
    return leaves


def untouched(losses: Bound) -> CheckResult:
    """Check that a loss changes neither outputs nor batch."""
    for loss, case in losses:
        original = copy.deepcopy(case)
        grown, leaves = with_gradient(case)
        gradients(call(loss, grown), leaves)
        for before, after in zip(tensors_of(original), tensors_of(case), strict=True):
            if not torch.equal(before, after):
                return failed(case, "the loss changed a tensor that it was given")
    return CheckResult("ok")


def tensors_of(case: Case) -> list[Tensor]:
    """Return all tensors of a case."""
    outputs = [t for o in (case.student, *case.teachers) for t in (o.logits, *o.features.values())]
    return [*outputs, case.batch.inputs, case.batch.target, case.batch.index, case.batch.labeled]


def labels(losses: Bound) -> CheckResult:
    """Check that hidden labels have no effect.

    And that a loss keeps to its declarations `uses_labels = False` and `uses_teacher = False`.
    """
    for loss, case in losses:
        uses = loss.uses_labels
        hidden = case.unlabeled() if uses else case
        relabeled = replace(hidden, batch=replace(hidden.batch, target=hidden.batch.target.flip(-1)))
        if not torch.equal(call(loss, hidden), call(loss, relabeled)):
            problem = (
                "reads the targets of rows that have no label (batch.labeled is 0)"
                if uses
                else "says uses_labels = False, and reads them"
            )
            return failed(case, problem)
        if not loss.uses_teacher and not torch.equal(call(loss, case), call(loss, replace(case, teachers=()))):
            return failed(case, "says uses_teacher = False, and listens to it")
        if (control := loss.without_teacher()) is not None and control.uses_teacher:
            return failed(case, "without_teacher() uses a teacher")
    return CheckResult("ok")
