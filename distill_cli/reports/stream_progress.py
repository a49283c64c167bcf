"""How far an input is read, on stderr: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any

from distill_cli.reports.cells import duration

SECONDS_BETWEEN_LINES = 5.0
log = logging.getLogger(__name__)


class StreamProgress:
    """Follows one input from its beginning to its end.

    Args:
        what: is done, for the line: ``predict``.
        total: what `move` counts up to.
        level: ``quiet`` prints nothing.
        every: seconds between lines off a terminal.
        file: where to; None is stderr.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        what: str,
        total: int,
        level: str = "normal",
        every: float = SECONDS_BETWEEN_LINES,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._clock = what, max(1, total), clock
        self._quiet, self._every = level == "quiet", every
        self._file = sys.stderr if file is None else file
        self._bar: Any = None
        self._task: Any = None
        self._began = self._said_at = clock()

    def __enter__(self) -> StreamProgress:
        if self._file.isatty() and not self._quiet:
            self._open_bar()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def move(self, done: int, rows: int) -> None:
        """Say that `done` of the total is done, and how many rows that were."""
        now = self._clock()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rows=f"{rows:,} rows", rate=self.rate(rows))
        elif now - self._said_at > self._every and not self._quiet and 0 < done < self._total:
            left = duration((now - self._began) * (self._total - done) / done)
            line = f"{self._what} {done / self._total:.0%}: {rows:,} rows, {self.rate(rows)}, {left} left"
            print(line, file=self._file, flush=True)
            self._said_at = now

    def say(self, line: str) -> None:
        """Print one line and keep it in the log."""
        log.info(line)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            print(line, file=self._file, flush=True)

    def rate(self, rows: int) -> str:
        """Return the speed so far, of so many rows."""
        seconds = self._clock() - self._began
        return f"{rows / seconds:,.0f} rows/s" if seconds > 0 else "- rows/s"

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), TaskProgressColumn(),
            TextColumn("{task.fields[rows]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True),
        )  # fmt: skip
        self._bar = Bar(*columns, console=Console(file=self._file), get_time=self._clock)
        self._task = self._bar.add_task(self._what, total=self._total, rows="", rate="")
        self._bar.start()
