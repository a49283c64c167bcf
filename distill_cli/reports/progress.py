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

    >>> with Progress(quiet=True) as progress:
    ...     progress.start("teacher", epochs=3, rows_per_epoch=100)
    ...     progress.finish()

    Args:
        quiet: print nothing.
        file: where to; None is stderr.
        clock: seconds, for tests.
    """

    def __init__(self, quiet: bool = False, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = sys.stderr if file is None else file
        self._quiet = quiet
        self._clock = clock
        self._bar: Any = None
        self._task: Any = None
        self._model, self._epochs, self._rows_per_epoch = "", 0, 0
        self._done, self._began, self._said_at = 0, 0.0, 0.0
        self._best: str | None = None
        self._unsaid: str | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish()

    def start(self, model: str, epochs: int, rows_per_epoch: int) -> None:
        """Begin with a model that will see `epochs` x `rows_per_epoch` rows."""
        self.finish()
        self._model, self._epochs, self._rows_per_epoch = model, epochs, rows_per_epoch
        self._done, self._best, self._unsaid = 0, None, None
        self._began = self._said_at = self._clock()
        if not self._quiet and self._file.isatty():
            self._open_bar()

    def step(self, done_rows: int) -> None:
        """Move the bar to `done_rows` rows of the epoch that is under way."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done * self._rows_per_epoch + done_rows)

    def epoch(self, record: EpochRecord) -> None:
        """Take note of a finished epoch."""
        from distill_cli.types import ONLY_STAGE  # here: a table over runs needs no torch

        self._done += 1
        score = f"val macro_f1 {record.val['macro_f1']:.3f}" if "macro_f1" in record.val else ""
        if record.best and score:
            self._best = f"best {record.val['macro_f1']:.3f} (epoch {self._done})"
        said = ", ".join(part for part in (f"loss {record.loss:.4g}", score, self._best) if part)
        name = self._model if record.stage == ONLY_STAGE else f"{self._model} ({record.stage})"
        line = f"{name} {self._done}/{self._epochs}: {said}, {self._rate()}, {self._left()} left"
        log.info(line)
        if self._bar is not None:
            done, at = self._done * self._rows_per_epoch, f"{self._done}/{self._epochs}"
            self._bar.update(self._task, description=name, completed=done, epochs=at, said=said, rate=self._rate())
            return
        due = self._done in (1, self._epochs) or self._clock() - self._said_at >= SECONDS_BETWEEN_LINES
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
        if not self._quiet:
            print(line, file=self._file, flush=True)
        self._said_at, self._unsaid = self._clock(), None

    def _rate(self) -> str:
        seconds = self._clock() - self._began
        return f"{self._done * self._rows_per_epoch / seconds:,.0f} samples/s" if seconds > 0 else "- samples/s"

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
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[said]}", markup=False),
        )
        self._bar = Bar(*columns, console=Console(file=self._file), get_time=self._clock)
        total = self._epochs * self._rows_per_epoch
        self._task = self._bar.add_task(self._model, total=total, said="", rate="", epochs=f"0/{self._epochs}")
        self._bar.start()
