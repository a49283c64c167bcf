"""Teachers that were not trained by this tool.

They come as weights, or as outputs by row id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from distill_cli.config.settings.teacher import FromLogits, FromWeights
from distill_cli.data.arrays import compared_as_numbers, is_whole, named_class, number_name
from distill_cli.data.csv_reader import SUFFIXES, CsvReader
from distill_cli.errors import UserError
from distill_cli.models.classifier import Classifier, ReorderClasses
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.teachers.weight_files import read_weights
from distill_cli.types import Dataset
from distill_cli.utils import files

ROW = "row"
KINDS = ("logits", "probabilities")
# Below the smallest float32 probability: a teacher's zeros stay finite logits.
LEAST_PROBABILITY = 1e-38


def load_weights(settings: FromWeights, dataset: Dataset) -> tuple[Classifier, ModelSpec, str]:
    """Build ``teacher.model`` and load the weights of ``teacher.weights`` into it.

    Input statistics (``teacher.preprocessing=standardize``) are those of the training rows here.

    Returns:
        The model, how it is built, and in words how the file was read.
    """
    spec = ModelSpec.of_data(settings.model.model, settings.model.preprocessing, dataset)
    if settings.class_order is not None:
        spec = replace(spec, class_order=tuple(_order(settings.class_order, dataset)))
    model = build_model(spec, "teacher.model")
    network = model.network.network if isinstance(model.network, ReorderClasses) else model.network
    reading = read_weights(settings.file, network, settings.weights_key, settings.rename or {})
    layout.load_weights(network, reading.tensors, f"teacher.weights={settings.file}")
    model.fit_preprocessing(dataset.train)
    return model.eval(), spec, reading.described


def _order(names: Sequence[Any], dataset: Dataset) -> list[int]:
    texts = [named_class(str(name), dataset.class_names) or str(name) for name in names]
    if sorted(texts) != sorted(dataset.class_names):
        raise UserError(
            f"teacher.class_order={texts}: expected the data's classes {list(dataset.class_names)} in the teacher's order"
        )
    return [texts.index(name) for name in dataset.class_names]


def load_outputs(settings: FromLogits, dataset: Dataset, *, more_rows: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return row ids ``[N]`` and logits ``[N, C]`` of an external teacher.

    Logits are in the data's class order.

    Args:
        settings: the file, and what it holds.
        dataset: whose rows the outputs are of.
        more_rows: whether rows may follow that are no part of the data set (``dataset.unlabeled``).

    Raises:
        UserError: missing, of another width, not finite, of rows that the data set lacks, or no probabilities where they are
            said to be.
    """
    path, kind = settings.file, settings.kind
    where = f"teacher.logits_file={path}"
    if kind not in KINDS:
        raise UserError(f"teacher.logits_kind={kind}: expected {' or '.join(KINDS)}")
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    classes = len(dataset.class_names)
    is_table = path.name.endswith(SUFFIXES)
    index, values = _read_csv(path, where, dataset) if is_table else _read_npy(path, where, classes)
    if not more_rows:
        _check_rows(index, dataset, where, every=not is_table)
    if not is_table and settings.class_order is not None:
        values = values[:, _order(settings.class_order, dataset)]
    if not np.isfinite(values).all():
        raise UserError(f"{where}: row {index[~np.isfinite(values).all(axis=1)][0]} is not finite")
    if kind == "logits":
        return index, values.astype(np.float32)
    if (values < 0).any() or (np.abs(values.sum(axis=1) - 1) > 1e-3).any():
        raise UserError(
            f"{where}: not probabilities (each row must be >= 0 and sum to 1); say teacher.logits_kind=logits if they are logits"
        )
    return index, log_softmax(np.log(np.maximum(values, LEAST_PROBABILITY)), axis=1).astype(np.float32)


def _check_rows(index: np.ndarray, dataset: Dataset, where: str, *, every: bool) -> None:
    """Check by row ids that outputs belong to the data set.

    All rows must be covered (`every`), or some.
    """
    ids = np.unique(np.concatenate([pool.index for pool in dataset.pools.values()]))
    if len(ids) != ids[-1] + 1:  # rows were left out of this data set (beats at a record's end), and may have outputs
        return
    if every and len(index) != len(ids):
        raise UserError(f"{where}: has {len(index):,} rows, the data set {len(ids):,}; it needs one row for each, by row id")
    if len(index) and index.max() > ids[-1]:
        raise UserError(f"{where}: has row {index.max()}, and the data set's rows are 0 to {ids[-1]}; are these of another one?")


def _read_npy(path: Path, where: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        values = files.open_npy(path)
    except ValueError:
        raise UserError(f"{where}: not a plain .npy array") from None
    if values.ndim != 2 or values.shape[1] != classes or not np.issubdtype(values.dtype, np.number):
        raise UserError(f"{where}: expected an array of [rows, {classes}], found {list(values.shape)} of {values.dtype}")
    return np.arange(len(values)), np.asarray(values, dtype=np.float64)


def _read_csv(path: Path, where: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    reader = CsvReader(path, where=where, header=True)
    names = {number_name(name) or name: i for i, name in reversed(list(enumerate(reader.columns)))}
    names |= {name: i for i, name in reversed(list(enumerate(reader.columns)))}
    lacking = [name for name in (ROW, *dataset.class_names) if name not in names]
    if lacking:
        raise UserError(f"{where}: lacks the column '{lacking[0]}'; it needs '{ROW}' and one column a class")
    ids, classes = names[ROW], [names[name] for name in dataset.class_names]
    chunks = list(reader.chunks(classes, {ids: _row_id_error}, dtype=np.float64))
    texts, _ = compared_as_numbers(np.concatenate([chunk.texts[ids] for chunk in chunks]))
    index = texts.astype(np.int64)
    if len(np.unique(index)) != len(index):
        raise UserError(f"{where}: row ids must be whole numbers >= 0, each once")
    return index, np.concatenate([chunk.numbers for chunk in chunks])


def _row_id_error(cell: str) -> str | None:
    name = number_name(cell)
    fits = name is not None and is_whole(name) and 0 <= int(name) < 1 << 63
    return None if fits else f"row id '{cell.strip()}' is no whole number >= 0"


def select_rows(index: np.ndarray, values: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """Return the rows of `values` with the given ids, None if one is missing."""
    order = np.argsort(index)
    at = np.searchsorted(index[order], ids)
    if len(index) == 0 or (at >= len(index)).any() or (index[order][at] != ids).any():
        return None
    return values[order][at]
