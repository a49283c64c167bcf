"""Unlabeled rows from another source.

A student learns from a teacher's soft targets on them (Hinton et al. 2015, arXiv:1503.02531: the transfer set may consist of
unlabeled data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import array_fingerprint
from distill_cli.data.csv_columns import ColumnSpec, match_columns
from distill_cli.data.csv_reader import SUFFIXES, CsvReader
from distill_cli.data.leakage import row_hashes
from distill_cli.data.workers import is_decoded
from distill_cli.errors import UserError
from distill_cli.types import Columns, Dataset, Pool, Source
from distill_cli.utils.files import open_npy

UNKNOWN_LABEL = -1
GROUP = "unlabeled"
CHUNK = 8192
OPTION = "dataset.unlabeled"


class ConcatSource:
    """Two sources as one array ``[M1 + M2, *shape]``, without a copy.

    Args:
        first, second: arrays, which may be memory-mapped, with samples of one shape.
    """

    def __init__(self, first: Source, second: Source) -> None:
        self.parts = (first, second)
        self.shape = (len(first) + len(second), *first.shape[1:])
        self.ndim = len(self.shape)
        # Workers get a copy of their source; an array stays in this process.
        self.decodes = is_decoded(first) and is_decoded(second)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows at positions ``[B]`` as float32 ``[B, *shape]``."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        later = rows >= len(self.parts[0])
        out[~later] = self.parts[0][rows[~later]]
        out[later] = self.parts[1][rows[later] - len(self.parts[0])]
        return out


@dataclass(frozen=True)
class UnlabeledRows:
    """Rows that a student sees without a label.

    Attributes:
        name: description of the origin for reports.
        source: ``[M, *shape]`` features.
        rows: ``[N]`` positions of the rows in `source`.
        fingerprint: hash of the rows' content.
    """

    name: str
    source: Source
    rows: np.ndarray
    fingerprint: str


def read_unlabeled(
    path: str | Path, shape: Sequence[int], columns: Columns | None = None, drop: Sequence[str] = ()
) -> UnlabeledRows:
    """Read unlabeled rows from a file.

    ``.npy``: floats ``[N, *shape]``, which stay on disk. ``.csv``: one feature a column.

    Args:
        path: path of the file.
        shape: shape of one sample of the data set.
        columns: columns of the data set's table: a CSV's columns are matched by these names, without label and group; without
            names the columns are the values of a sample in order.
        drop: columns that the data set leaves out.

    Raises:
        UserError: no such file, another kind, another shape, no rows, or a value that is no finite number, with its row.
    """
    path, shape = Path(path), tuple(shape)
    where = f"{OPTION}={path}"
    is_table = path.name.endswith(SUFFIXES)
    if path.suffix != ".npy" and not is_table:
        raise UserError(f"{where}: expected a .npy or .csv file, or a data set (+dataset@{OPTION}=OPTION)")
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    x = _read_csv(path, where, shape, columns, drop) if is_table else _read_npy(path, where, shape)
    if not len(x):
        raise UserError(f"{where}: holds no rows")
    for start in range(0, len(x), CHUNK):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(x[start : start + CHUNK], dtype=np.float32).reshape(-1)))
        if len(wrong):
            row, feature = divmod(int(wrong[0]), int(np.prod(shape, dtype=np.int64)))
            raise UserError(
                f"{where}: row {start + row} (counted from 0) holds NaN or an infinite value at feature {feature}; "
                "fill it or leave the row out"
            )
    return UnlabeledRows(f"file {path}", x, np.arange(len(x)), array_fingerprint(x))


def _read_npy(path: Path, where: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        x = open_npy(path)
    except ValueError:
        raise UserError(f"{where}: not a plain .npy array") from None
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        raise UserError(
            f"{where}: an array of {list(x.shape)}; the data has samples of shape {shape}, so [N, *shape] is expected"
        )
    if x.dtype.kind != "f":
        raise UserError(f"{where}: holds {x.dtype}; floats are expected, scaled as the data set scales its own")
    return x


def _read_csv(path: Path, where: str, shape: tuple[int, ...], columns: Columns | None, drop: Sequence[str]) -> np.ndarray:
    features, metadata = (columns.features, columns.metadata) if columns else ((), ())
    spec = ColumnSpec(shape, features, (*metadata, *drop), owner="the data")
    reader = CsvReader(path, where=where, known_names=spec.known_names)
    positions = match_columns(reader, spec)
    return np.concatenate([chunk.numbers for chunk in reader.chunks(positions)]).reshape(-1, *shape)


def from_dataset(dataset: Dataset, shape: Sequence[int]) -> UnlabeledRows:
    """Return all training rows of another data set, without their labels.

    Raises:
        UserError: the samples have another shape.
    """
    if dataset.input_shape != tuple(shape):
        raise UserError(f"{OPTION}: {dataset.name} has samples of shape {dataset.input_shape}, the data {tuple(shape)}")
    return UnlabeledRows(f"data set {dataset.name}", dataset.train.source, dataset.train.rows, dataset.fingerprint)


def append_unlabeled(pool: Pool, extra: UnlabeledRows, dataset: Dataset) -> Pool:
    """Return a training pool with unlabeled rows appended.

    Their ids follow all ids of the data set.

    Args:
        pool: training rows of the student.
        extra: unlabeled rows to append.
        dataset: data set of `pool`.
    """
    count = len(extra.rows)
    first_id = max(len(pool.source), *(int(p.index.max()) + 1 for p in dataset.pools.values()))
    return Pool(
        source=ConcatSource(pool.source, extra.source),
        rows=np.concatenate([pool.rows, len(pool.source) + extra.rows]),
        y=np.concatenate([pool.y, np.full((count, *pool.y.shape[1:]), UNKNOWN_LABEL)]),
        index=np.concatenate([pool.index, first_id + np.arange(count)]),
        group=None if pool.group is None else np.concatenate([pool.group.astype(str), np.full(count, GROUP)]),
        labeled=np.concatenate([pool.labeled, np.zeros(count, dtype=bool)]),
        extra_fingerprint=extra.fingerprint,
    )


def count_duplicates(extra: UnlabeledRows, dataset: Dataset) -> dict[str, int]:
    """Return how many of the rows equal rows of each scored split.

    Equal to the last bit.
    """
    own = row_hashes(replace(dataset.train, source=extra.source, rows=extra.rows))
    return {name: int(np.isin(own, row_hashes(pool)).sum()) for name, pool in dataset.pools.items() if name != "train"}
