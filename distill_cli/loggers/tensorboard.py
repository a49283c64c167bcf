"""TensorBoard event files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.loggers.logger import numbers
from distill_cli.types import EpochRecord
from distill_cli.utils.files import remove, safe_name

FOLDER = "tensorboard"


class TensorBoard:
    """Logger of ``tensorboard/MODEL/`` as epochs end.

    All models use the same names, so that they share their charts.

    Of a resumed run, the files of the earlier processes stay until the end; then all files are rewritten, so that they hold
    each epoch once.

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
        self.resumed = False

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch's numbers at its last step."""
        from torch.utils.tensorboard import SummaryWriter

        if not self.writers:
            self.resumed = self.resumed or (self.folder / FOLDER).is_dir()
        name = safe_name(record.model)
        if name not in self.writers:
            self.writers[name] = SummaryWriter(str(self.folder / FOLDER / name))
        for tag, value in numbers(record).items():
            self.writers[name].add_scalar(tag, value, record.step)
        self.writers[name].flush()

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Close the files, and rewrite them where an earlier process has started them."""
        self.resumed = self.resumed or not self.writers  # all trainings were finished before
        for writer in self.writers.values():
            writer.close()
        if self.resumed:
            remove([self.folder / FOLDER])
            self.writers = {}
            for record in records:
                self.epoch(record)
            for writer in self.writers.values():
                writer.close()
