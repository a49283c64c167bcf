"""Leakage: overlap of a teacher's training rows with the student's scored rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill_cli.data.arrays import compared_as_numbers
from distill_cli.types import Dataset, Pool

SHOWN = 3


@dataclass(frozen=True)
class TrainRecord:
    """Hashes and ids of a model's training rows, stored with the model.

    Attributes:
        source_fingerprint: fingerprint of the rows' data set; empty where the rows are from several, which are compared by
            content.
        index: ``[N]`` int64 sample ids.
        groups: distinct group names, or None where the data had none.
        row_hashes: ``[N]`` uint64 content hashes.
    """

    source_fingerprint: str
    index: np.ndarray
    groups: list[str] | None
    row_hashes: np.ndarray


def row_hashes(pool: Pool) -> np.ndarray:
    """Return a 64-bit content hash (BLAKE2b) of each float32 row, uint64 ``[N]``."""
    rows = (row for x in pool.iter_batches() for row in x.astype("<f4", copy=False).reshape(len(x), -1))
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), dtype="<u8")


def record_training_rows(pool: Pool, dataset: Dataset) -> TrainRecord:
    """Return the ids and hashes of the training rows, for later leakage checks.

    Unlabeled rows from elsewhere may be rows of this data set under other ids, so with them the source is unknown.
    """
    groups = None if pool.group is None else [str(g) for g in np.unique(pool.group)]
    source = "" if pool.extra_fingerprint else dataset.source_fingerprint
    return TrainRecord(source, pool.index, groups, row_hashes(pool))


def merge_records(records: Sequence[TrainRecord]) -> TrainRecord:
    """Return the record of several models together.

    The record holds all their training rows and groups.

    Where their sources differ the source is unknown.
    """
    sources = {record.source_fingerprint for record in records}
    index = np.concatenate([record.index for record in records])
    hashes = np.concatenate([record.row_hashes for record in records])
    _, first = np.unique(index if len(sources) == 1 else hashes, return_index=True)
    groups = [record.groups for record in records if record.groups is not None]
    known = sorted({name for names in groups for name in names}) if groups else None
    return TrainRecord(sources.pop() if len(sources) == 1 else "", index[first], known, hashes[first])


def find_overlap(record: TrainRecord, dataset: Dataset) -> str | None:
    """Return a message on the overlap with validation or test rows, or None.

    Compared are the teacher's training rows and patients with those of the student's validation and test rows.

    Rows are compared by id when both come from the same source, else by content: exact float32 equality, so that the same
    beat cut with other settings is not detected. Patients are compared where the student's splits keep them apart. An overlap of
    the student's own training rows with its validation and test rows is a property of the split, and is not reported as leakage
    by the teacher.
    """
    return next(_overlaps(record, dataset), None)


def trained_on(record: TrainRecord, pools: Mapping[str, Pool]) -> dict[str, int]:
    """Return how many rows of each pool are among a model's training rows.

    Compared by content; pools without such rows are left out.

    Exact float32 equality: sample ids cannot be compared across data sets, or with the same file in another order.
    """
    counts = {split: int(np.isin(row_hashes(pool), record.row_hashes).sum()) for split, pool in pools.items()}
    return {split: n for split, n in counts.items() if n}


def _overlaps(record: TrainRecord, dataset: Dataset) -> Iterator[str]:
    scored = {k: p for k, p in dataset.pools.items() if k != "train"}
    same_source = record.source_fingerprint == dataset.source_fingerprint
    own = row_hashes(dataset.train) if not same_source else record.row_hashes
    for split, pool in scored.items():
        if same_source:
            seen = np.isin(pool.index, record.index)
        else:
            hashes = row_hashes(pool)
            seen = np.isin(hashes, record.row_hashes) & ~np.isin(hashes, own)
        if seen.any():
            rows = "row" if seen.sum() == 1 else "rows"
            yield f"its training rows hold {seen.sum()} {rows} of the student's {split} split (row ids {_join(pool.index[seen])})"
    if not dataset.grouped or record.groups is None or dataset.train.group is None:
        return
    groups = {split: pool.group.astype(str) for split, pool in dataset.pools.items() if pool.group is not None}
    everyone = np.concatenate([np.array(record.groups, dtype=str), *groups.values()])
    parts = np.split(compared_as_numbers(everyone)[0], np.cumsum([len(record.groups), *map(len, groups.values())])[:-1])
    known, names_of = set(parts[0].tolist()), dict(zip(groups, (set(part.tolist()) for part in parts[1:]), strict=True))
    for split in scored:
        names = sorted((known - names_of["train"]) & names_of.get(split, set()))
        if names:
            yield f"its training rows hold patients of the student's {split} split ({_join(names)})"


def duplicate_notes(dataset: Dataset) -> list[str]:
    """Return a note on each scored split with rows that equal training rows.

    Equal to the last bit.
    """
    train, notes = row_hashes(dataset.train), []
    for split, pool in dataset.pools.items():
        n = 0 if split == "train" else int(np.isin(row_hashes(pool), train).sum())
        if n:
            are = "is" if n == 1 else "are"
            notes.append(f"{n:,} of {len(pool):,} rows of {split} {are} equal to training rows: they may be known by heart")
    return notes


def _join(items: np.ndarray | list[str]) -> str:
    return ", ".join(str(i) for i in items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")
