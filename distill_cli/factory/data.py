"""Settings -> the data set, and which of its rows each model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.settings.build import Component
from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.data.label_fraction import drop_classes, mask_labels
from distill_cli.data.leakage import duplicate_notes
from distill_cli.data.unlabeled import append_unlabeled, count_duplicates, from_dataset, read_unlabeled
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError
from distill_cli.factory.task import with_task
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.types import Columns, DataFacts, Dataset, Pool


def load_dataset(settings: DatasetSettings, columns: Columns | None = None, task: Task | None = None) -> Dataset:
    """Build and check a data set.

    Args:
        settings: which.
        columns: names that a finished model knows its features by; a table is then read in their order.
        task: what is learned; None: what the data set is for.
    """
    passed: dict[str, Any] = {} if columns is None else {"columns": columns}
    if task is not None:
        passed["task"] = task.name
    dataset = instantiate_component(settings.component, "dataset", **passed)
    if not isinstance(dataset, Dataset):
        target = settings.component.get("_target_")
        raise UserError(f"dataset._target_={target}: returned {type(dataset).__name__}, expected a Dataset")
    dataset = with_task(dataset, task)
    check_dataset(dataset)
    return dataset


def teacher_pool(dataset: Dataset, settings: DatasetSettings, fraction: float | None) -> Pool:
    """Return the teacher's training rows: all classes, those with a label."""
    pool = _with_labels(dataset, settings, settings.rows.label_fraction if fraction is None else fraction)
    return pool.select(pool.labeled)


def student_pool(dataset: Dataset, settings: DatasetSettings) -> Pool:
    """Return the student's training rows, labeled or not.

    Rows of the classes left out on purpose are missing.
    """
    if settings.rows.exclude_classes and not find_task(dataset.task).has_classes:
        raise UserError(f"dataset.exclude_classes: task={dataset.task} has no classes that could be left out; drop it")
    pool = _with_labels(dataset, settings, settings.rows.label_fraction)
    return drop_classes(pool, dataset.class_names, list(settings.rows.exclude_classes))


@dataclass(frozen=True)
class TransferSet:
    """What a student learns from.

    Attributes:
        pool: its training rows, then those of ``dataset.unlabeled``.
        unlabeled: what the report says of the latter; None where there are none.
    """

    pool: Pool
    unlabeled: dict[str, Any] | None = None

    @property
    def notes(self) -> list[str]:
        """What a reader must know of rows that are scored as well."""
        equal = (self.unlabeled or {}).get("equal_rows", {})
        return [
            f"{n} of the unlabeled rows {'is' if n == 1 else 'are'} equal to rows of {split}: the student has seen inputs "
            "that it is scored on, though not their labels"
            for split, n in equal.items()
            if n
        ]


def build_transfer_set(dataset: Dataset, settings: DatasetSettings) -> TransferSet:
    """Return the rows of a student.

    They are those of the data set and those of ``dataset.unlabeled``.
    """
    pool, source = student_pool(dataset, settings), settings.rows.unlabeled
    if source is None:
        return TransferSet(pool)
    shape = dataset.input_shape
    if isinstance(source, str):
        extra = read_unlabeled(source, shape, dataset.columns, list(settings.dropped_columns))
    else:
        extra = from_dataset(_load_unlabeled(source, dataset.columns), shape)
    about = {"source": extra.name, "rows": len(extra.rows), "fingerprint": extra.fingerprint}
    return TransferSet(append_unlabeled(pool, extra, dataset), {**about, "equal_rows": count_duplicates(extra, dataset)})


def _load_unlabeled(source: Component, columns: Columns | None) -> Dataset:
    try:
        return load_dataset(DatasetSettings.from_config(source), columns)
    except UserError as e:
        raise UserError(f"dataset.unlabeled: {e}") from None


def _with_labels(dataset: Dataset, settings: DatasetSettings, fraction: float) -> Pool:
    strata = find_task(dataset.task).strata(dataset.train.y)
    return mask_labels(dataset.train, fraction, settings.split_seed or 0, strata)


def data_facts(pool: Pool, dataset: Dataset) -> DataFacts:
    """Return what losses may know of a training pool."""
    counts = find_task(dataset.task).part_counts(pool.y[pool.labeled], len(dataset.class_names))
    return DataFacts(dataset.input_shape, tuple(int(n) for n in counts), len(pool))


def data_section(dataset: Dataset, settings: DatasetSettings) -> dict[str, Any]:
    """Return the report's `data` section."""
    task, counts = find_task(dataset.task), {}
    for name, pool in dataset.pools.items():
        numbers = task.part_counts(pool.y, len(dataset.class_names))
        counts[name] = {label: int(n) for label, n in zip(dataset.class_names, numbers, strict=True)}
    return {
        "name": dataset.name,
        "split": dataset.split,
        "split_seed": settings.split_seed,
        "label_fraction": settings.rows.label_fraction,
        "exclude_classes": list(settings.rows.exclude_classes),
        "class_names": list(dataset.class_names),
        "averaged": [dataset.class_names[c] for c in dataset.macro_classes],
        "class_counts": counts,
        **({} if task.has_classes else {"rows": {name: len(pool) for name, pool in dataset.pools.items()}}),
        "fingerprint": dataset.fingerprint,
        "source_fingerprint": dataset.source_fingerprint,
        "input_shape": list(dataset.input_shape),
        "files": [list(file) for file in dataset.files],
        "notes": [*dataset.notes, *duplicate_notes(dataset)],
    }
