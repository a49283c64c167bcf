"""Which settings differ between the rows of a table, and what each row has there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill_cli.reports.settings import differences, leaves
from distill_cli.reports.standings import Row

MOST = 10  # parameters; a sweep over losses changes every key of theirs
LOG_SPAN = 20  # largest over smallest from which an axis is logarithmic


@dataclass(frozen=True)
class Swept:
    """A setting that differs.

    Attributes:
        path: in the config.
        values: of each row, None where it has no such setting.
    """

    path: str
    values: Sequence[Any]

    @property
    def is_number(self) -> bool:
        """Whether every row that has it has a number."""
        return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values if v is not None)

    @property
    def is_logarithmic(self) -> bool:
        """Whether its numbers span so much that a logarithmic axis shows them better."""
        known = [v for v in self.values if v is not None]
        return self.is_number and min(known) > 0 and max(known) / min(known) >= LOG_SPAN


def swept(rows: Sequence[Row]) -> list[Swept]:
    """Return the settings that differ, what was typed first; what most rows lack comes last."""
    if len(rows) < 2:
        return []
    first = rows[0].runs[-1]
    configs = [dict(leaves(row.runs[-1].report.get("config") or {})) for row in rows]
    paths = list(dict.fromkeys(path for row in rows[1:] for path in differences(first, row.runs[-1])))
    typed = {str(o).lstrip("+~").split("=")[0] for row in rows for o in row.runs[-1].overrides or ()}
    found = [Swept(path, [config.get(path) for config in configs]) for path in paths]
    found.sort(key=lambda s: (s.path not in typed, sum(v is None for v in s.values)))
    return found[:MOST]


def shown(value: Any) -> str:
    """Return a setting as it is typed."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return str(value).rpartition(".")[2] if str(value).startswith("distill_cli.") else str(value)
