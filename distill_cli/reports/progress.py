"""How far training is, on stderr: a bar on a terminal, else a plain line now and then; every epoch goes to the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from distill_cli.reports.cells import duration

if TYPE_CHECKING:
    from distill_cli.types import EpochRecord

SECONDS_BETWEEN_LINES = 5.0
log = logging.getLogger(__name__)


class Progress:
    """Follows one model after the other; `epoch` is an `EpochListener`.

    >>> with Progress("quiet") as progress:
    ...     progress.start("teacher", epochs=3, rows_per_epoch=100)
    ...     progress.finish()

    Args:
        level: ``quiet`` prints nothing, ``verbose`` a line each epoch, with every term; else ``normal``.
        every: seconds between lines off a terminal.
        file: where to; None is stderr.
        clock: seconds, for tests.
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
        self._model, self._epochs, self._rows_per_epoch, self._steps = "", 0, 0, 1
        self._done, self._began, self._said_at = 0, 0.0, 0.0
        self._best: str | None = None
        self._unsaid: str | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish()

    def start(self, model: str, epochs: int, rows_per_epoch: int, steps_per_epoch: int = 1) -> None:
        """Begin with a model that will see `epochs` x `rows_per_epoch` rows, in so many steps an epoch."""
        self.finish()
        self._model, self._epochs, self._rows_per_epoch, self._steps = model, epochs, rows_per_epoch, steps_per_epoch
        self._done, self._best, self._unsaid = 0, None, None
        self._began = self._said_at = self._clock()
        if not self._quiet and self._file.isatty():
            self._open_bar()

    def step(self, done_rows: int) -> None:
        """Move the bar to `done_rows` rows of the epoch that is under way; off a terminal a long epoch has lines of its own."""
        rows = self._done * self._rows_per_epoch + done_rows
        step = f"step {rows * self._steps // max(1, self._rows_per_epoch):,}/{self._epochs * self._steps:,}"
        if self._bar is not None:
            self._bar.update(self._task, completed=rows, step=step)
        elif self._clock() - self._said_at >= self._every:
            at = f"{self._model} {self._done + 1}/{self._epochs}: {step}, {self._rate(rows)}"
            self._print(", ".join(part for part in (at, self._best) if part))

    def epoch(self, record: EpochRecord) -> None:
        """Take note of a finished epoch."""
        from distill_cli.types import ONLY_STAGE  # here: a table over runs needs no torch

        self._done += 1
        score = f"val macro_f1 {record.val['macro_f1']:.3f}" if "macro_f1" in record.val else ""
        if record.best and score:
            self._best = f"best {record.val['macro_f1']:.3f} (epoch {self._done})"
        loss = f"loss {record.loss:.4g}"
        if len(record.terms) > 1 or self._verbose:
            loss += f" ({', '.join(f'{term} {value:.4g}' for term, value in record.terms.items())})"
        said = ", ".join(part for part in (loss, score, self._best) if part)
        name = self._model if record.stage == ONLY_STAGE else f"{self._model} ({record.stage})"
        line = f"{name} {self._done}/{self._epochs}: {said}, {self._rate()}, {self._left()} left"
        log.info(line)
        if self._bar is not None:
            done, at = self._done * self._rows_per_epoch, f"{self._done}/{self._epochs}"
            step = f"step {self._done * self._steps:,}/{self._epochs * self._steps:,}"
            self._bar.update(self._task, description=name, completed=done, epochs=at, step=step, said=said, rate=self._rate())
            if self._verbose:
                self._print(line)
            return
        due = self._verbose or self._done in (1, self._epochs) or self._clock() - self._said_at >= self._every
        if due:
            self._print(line)
        else:
            self._unsaid = line

    def finish(self) -> None:
        """End the model's bar, or print the last epoch's line if it was kept back (training stopped early)."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._unsaid is not None:
            self._print(self._unsaid)

    def say(self, line: str) -> None:
        """Print one line and keep it in the log."""
        log.info(line)
        self._print(line)

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            print(line, file=self._file, flush=True)
        self._said_at, self._unsaid = self._clock(), None

    def _rate(self, rows: int | None = None) -> str:
        seconds = self._clock() - self._began
        rows = self._done * self._rows_per_epoch if rows is None else rows
        return f"{rows / seconds:,.0f} samples/s" if seconds > 0 else "- samples/s"

    def _left(self) -> str:
        return duration((self._clock() - self._began) / self._done * (self._epochs - self._done))

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[epochs]}"),
            TextColumn("{task.fields[step]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[said]}", markup=False),
        )
        self._bar = Bar(*columns, console=Console(file=self._file), get_time=self._clock)
        total = self._epochs * self._rows_per_epoch
        self._task = self._bar.add_task(self._model, total=total, said="", rate="", step="", epochs=f"0/{self._epochs}")
        self._bar.start()
