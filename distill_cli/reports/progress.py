"""Progress of a training or of reading an input, on stderr.

On a terminal a bar is shown, otherwise a line now and then. Every epoch is logged.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from distill_cli.reports.formatting import duration

if TYPE_CHECKING:
    from distill_cli.types import EpochRecord

SECONDS_BETWEEN_LINES = 5.0
log = logging.getLogger(__name__)


class Progress:
    """Progress display of one model or input after the other.

    >>> with Progress("quiet") as progress:
    ...     progress.start("teacher", epochs=3, rows_per_epoch=100)
    ...     progress.finish()

    Args:
        level: ``quiet`` prints nothing, ``verbose`` one line for each epoch with every loss term, ``normal`` neither.
        every: seconds between lines where the output is no terminal.
        file: output stream; None: stderr.
        clock: function that returns seconds, for tests.
    """

    def __init__(
        self,
        level: str = "normal",
        every: float = SECONDS_BETWEEN_LINES,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = sys.stderr if file is None else file
        self._quiet, self._verbose, self._every = level == "quiet", level == "verbose", every
        self._clock = clock
        self._bar: Any = None
        self._task: Any = None
        self._name, self._total, self._began, self._last_line = "", 1, 0.0, 0.0
        self._epochs, self._rows_per_epoch, self._steps, self._done = 0, 0, 1, 0
        self._best: str | None = None
        self._unprinted: str | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish()

    def start(self, model: str, epochs: int, rows_per_epoch: int, steps_per_epoch: int = 1) -> None:
        """Start the progress of a model.

        Args:
            model: name of the model.
            epochs: number of epochs.
            rows_per_epoch: samples of an epoch.
            steps_per_epoch: optimizer steps of an epoch.
        """
        self._epochs, self._rows_per_epoch, self._steps = epochs, rows_per_epoch, steps_per_epoch
        self._done, self._best = 0, None
        self._open(model, epochs * rows_per_epoch, f"0/{epochs}")

    def step(self, done_rows: int) -> None:
        """Show that `done_rows` samples of the current epoch are done.

        Where there is no bar, a long epoch prints lines of its own.
        """
        rows = self._done * self._rows_per_epoch + done_rows
        step = f"step {rows * self._steps // max(1, self._rows_per_epoch):,}/{self._epochs * self._steps:,}"
        if self._bar is not None:
            self._move_bar(rows, f"{self._done}/{self._epochs} {step}")
        elif self._is_due():
            at = f"{self._name} {self._done + 1}/{self._epochs}: {step}, {self.rate(rows)}"
            self._print(", ".join(part for part in (at, self._best) if part))

    def epoch(self, record: EpochRecord) -> None:
        """Show and log a finished epoch."""
        from distill_cli.types import DEFAULT_STAGE  # imported here, because a table over runs needs no torch

        self._done += 1
        metric, value = next(iter(record.val.items()), ("", 0.0))  # the task's primary metric comes first
        score = f"val {metric} {value:.3f}" if metric else ""
        if record.is_best and score:
            self._best = f"best {value:.3f} (epoch {self._done})"
        loss = f"loss {record.loss:.4g}"
        if len(record.loss_terms) > 1 or self._verbose:
            loss += f" ({', '.join(f'{term} {value:.4g}' for term, value in record.loss_terms.items())})"
        scores = ", ".join(part for part in (loss, score, self._best) if part)
        name = self._name if record.stage == DEFAULT_STAGE else f"{self._name} ({record.stage})"
        rows, at = self._done * self._rows_per_epoch, f"{self._done}/{self._epochs}"
        line = f"{name} {at}: {scores}, {self.rate(rows)}, {self._left(self._done, self._epochs)} left"
        log.info(line)
        if self._bar is not None:
            step = f"step {self._done * self._steps:,}/{self._epochs * self._steps:,}"
            self._move_bar(rows, f"{at} {step}", description=name, rate=self.rate(rows), scores=scores)
        if self._verbose or (self._bar is None and (self._done in (1, self._epochs) or self._is_due())):
            self._print(line)
        elif self._bar is None:
            self._unprinted = line

    def read(self, what: str, total: int) -> None:
        """Start the progress of an input, which `move` counts up to `total`."""
        self._open(what, max(1, total), "")

    def move(self, done: int, rows: int) -> None:
        """Show that `done` of the total is done, and the number of rows read."""
        share, rate = f"{done / self._total:.0%}", self.rate(rows, "rows")
        if self._bar is not None:
            self._move_bar(done, f"{share} {rows:,} rows", rate=rate)
        elif 0 < done < self._total and self._is_due():
            self._print(f"{self._name} {share}: {rows:,} rows, {rate}, {self._left(done, self._total)} left")

    def finish(self) -> None:
        """Close the bar, or print the line of the last epoch if it is still unprinted.

        The last line is unprinted where training stopped early.
        """
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._unprinted is not None:
            self._print(self._unprinted)

    def say(self, line: str) -> None:
        """Print one line and write it to the log."""
        log.info(line)
        self._print(line)

    def rate(self, rows: int, unit: str = "samples") -> str:
        """Return the speed since the start, as a text with its unit."""
        seconds = self._clock() - self._began
        return f"{rows / seconds:,.0f} {unit}/s" if seconds > 0 else f"- {unit}/s"

    def _left(self, done: int, total: int) -> str:
        return duration((self._clock() - self._began) / done * (total - done))

    def _is_due(self) -> bool:
        return self._clock() - self._last_line >= self._every

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            print(line, file=self._file, flush=True)
        self._last_line, self._unprinted = self._clock(), None

    def _move_bar(self, completed: int, at: str, **fields: str) -> None:
        self._bar.update(self._task, completed=completed, at=at, **fields)

    def _open(self, name: str, total: int, at: str) -> None:
        self.finish()
        self._name, self._total, self._unprinted = name, total, None
        self._began = self._last_line = self._clock()
        if self._quiet or not self._file.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[at]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[scores]}", markup=False),
        )
        self._bar = Bar(*columns, console=Console(file=self._file), get_time=self._clock)
        self._task = self._bar.add_task(name, total=total, at=at, rate="", scores="")
        self._bar.start()
