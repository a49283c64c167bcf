"""Where a network's intermediate values lie in one work space."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from distill_cli.exports.operations import Operation, Plan

# These may write where they read.
IN_PLACE = ("relu", "add", "scale", "standardise")


@dataclass(frozen=True)
class BufferPlan:
    """Where each value lies.

    Attributes:
        owner: the value whose memory a value lies in, often its own.
        offset: in the work space, in numbers, of each owner there; the input and the logits lie with the caller.
        logits: owner of the logits.
        size: numbers that the work space must hold.
    """

    owner: dict[int, int]
    offset: dict[int, int]
    logits: int
    size: int


def places(plan: Plan) -> BufferPlan:
    """Give each value the first gap that is free while it lives; what is reshaped or written in place shares its memory."""
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
    """Return whose memory an output lies in: the input's where that is reshaped, or written in place and not read again."""
    if op.kind == "reshape":
        return owner[op.inputs[0]]
    for value in op.inputs if op.kind in IN_PLACE else ():
        sharing = [v for v in owner if owner[v] == owner[value]]
        if owner[value] != 0 and all(last.get(v, -1) <= n for v in sharing):
            return owner[value]
    return op.output
