"""TensorBoard's event files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.files import safe_name
from distill_cli.loggers.logger import numbers, unseen
from distill_cli.types import EpochRecord

FOLDER = "tensorboard"


class TensorBoard:
    """Writes ``tensorboard/MODEL/`` as epochs end: the same names for all models, so that they share their charts.

    Args:
        folder: the run folder.

    Raises:
        UserError: the package is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise UserError("logger=tensorboard: needs the package tensorboard: pip install 'distill-cli[tensorboard]'") from None
        self.folder = folder
        self.writers: dict[str, Any] = {}
        self.seen: set[tuple[str, int]] = set()

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch's numbers at its last step."""
        from torch.utils.tensorboard import SummaryWriter

        name = safe_name(record.model)
        if name not in self.writers:
            self.writers[name] = SummaryWriter(str(self.folder / FOLDER / name))
        for tag, value in numbers(record).items():
            self.writers[name].add_scalar(tag, value, record.step)
        self.writers[name].flush()
        self.seen.add((record.model, record.epoch))

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Write the epochs that an earlier process made, and close the files."""
        for record in unseen(records, self.seen):
            self.epoch(record)
        for writer in self.writers.values():
            writer.close()
