"""How a teacher reaches its student: in the loop, or by stored outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_cli import RECIPE_VERSION
from distill_cli.data.stored_views import Views
from distill_cli.errors import UserError
from distill_cli.factory.context import Context
from distill_cli.factory.stages import Pairs
from distill_cli.models.classifier import Classifier
from distill_cli.teachers.frozen import TableTeacher, freeze
from distill_cli.teachers.output_cache import Cache, check_size, kept, row_shapes, row_size, weights_hash
from distill_cli.teachers.train import Taught
from distill_cli.training.fit import changes
from distill_cli.training.trainer import Precision
from distill_cli.types import Dataset, Pool, Teacher
from distill_cli.utils import files

FORMAT = 1
# What of a model's entry decides what it says, beside its weights.
BUILT_BY = ("model", "prepare", "num_classes", "input_shape", "order", "offset")


@dataclass(frozen=True)
class Lesson:
    """What a teacher is asked.

    Attributes:
        pairs: which layers the losses compare (student's, teacher's).
        pool: the student's training rows.
        dataset: theirs.
        context: device, precision.
        settings: the keys TRAINING_KEYS of the student.
        seed: of augmentation and mixup.
        cache: the config's `cache`.
    """

    pairs: Pairs
    pool: Pool
    dataset: Dataset
    context: Context
    settings: Mapping[str, Any]
    seed: int
    cache: Mapping[str, Any]

    @property
    def changed(self) -> bool:
        """Whether inputs are augmented or mixed."""
        return bool(changes(self.settings, self.seed, self.dataset.input_shape))

    @property
    def views(self) -> int:
        """How many stored views of each row there are; 0 where inputs stay as they are, or are new every epoch."""
        return int(self.cache["views"]) if self.changed else 0

    @property
    def stored(self) -> bool:
        """Whether the teacher's outputs can be computed once."""
        return self.cache["use"] != "never" and (self.views > 0 or not self.changed)

    @property
    def paths(self) -> list[str]:
        """The teacher's modules whose outputs are wanted."""
        return sorted({teacher for _, teacher in self.pairs})

    def inputs(self) -> Views:
        """Return what the teacher is shown."""
        rows, settings = self.context.rows(self.pool, self.dataset), self.settings
        if not self.views:
            return Views(rows)
        return Views(rows, self.views, settings["augment"]["shift"], settings["mixup"]["alpha"], self.seed)

    def place(self, parts: Mapping[str, Any]) -> Cache:
        """Return where outputs that depend on `parts` are kept."""
        return Cache(
            folder=Path(self.cache["folder"]),
            parts=parts,
            max_gb=self.cache["max_gb"],
            chunk=self.context.chunk,
            precision=self.context.precision,
            autocast=Precision(self.context.precision, self.context.device).autocast,
            resident_gb=self.context.resident_gb,
            say=self.context.progress.say,
        )


def as_teachers(taught: Taught, lesson: Lesson) -> tuple[list[Teacher], dict[str, Any]]:
    """Return the frozen teacher for a training, and the report's `cache` section.

    Raises:
        UserError: a table of outputs has no features, cannot follow changed inputs, or does not cover the pool; the model has no
            module that the losses name; outputs are too large to store; stored ones are refused.
    """
    if taught.model is None:
        return [_table(taught, lesson)], {"state": "outputs", "views": 0}
    model = taught.model.to(lesson.context.device)
    teacher = freeze(model, lesson.pairs)
    if not lesson.stored:
        return [teacher], {"state": "in the loop", "views": lesson.views}
    stored, facts = kept(lesson.place(_parts(model, taught.entry, lesson)), model, lesson.paths, lesson.inputs())
    return [stored], {**facts, "views": lesson.views}


def check_lesson(lesson: Lesson, teacher: Classifier | None) -> None:
    """See, before anything is trained, that stored views make sense and that the teacher's outputs may be stored.

    Args:
        lesson: the student's.
        teacher: with whatever weights, on the device; None where it is not known yet.

    Raises:
        UserError: all views would be the same, or the outputs are larger than allowed.
    """
    if lesson.cache["views"] and not lesson.changed:
        raise UserError(
            f"cache.views={lesson.cache['views']}: inputs are neither augmented nor mixed, so that all views are the same; "
            "choose augment= or mixup=, or set cache.views=0"
        )
    if teacher is None or not lesson.stored:
        return
    place = lesson.place({})
    few = replace(lesson, pool=lesson.pool.take(np.arange(min(2, len(lesson.pool)))))
    shapes = row_shapes(place, freeze(teacher, lesson.pairs), few.inputs())
    rows = max(1, lesson.views) * len(lesson.pool)
    check_size(place, rows * row_size(shapes), rows)


def _parts(model: Classifier, entry: Mapping[str, Any], lesson: Lesson) -> dict[str, Any]:
    """Return everything that stored outputs depend on; the seed is a part only where inputs are changed by it."""
    context, settings = lesson.context, lesson.settings
    drawn = {"seed": lesson.seed, "augment": dict(settings["augment"]), "mixup": dict(settings["mixup"])}
    return {
        "format": FORMAT,
        "recipe_version": RECIPE_VERSION,
        "teacher": f"{weights_hash(model)}-{files.hash_json(_built_by(entry))}",
        "data": lesson.dataset.fingerprint,
        "rows": files.hash_bytes(np.ascontiguousarray(lesson.pool.index).tobytes(), lesson.pool.foreign.encode()),
        "classes": list(lesson.dataset.class_names),
        "features": lesson.paths,
        "views": {"count": lesson.views, **drawn} if lesson.views else None,
        "precision": context.precision,
        "device": context.device.type,
        "chunk": context.chunk,
        "torch": str(torch.__version__),
    }


def _built_by(entry: Mapping[str, Any]) -> dict[str, Any]:
    built: dict[str, Any] = {key: entry[key] for key in BUILT_BY if entry.get(key) is not None}
    return built | ({"members": [_built_by(member) for member in entry["members"]]} if entry.get("members") else {})


def _table(taught: Taught, lesson: Lesson) -> TableTeacher:
    check_has_features(lesson.pairs)
    if lesson.changed:
        raise UserError(
            "teacher.outputs: fixed outputs cannot follow changed inputs; use augment=none mixup=none or a teacher with weights"
        )
    logits = taught.logits(lesson.pool, lesson.dataset, lesson.context)
    if logits is None:
        raise UserError(f"teacher ({taught.source}): has no outputs for some of the student's training rows; give all row ids")
    return TableTeacher(len(lesson.pool), torch.from_numpy(logits).to(lesson.context.device))


def check_has_features(pairs: Pairs) -> None:
    """Refuse to compare the features of `pairs`, for a teacher of which only outputs are known."""
    if pairs:
        raise UserError(
            f"teacher.outputs: has logits only, and the loss compares features (the teacher's '{pairs[0][1]}'); "
            "use a teacher with weights, or a loss on logits"
        )
