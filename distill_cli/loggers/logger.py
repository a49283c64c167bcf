"""Interface of a logger, and the numbers of an epoch by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from distill_cli.types import EpochRecord


class Logger(Protocol):
    """Logger of a run's epochs.

    ``__init__`` may take `folder`, the run folder, and writes nothing.
    """

    def epoch(self, record: EpochRecord) -> None:
        """Log an epoch of one of the run's models as it ends."""
        ...

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Finish the log with all epochs and the report.

        The epochs before an interruption are included.
        """
        ...


def numbers(record: EpochRecord) -> dict[str, float]:
    """Return an epoch's numbers by the column names of metrics.csv.

    Missing values are left out.
    """
    values: dict[str, float | None] = {"loss": record.loss, "lr": record.lr, "seconds": record.seconds}
    values |= {f"val.{name}": value for name, value in record.val.items()}
    values |= {f"term.{name}": value for name, value in record.loss_terms.items()}
    values |= {f"weight.{name}": value for name, value in record.weights.items()}
    if record.gradients is not None:
        values |= {f"share.{name}": value for name, value in record.gradients.shares.items()}
        values |= {f"cosine.{first}.{second}": value for (first, second), value in record.gradients.cosines.items()}
    return {name: value for name, value in values.items() if value is not None}


def unseen(records: Sequence[EpochRecord], seen: set[tuple[str, int]]) -> list[EpochRecord]:
    """Return the epochs that this process has not logged.

    They were trained before the run was resumed.
    """
    return [record for record in records if (record.model, record.epoch) not in seen]
