"""metrics.csv in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.reports.run.metrics_csv import epochs_csv
from distill_cli.types import EpochRecord
from distill_cli.utils import files


class Csv:
    """Logger of ``metrics.csv``.

    The file is written when all epochs are done, since its columns follow from all of them.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def epoch(self, record: EpochRecord) -> None:
        """Do nothing."""

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Write the file."""
        files.write_text(self.folder / "metrics.csv", epochs_csv(records))
