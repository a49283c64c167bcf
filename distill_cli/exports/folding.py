"""Rewriting of operations into fewer operations with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill_cli.errors import UserError
from distill_cli.exports.operations import Operation, Plan


def fold_scales(plan: Plan) -> Plan:
    """Fold each batch norm into the convolution or linear layer before it.

    A layer whose output is also read elsewhere is not folded.
    """
    folded: list[Operation] = []
    for op in plan.operations:
        before = folded[-1] if folded else None
        alone = before is not None and op.inputs == (before.output,) and len(plan.readers(before.output)) == 1
        if op.kind == "scale" and before is not None and alone and before.kind in ("conv", "linear"):
            assert before.weight is not None
            factor = op.arrays["factor"]
            weight = before.weight * factor.reshape(-1, *[1] * (before.weight.ndim - 1))
            bias = before.arrays["bias"] * factor + op.arrays["bias"]
            folded[-1] = replace(before, output=op.output, weight=weight, arrays={"bias": bias})
        else:
            folded.append(op)
    return Plan(tuple(folded), plan.input_shape)


def with_outputs(plan: Plan, order: Sequence[int] | None, offset: np.ndarray | None) -> Plan:
    """Reorder the logits, then add an offset to each, by the last layer's weights.

    Args:
        plan: operations whose last is linear.
        order: ``[C]`` positions of the new classes among the old ones; None: unchanged.
        offset: ``[C]`` number added to each logit; None: nothing.

    Raises:
        UserError: the last layer is not linear.
    """
    last = plan.operations[-1]
    if order is None and offset is None:
        return plan
    if last.kind != "linear" or last.weight is None:
        raise UserError(
            f"format=c: layer '{last.layer}' is last, and only a linear one can take another class order or a bias fix"
        )
    rows = list(range(len(last.weight))) if order is None else list(order)
    bias = last.arrays["bias"][rows] + (0.0 if offset is None else offset)
    return Plan((*plan.operations[:-1], replace(last, weight=last.weight[rows], arrays={"bias": bias})), plan.input_shape)
