"""The settings that differ between the rows of a table, with their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_cli.config.option_names import class_name, target_name
from distill_cli.reports.sweep.settings import differences, leaves
from distill_cli.reports.sweep.table import Row

MOST = 10  # parameters; a sweep over losses changes every key of theirs
TARGET = "_target_"
LOG_SPAN = 20  # largest over smallest from which an axis is logarithmic


@dataclass(frozen=True)
class Swept:
    """A setting that differs between the rows.

    Attributes:
        path: path in the config; for a key of one option among several, the option's name replaces the group's (``dkd.beta``).
        values: value in each row, None where a row has no such setting.
    """

    path: str
    values: Sequence[Any]

    @property
    def is_number(self) -> bool:
        """Whether every value that is not None is a number."""
        return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values if v is not None)

    @property
    def is_logarithmic(self) -> bool:
        """Whether the values span enough for a logarithmic axis."""
        known = [v for v in self.values if v is not None]
        return self.is_number and min(known) > 0 and max(known) / min(known) >= LOG_SPAN


def swept(rows: Sequence[Row]) -> list[Swept]:
    """Return the settings that differ, typed ones first, rarely present ones last."""
    if len(rows) < 2:
        return []
    first = rows[0].runs[-1]
    configs = [dict(leaves(row.runs[-1].report.get("config") or {})) for row in rows]
    paths = list(dict.fromkeys(path for row in rows[1:] for path in differences(first, row.runs[-1])))
    typed = {str(o).lstrip("+~").split("=")[0] for row in rows for o in row.runs[-1].overrides or ()}
    axes = [axis for path in paths for axis in _axes(path, configs)]
    axes.sort(key=lambda s: (s.path not in typed, sum(v is None for v in s.values)))
    return axes[:MOST]


def _axes(path: str, configs: Sequence[Mapping[str, Any]]) -> list[Swept]:
    """Return the axes of a path: one, or one for each class whose values differ.

    Why: a key such as `beta` means another thing in another loss, so values of several classes never share an axis.
    """
    group, key = _group(path, configs)
    if group is None:
        return [Swept(path, [config.get(path) for config in configs])]
    targets = [_class_of(config, group) for config in configs]
    if key == TARGET:
        return [Swept(group, [None if target is None else target_name(target) for target in targets])]
    axes = []
    for target in dict.fromkeys(target for target in targets if target is not None):
        values = [config.get(path) if class_path == target else None for config, class_path in zip(configs, targets, strict=True)]
        if len({shown(value) for value in values if value is not None}) > 1:
            axes.append(Swept(f"{group.rpartition('.')[0]}.{target_name(target)}.{key}".lstrip("."), values))
    return axes


def _group(path: str, configs: Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
    """Return the innermost group above a path whose class differs, and the key in it.

    The group is None if no class above the path differs between the rows.
    """
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        group = ".".join(parts[:length])
        if len({_class_of(config, group) for config in configs}) > 1:
            return group, ".".join(parts[length:])
    return None, path


def _class_of(config: Mapping[str, Any], group: str) -> str | None:
    target = config.get(f"{group}.{TARGET}")
    return None if target is None else str(target)


def shown(value: Any) -> str:
    """Return the text of a setting's value as a user types it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return class_name(value) if str(value).startswith("distill_cli.") else str(value)
