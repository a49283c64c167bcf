"""Config -> the data set, and which of its rows each model learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.instantiate import instantiate_component
from distill_cli.data.label_fraction import drop_classes, mask_labels
from distill_cli.data.leakage import duplicate_notes
from distill_cli.data.unlabeled import append_unlabeled, count_duplicates, from_dataset, read_unlabeled
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError
from distill_cli.factory.task import with_task
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.types import Columns, DataFacts, Dataset, Pool

# Keys of every data set that say how its training rows are used, not what they are.
SUBSET_KEYS = ("label_fraction", "transfer_exclude", "unlabeled")


def load_dataset(node: Mapping[str, Any], columns: Columns | None = None, task: Task | None = None) -> Dataset:
    """Build and check the data set of a config node.

    Args:
        node: of the config.
        columns: names that a finished model knows its features by; a table is then read in their order.
        task: what is learned; None: what the data set is for.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    settings = {key: value for key, value in plain.items() if key not in SUBSET_KEYS}
    dataset = instantiate_component(
        settings, "dataset", **({} if columns is None else {"columns": columns}), **({} if task is None else {"task": task.name})
    )
    if not isinstance(dataset, Dataset):
        raise UserError(f"dataset._target_={settings.get('_target_')}: returned {type(dataset).__name__}, expected a Dataset")
    dataset = with_task(dataset, task)
    check_dataset(dataset)
    return dataset


def teacher_pool(dataset: Dataset, node: Mapping[str, Any], fraction: float | None) -> Pool:
    """Return the teacher's training rows: all classes, those with a label."""
    labelled = _labelled(dataset, node, fraction)
    return labelled.select(labelled.labeled)


def student_pool(dataset: Dataset, node: Mapping[str, Any]) -> Pool:
    """Return the student's training rows, labelled or not, less the classes left out on purpose."""
    if node.get("transfer_exclude") and not find_task(dataset.task).has_classes:
        raise UserError(f"dataset.transfer_exclude: task={dataset.task} has no classes that could be left out; drop it")
    return drop_classes(_labelled(dataset, node, None), dataset.class_names, list(node.get("transfer_exclude") or []))


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


def build_transfer_set(dataset: Dataset, node: Mapping[str, Any]) -> TransferSet:
    """Return the rows of a student: those of the data set, and those of ``dataset.unlabeled``."""
    pool, wanted = student_pool(dataset, node), node.get("unlabeled")
    if wanted is None:
        return TransferSet(pool)
    shape = dataset.input_shape
    if isinstance(wanted, str):
        extra = read_unlabeled(wanted, shape, dataset.columns, [str(name) for name in node.get("drop") or ()])
    else:
        extra = from_dataset(_load_other(wanted, dataset.columns), shape)
    about = {"source": extra.name, "rows": len(extra.rows), "fingerprint": extra.fingerprint}
    return TransferSet(append_unlabeled(pool, extra, dataset), {**about, "equal_rows": count_duplicates(extra, dataset)})


def _load_other(node: Mapping[str, Any], columns: Columns | None) -> Dataset:
    try:
        return load_dataset(node, columns)
    except UserError as e:
        raise UserError(f"dataset.unlabeled: {e}") from None


def _labelled(dataset: Dataset, node: Mapping[str, Any], fraction: float | None) -> Pool:
    fraction = node.get("label_fraction", 1.0) if fraction is None else fraction
    strata = find_task(dataset.task).strata(dataset.train.y)
    return mask_labels(dataset.train, fraction, int(node.get("split_seed", 0)), strata)


def data_facts(pool: Pool, dataset: Dataset) -> DataFacts:
    """Return what losses may know of a training pool."""
    counts = find_task(dataset.task).part_counts(pool.y[pool.labeled], len(dataset.class_names))
    return DataFacts(dataset.input_shape, tuple(int(n) for n in counts), len(pool))


def data_section(dataset: Dataset, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report's `data` section."""
    task, counts = find_task(dataset.task), {}
    for name, pool in dataset.pools.items():
        numbers = task.part_counts(pool.y, len(dataset.class_names))
        counts[name] = {label: int(n) for label, n in zip(dataset.class_names, numbers, strict=True)}
    return {
        "name": dataset.name,
        "split": dataset.split,
        "split_seed": node.get("split_seed"),
        "label_fraction": node.get("label_fraction", 1.0),
        "transfer_exclude": list(node.get("transfer_exclude") or []),
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
