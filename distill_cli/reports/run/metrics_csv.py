"""The file metrics.csv: one row for each epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_cli.errors import UserError
from distill_cli.reports.formatting import spreadsheet_cell

if TYPE_CHECKING:
    from distill_cli.types import EpochRecord


def epochs_csv(records: Sequence[EpochRecord]) -> str:
    """Return the epochs of all models as CSV text.

    Columns: model, stage, epoch, step, lr, loss, ``term.<name>`` (weighted) for each term of any model, ``weight.<name>`` where a
    weight changes within a stage, ``share.<name>`` and ``cosine.<name>.<name>`` where gradients were measured,
    ``val.<metric>`` for each metric of the task, seconds, best (1 or 0). A cell is empty where there is no such value.
    """
    terms = list(dict.fromkeys(name for record in records for name in record.loss_terms))
    validation = list(dict.fromkeys(name for record in records for name in record.val))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    scheduled = [name for name in terms if moves(records, name)]
    pulls = [record.gradients for record in records if record.gradients is not None]
    measured = list(dict.fromkeys(name for pull in pulls for name in pull.shares))
    pairs = list(dict.fromkeys(pair for pull in pulls for pair in pull.cosines))
    names = [
        *(f"term.{name}" for name in terms), *(f"weight.{name}" for name in scheduled), *(f"share.{name}" for name in measured),
        *(f"cosine.{first_term}.{second_term}" for first_term, second_term in pairs),
    ]  # fmt: skip
    writer.writerow(
        ["model", "stage", "epoch", "step", "lr", "loss", *names, *(f"val.{k}" for k in validation), "seconds", "best"]
    )
    for r in records:
        head = [spreadsheet_cell(r.model), spreadsheet_cell(r.stage), r.epoch, r.step, r.lr, r.loss]
        parts: list[float | None] = [r.loss_terms.get(name) for name in terms]
        parts += [r.weights.get(name) for name in scheduled]
        parts += [r.gradients.shares.get(name) if r.gradients else None for name in measured]
        parts += [r.gradients.cosines.get(pair) if r.gradients else None for pair in pairs]
        parts += [r.val.get(key) for key in validation]
        writer.writerow([*head, *("" if part is None else part for part in parts), r.seconds, int(r.is_best)])
    return out.getvalue()


def epochs_of(path: Path, model: str, name: str) -> str | None:
    """Return the rows of one model in a metrics.csv as CSV text, or None.

    Args:
        path: a metrics.csv.
        model: name of the model in the file.
        name: name of the model in the result.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as f:
            header, *rows = list(csv.reader(f)) or [[]]
    except (OSError, ValueError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as metrics ({e}); the run is damaged") from None
    model_rows = [[spreadsheet_cell(name), *row[1:]] for row in rows if row and row[0] == spreadsheet_cell(model)]
    if header[:1] != ["model"] or not model_rows:
        return None
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *model_rows])
    return out.getvalue()


def moves(records: Sequence[EpochRecord], name: str) -> bool:
    """Return whether a term's weight changes within any stage."""
    seen: dict[tuple[str, str], set[float]] = {}
    for record in records:
        if name in record.weights:
            seen.setdefault((record.model, record.stage), set()).add(record.weights[name])
    return any(len(values) > 1 for values in seen.values())
