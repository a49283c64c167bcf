"""Blocks of consecutive input rows, and their regrouping into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from distill_cli.errors import UserError

ROW = "row"


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of an input.

    Attributes:
        x: ``[n, *shape]`` float32, all finite.
        where: ``[n]`` identifiers of the rows by output column: ``row``, counted from 0 over all rows of the input, and for beats
            also ``sample`` and ``seconds``.
        read: rows read so far, skipped ones included.
        done: part of the stream's `total` that is read.
        faults: one message for each skipped row of this block.
    """

    x: np.ndarray
    where: Mapping[str, np.ndarray]
    read: int
    done: int
    faults: list[str] = field(default_factory=list)

    def part(self, start: int, stop: int) -> RowBlock:
        """Return the rows from `start` to `stop`, by position, without the faults."""
        where = {name: column[start:stop] for name, column in self.where.items()}
        return RowBlock(self.x[start:stop], where, self.read, self.done)


class Stream(Protocol):
    """An input that is read once, in bounded memory.

    Attributes:
        total: size of the input: bytes of a CSV file, rows of anything else.
        columns: keys of `RowBlock.where`, in the order of the output's columns.
        notes: sentences for readers of the output.
    """

    total: int
    columns: tuple[str, ...]
    notes: list[str]

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the rows in order."""
        ...


def skip_or_raise(fault: str, *, skip: bool) -> str:
    """Return the message on a bad row if such rows are skipped, else raise it.

    Raises:
        UserError: the message, where bad rows are not skipped.
    """
    if not skip:
        raise UserError(f"{fault} (on_bad_lines=skip leaves such rows out)")
    return fault


class Rebatcher:
    """Buffer that regroups blocks into batches of one size.

    Why: outputs must not depend on the blocks in which an input was read.

    Args:
        size: rows in a batch.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: list[RowBlock] = []

    def add(self, piece: RowBlock) -> Iterator[RowBlock]:
        """Add a block, and yield the batches that are full."""
        self.held.append(piece)
        if sum(len(held.x) for held in self.held) >= self.size:
            whole = self._joined()
            full = len(whole.x) - len(whole.x) % self.size
            self.held = [whole.part(full, len(whole.x))]
            for start in range(0, full, self.size):
                yield whole.part(start, start + self.size)

    def rest(self) -> Iterator[RowBlock]:
        """Yield the remaining rows at the end of the input."""
        if any(len(held.x) for held in self.held):
            yield self._joined()
        self.held = []

    def _joined(self) -> RowBlock:
        last = self.held[-1]
        where = {name: np.concatenate([held.where[name] for held in self.held]) for name in last.where}
        return RowBlock(np.concatenate([held.x for held in self.held]), where, last.read, last.done)
