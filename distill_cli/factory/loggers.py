"""Loggers of a run's epochs.

They are the terminal and the loggers that the config names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.settings.build import Component
from distill_cli.errors import UserError
from distill_cli.loggers.logger import Logger
from distill_cli.types import EpochRecord


class LoggerCollection:
    """The loggers of one run.

    One that fails is reported and left out, since hours of training are worth more than a chart.

    Args:
        loggers: by name.
        say: prints a line.
    """

    def __init__(self, loggers: Mapping[str, Logger], say: Callable[[str], object]) -> None:
        self.loggers = dict(loggers)
        self.say = say

    def epoch(self, record: EpochRecord) -> None:
        """Hand on an epoch as it ends."""
        self._each(lambda logger: logger.epoch(record))

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Hand on all epochs and the report."""
        if records:
            self._each(lambda logger: logger.finish(records, report))

    def _each(self, do: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                do(logger)
            except UserError:
                raise
            except Exception as e:  # of whatever library
                self.say(f"logger.{name}: {' '.join(str(e).split()) or type(e).__name__}; it is left out from here on")
                del self.loggers[name]


def open_loggers(components: Mapping[str, Component], folder: Path, say: Callable[[str], object]) -> LoggerCollection:
    """Build the loggers of a run folder, by name, before anything is written.

    Raises:
        UserError: a package is missing.
    """
    return LoggerCollection(
        {name: instantiate_component(component, f"logger.{name}", folder=folder) for name, component in components.items()},
        say,
    )
