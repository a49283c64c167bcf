"""What every input gives: pieces of consecutive rows, and what is wrong with those that were left out."""

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
        where: ``[n]`` each, what tells a row from another, by column of the output: ``row``, counted from 0 over all rows of the
            input; of beats also ``sample`` and ``seconds``.
        read: rows read so far, those left out included.
        done: how much of the stream's `total` is read.
        faults: a line for each row of this piece that is left out.
    """

    x: np.ndarray
    where: Mapping[str, np.ndarray]
    read: int
    done: int
    faults: list[str] = field(default_factory=list)

    def part(self, start: int, stop: int) -> RowBlock:
        """Return some of its rows, by position, without the faults."""
        where = {name: column[start:stop] for name, column in self.where.items()}
        return RowBlock(self.x[start:stop], where, self.read, self.done)


class Stream(Protocol):
    """An input that is read from its beginning, in bounded memory.

    Attributes:
        total: bytes of a table, rows of anything else.
        columns: the keys of `Piece.where`, in the order of the output's columns.
        notes: what a reader of the output should know.
    """

    total: int
    columns: tuple[str, ...]
    notes: list[str]

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the rows in order."""
        ...


def skip_or_raise(fault: str, *, skip: bool) -> str:
    """Return the fault where bad rows are left out.

    Raises:
        UserError: the fault, where they are not.
    """
    if not skip:
        raise UserError(f"{fault} (on_bad_lines=skip leaves such rows out)")
    return fault


class Rebatcher:
    """Rows that wait until they are enough for a batch, so that outputs do not depend on how an input was read.

    Args:
        size: rows of a batch.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: list[RowBlock] = []

    def add(self, piece: RowBlock) -> Iterator[RowBlock]:
        """Take rows, and yield the full batches that there are now."""
        self.held.append(piece)
        if sum(len(held.x) for held in self.held) >= self.size:
            whole = self._joined()
            full = len(whole.x) - len(whole.x) % self.size
            self.held = [whole.part(full, len(whole.x))]
            for start in range(0, full, self.size):
                yield whole.part(start, start + self.size)

    def rest(self) -> Iterator[RowBlock]:
        """Yield the rows that are left, at the end."""
        if any(len(held.x) for held in self.held):
            yield self._joined()
        self.held = []

    def _joined(self) -> RowBlock:
        last = self.held[-1]
        where = {name: np.concatenate([held.where[name] for held in self.held]) for name in last.where}
        return RowBlock(np.concatenate([held.x for held in self.held]), where, last.read, last.done)
