"""The content of samples.json for a run's page.

It holds a few rows, with their values and feature maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from distill_cli.factory.context import RunContext
from distill_cli.metrics.classification import log_probabilities
from distill_cli.models.classifier import Classifier
from distill_cli.pipeline.evaluation import Logits
from distill_cli.types import STUDENT, TEACHER, Dataset

GALLERY = 12  # rows on which teacher and student differ most
MAPPED = 2  # of them, rows whose features are kept
CHANNELS, POSITIONS = 8, 96  # of a feature map, at most; images: POSITIONS pixels in all, about
MOST_VALUES = 20_000  # of one row; larger ones are not kept
DIGITS = 5
MOST_UNNAMED = 24  # features of a vector that is shown as a table's row


def samples(
    report: Mapping[str, Any],
    dataset: Dataset,
    split: str,
    logits: Mapping[str, Logits],
    networks: Mapping[str, Classifier],
    context: RunContext,
) -> dict[str, Any] | None:
    """Return the content of samples.json.

    None without a teacher and a student on that split.

    Args:
        report: names the pairs of layers that were compared.
        dataset: its pools hold the rows.
        split: of the rows.
        logits: of teacher and student.
        networks: of both, as far as they are there; a teacher may be a table of outputs.
        context: the device.
    """
    of_teacher, of_student = (logits.get(name, {}).get(split) for name in (TEACHER, STUDENT))
    pool = dataset.pools[split]
    if of_teacher is None or of_student is None or not len(pool) or np.prod(pool.source.shape[1:]) > MOST_VALUES:
        return None
    teacher, student = (np.exp(log_probabilities(values)) for values in (of_teacher, of_student))
    distance = np.abs(teacher - student).sum(axis=1) / 2
    chosen = np.argsort(-distance, kind="stable")[:GALLERY]
    x = np.asarray(pool.source[pool.rows[chosen]], dtype=np.float32)
    shape = dataset.display_shape or dataset.input_shape
    names = dataset.class_names
    rows = [
        {
            "row": int(pool.index[at]),
            "group": None if pool.group is None else str(pool.group[at]),
            "true": str(names[pool.y[at]]),
            "distance": float(distance[at]),
            "teacher": rounded(teacher[at]),
            "student": rounded(student[at]),
            "x": rounded(value.reshape(shape)),
        }
        for at, value in zip(chosen, x, strict=True)
    ]
    features = list(_feature_maps(report, networks, x[:MAPPED], context))
    return {
        "split": split,
        "shape": list(shape),
        "columns": column_statistics(dataset, shape),
        "rows": rows,
        "features": features,
    }


def column_statistics(dataset: Dataset, shape: Sequence[int]) -> list[dict[str, Any]] | None:
    """Return name, mean and deviation of each feature of a table.

    Statistics are over the training rows.

    None of what is no table: samples of several axes, and long vectors without names, such as a signal.
    """
    if len(shape) != 1 or (dataset.columns is None and shape[0] > MOST_UNNAMED):
        return None
    names = dataset.columns.features if dataset.columns else [f"feature {n}" for n in range(shape[0])]
    total, squares = np.zeros(shape), np.zeros(shape)
    for x in dataset.train.iter_batches():
        total += x.sum(axis=0, dtype=np.float64)
    mean = total / len(dataset.train)
    for x in dataset.train.iter_batches():
        squares += ((x - mean) ** 2).sum(axis=0)
    figures = zip(names, rounded(mean), rounded(np.sqrt(squares / len(dataset.train))), strict=True)
    return [{"name": str(name), "mean": middle, "deviation": deviation} for name, middle, deviation in figures]


def allowed(old: Mapping[str, Any]) -> bool:
    """Return whether a finished run's report lets single samples be shown.

    What it forbids no later command shows.
    """
    settings: Any = old.get("config")
    for key in ("report", "samples"):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings is not False


def pairs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of layers that any term of any stage compared.

    Pairs are (student's, teacher's), each once.
    """
    layers = [
        (str(pair["student"]), str(pair["teacher"]))
        for stage in (report.get("stages") or {}).values()
        for term in (stage.get("terms") or {}).values()
        for pair in term.get("features") or ()
    ]
    return list(dict.fromkeys(layers))


@torch.no_grad()
def _feature_maps(
    report: Mapping[str, Any], networks: Mapping[str, Classifier], x: np.ndarray, context: RunContext
) -> Iterator[dict[str, Any]]:
    """Yield the feature maps of each pair of layers for a few rows.

    They are made small enough to be looked at.
    """
    layer_pairs = pairs(report)
    if not layer_pairs or TEACHER not in networks or STUDENT not in networks:
        return
    features_by_model = {}
    for position, name in enumerate((STUDENT, TEACHER)):
        model, paths = networks[name].to(context.device).eval(), [pair[position] for pair in layer_pairs]
        model.set_feature_layers(paths)
        features = model(torch.from_numpy(x).to(context.device)).features
        model.set_feature_layers(())
        features_by_model[name] = {path: features[path].float().cpu().numpy() for path in paths}
    for student, teacher in layer_pairs:
        maps = {STUDENT: features_by_model[STUDENT][student], TEACHER: features_by_model[TEACHER][teacher]}
        yield {
            "layers": {STUDENT: student, TEACHER: teacher},
            "maps": {name: {"shape": list(value.shape[1:]), "values": [small(v) for v in value]} for name, value in maps.items()},
        }


def small(values: np.ndarray) -> list[Any]:
    """Return a feature map reduced for display.

    It has at most CHANNELS of its channels, evenly chosen, and about POSITIONS means over positions.

    Args:
        values: ``[channels, ...]``, or ``[features]``, of which POSITIONS at most are kept, evenly chosen.

    Returns:
        ``[channels][positions]``, ``[channels][rows][columns]`` of an image, or ``[features]``.
    """
    if values.ndim == 1:
        return rounded(values[evenly(len(values), POSITIONS)])
    values = values[evenly(len(values), CHANNELS)]
    if values.ndim == 2:
        parts = np.array_split(values, min(POSITIONS, values.shape[1]), axis=1)
        return rounded(np.stack([part.mean(axis=1) for part in parts], axis=1))
    side = round(POSITIONS**0.5) + 6
    for axis in (-2, -1):
        parts = np.array_split(values, min(side, values.shape[axis]), axis=axis)
        values = np.stack([part.mean(axis=axis) for part in parts], axis=axis)
    return rounded(values)


def evenly(n: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers 0..n-1, evenly apart."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def rounded(values: np.ndarray) -> list[Any]:
    """Return nested lists of floats with a few significant digits."""
    if values.ndim > 1:
        return [rounded(part) for part in values]
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
