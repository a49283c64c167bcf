"""Memory plan: offsets of a network's intermediate values in one workspace."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from distill_cli.exports.operations import Operation, Plan

# Operations that may write to the memory they read.
IN_PLACE = ("relu", "add", "scale", "standardise")


@dataclass(frozen=True)
class BufferPlan:
    """Memory of each value.

    Attributes:
        owner: for each value the value whose memory it shares, often itself.
        offset: position in the workspace of each owner, in floats; input and logits lie with the caller.
        logits: owner of the logits.
        size: size of the workspace in floats.
    """

    owner: dict[int, int]
    offset: dict[int, int]
    logits: int
    size: int


def places(plan: Plan) -> BufferPlan:
    """Assign each value the first gap in the workspace that is free while it lives.

    Values that are reshaped or written in place share memory.
    """
    last = {value: n for n, op in enumerate(plan.operations) for value in op.inputs}
    owner: dict[int, int] = {0: 0}
    for n, op in enumerate(plan.operations):
        owner[op.output] = _shared(op, n, last, owner)
    logits = owner[plan.operations[-1].output]
    lives: dict[int, tuple[int, int]] = {}
    for n, op in enumerate(plan.operations):
        for value in (*op.inputs, op.output):
            lives[owner[value]] = lives.get(owner[value], (n, n))[0], n
    offset: dict[int, int] = {}
    sizes = {value: prod(plan.shape(value)) for value in lives}
    for value, (start, _) in sorted(lives.items(), key=lambda item: item[1]):
        if value not in (0, logits):
            taken = sorted((offset[v], offset[v] + sizes[v]) for v in offset if lives[v][1] >= start)
            offset[value] = _first_gap(taken, sizes[value])
    return BufferPlan(owner, offset, logits, max((offset[v] + sizes[v] for v in offset), default=0))


def _first_gap(taken: list[tuple[int, int]], size: int) -> int:
    at = 0
    for low, high in taken:
        if low - at >= size:
            break
        at = max(at, high)
    return at


def _shared(op: Operation, n: int, last: dict[int, int], owner: dict[int, int]) -> int:
    """Return the value whose memory an output shares.

    The output shares its input's memory where that is reshaped, or written in place and not read again.
    """
    if op.kind == "reshape":
        return owner[op.inputs[0]]
    for value in op.inputs if op.kind in IN_PLACE else ():
        sharing = [v for v in owner if owner[v] == owner[value]]
        if owner[value] != 0 and all(last.get(v, -1) <= n for v in sharing):
            return owner[value]
    return op.output
