"""The terminal tables of `distill layers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_cli.reports.formatting import count
from distill_cli.reports.terminal import console, print_line, table

if TYPE_CHECKING:
    from distill_cli.features.layer_summary import Layer

HEADER = ("module", "type", "output", "parameters", "MACs", "")


def show(listing: Any) -> None:
    """Print the modules, the proposed layer pairs, and the command lines for them.

    Args:
        listing: modules of teacher and student, and the proposals.
    """
    on = console()
    for who, layers in (("teacher", listing.teacher), ("student", listing.student)):
        print_line(on, f"{who}: module paths, output of one sample, parameters and MACs", style="bold")
        on.print(table(on, HEADER, [_row(layer) for layer in layers], left=3))
    if not listing.proposals:
        print_line(on, "no pair is proposed: teacher and student have no layers of as many axes")
        return
    print_line(on, "pairs that could learn from each other, nearest in space, then in depth", style="bold")
    rows = [
        [p.student.path, _shape(p.student), p.teacher.path, _shape(p.teacher), p.adapter] for p in listing.proposals
    ]  # fmt: skip
    on.print(table(on, ("student", "output", "teacher", "output", "the student's is taken"), rows, left=5))
    print_line(on, "one hint half-way, or all of them:", style="bold")
    maps = [p for p in listing.proposals if len(p.student.shape) > 1] or listing.proposals
    print_line(on, f"loss=hint loss.features={_as_option([maps[len(maps) // 2]])}")
    print_line(on, f"loss=hint loss.features={_as_option(listing.proposals)}")


def _row(layer: Layer) -> list[str]:
    return [layer.path, layer.kind, _shape(layer), count(layer.parameters), count(layer.macs), layer.remark]


def _shape(layer: Layer) -> str:
    return "-" if layer.shape is None else f"[{', '.join(map(str, layer.shape))}]"


def _as_option(proposals: Sequence[Any]) -> str:
    return f"[{','.join(f'[{p.student.path},{p.teacher.path}]' for p in proposals)}]"
