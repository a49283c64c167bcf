"""The data set, and which of its training rows are used, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from distill_cli.config.settings.build import Component, build


@dataclass(frozen=True)
class RowSelection:
    """How the training rows of a data set are used, whichever it is.

    Attributes:
        label_fraction: share of the training rows whose labels are used, 0 to 1.
        exclude_classes: classes that the student sees no rows of.
        unlabeled: a file of further rows without labels, or a data set of its own; None: none.
    """

    label_fraction: float = 1.0
    exclude_classes: tuple[Any, ...] = ()
    unlabeled: str | Component | None = None


SELECTION_KEYS = tuple(f.name for f in fields(RowSelection))


@dataclass(frozen=True)
class DatasetSettings:
    """A data set as a config names it.

    Attributes:
        component: class and arguments.
        rows: which of its training rows are used.
        resolved: the whole group of the config.
    """

    component: Component
    rows: RowSelection
    resolved: Mapping[str, Any]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DatasetSettings:
        """Return the settings of the group `dataset`.

        The values are untrusted where the config comes from a run folder.
        """
        component = {key: value for key, value in config.items() if key not in SELECTION_KEYS}
        rows = build(RowSelection, {**config, "exclude_classes": config.get("exclude_classes") or []})
        return cls(component, rows, dict(config))

    @property
    def split_seed(self) -> int | None:
        """Seed of the split and of the choice of labeled rows.

        None where the data set has none.
        """
        return self.component.get("split_seed")

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Columns of a table that are no features."""
        return tuple(str(name) for name in self.component.get("drop") or ())
