"""metrics.csv: one row an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_cli.reports.cells import spreadsheet_cell

if TYPE_CHECKING:
    from distill_cli.types import EpochRecord

VALIDATION = ("macro_f1", "accuracy", "nll")


def epochs_csv(records: Sequence[EpochRecord]) -> str:
    """Return the epochs of all models as csv.

    Columns: model, stage, epoch, step, lr, loss, ``term.<name>`` for each term of any model, ``val.macro_f1``, ``val.accuracy``,
    ``val.nll``, seconds, best (1 or 0). A cell is empty where a model has no such term.
    """
    terms = list(dict.fromkeys(name for record in records for name in record.terms))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"term.{name}" for name in terms]
    writer.writerow(
        ["model", "stage", "epoch", "step", "lr", "loss", *names, *(f"val.{k}" for k in VALIDATION), "seconds", "best"]
    )
    for r in records:
        head = [spreadsheet_cell(r.model), spreadsheet_cell(r.stage), r.epoch, r.step, r.lr, r.loss]
        parts = [r.terms.get(name, "") for name in terms] + [r.val.get(key, "") for key in VALIDATION]
        writer.writerow([*head, *parts, r.seconds, int(r.best)])
    return out.getvalue()
