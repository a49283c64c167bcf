"""What a logger is, and the numbers of an epoch by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from distill_cli.types import EpochRecord


class Logger(Protocol):
    """Keeps a run's epochs somewhere; ``__init__`` may take `folder`, the run folder, and writes nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Take an epoch of one of the run's models as it ends."""
        ...

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Take all epochs, those before a run was broken off and resumed included, and the report."""
        ...


def numbers(record: EpochRecord) -> dict[str, float]:
    """Return an epoch's numbers by the names of metrics.csv; what does not exist is left out."""
    found: dict[str, float | None] = {"loss": record.loss, "lr": record.lr, "seconds": record.seconds}
    found |= {f"val.{name}": value for name, value in record.val.items()}
    found |= {f"term.{name}": value for name, value in record.loss_terms.items()}
    found |= {f"weight.{name}": value for name, value in record.weights.items()}
    if record.gradients is not None:
        found |= {f"share.{name}": value for name, value in record.gradients.shares.items()}
        found |= {f"cosine.{one}.{other}": value for (one, other), value in record.gradients.cosines.items()}
    return {name: value for name, value in found.items() if value is not None}


def unseen(records: Sequence[EpochRecord], seen: set[tuple[str, int]]) -> list[EpochRecord]:
    """Return the epochs that this process has not been told of: those before it took up a run."""
    return [record for record in records if (record.model, record.epoch) not in seen]
