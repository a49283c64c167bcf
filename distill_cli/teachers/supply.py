"""How a teacher reaches its student: in the loop, or by stored outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.runtime import CacheSettings
from distill_cli.config.settings.training import TrainingSettings
from distill_cli.data.stored_views import StoredViews
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.stages import Pairs
from distill_cli.models.classifier import Classifier
from distill_cli.runs.checkpoint import ModelSpec
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.frozen import PrecomputedTeacher, freeze_teacher
from distill_cli.teachers.output_cache import (
    OutputCacheSpec,
    check_size,
    get_or_compute_outputs,
    row_shapes,
    row_size,
    weights_hash,
)
from distill_cli.teachers.train import ResolvedTeacher
from distill_cli.training.fit import build_transforms
from distill_cli.training.trainer import Precision
from distill_cli.types import Dataset, Pool, Teacher
from distill_cli.utils import files

FORMAT = 1


@dataclass(frozen=True)
class TeacherQuery:
    """What a teacher is asked.

    Attributes:
        pairs: which layers the losses compare (student's, teacher's).
        pool: the student's training rows.
        dataset: theirs.
        context: device, precision.
        training: of the student.
        seed: of augmentation and mixup.
        cache: of the teacher's outputs.
    """

    pairs: Pairs
    pool: Pool
    dataset: Dataset
    context: RunContext
    training: TrainingSettings
    seed: int
    cache: CacheSettings

    @property
    def augments_inputs(self) -> bool:
        """Whether inputs are augmented or mixed."""
        return bool(build_transforms(self.training, self.seed, self.dataset.input_shape))

    @property
    def views(self) -> int:
        """Number of stored views of each row.

        0 where inputs stay as they are, or are new every epoch.
        """
        return self.cache.views if self.augments_inputs else 0

    @property
    def uses_cache(self) -> bool:
        """Whether the teacher's outputs can be computed once."""
        return self.cache.use != "never" and (self.views > 0 or not self.augments_inputs)

    @property
    def paths(self) -> list[str]:
        """The teacher's modules whose outputs are wanted."""
        return sorted({teacher for _, teacher in self.pairs})

    def inputs(self) -> StoredViews:
        """Return what the teacher is shown."""
        rows = self.context.rows(self.pool, self.dataset)
        if not self.views:
            return StoredViews(rows)
        return StoredViews(rows, self.views, self.training.augment.shift, self.training.mixup.alpha, self.seed)

    def cache_spec(self, parts: Mapping[str, Any]) -> OutputCacheSpec:
        """Return where outputs that depend on `parts` are kept."""
        return OutputCacheSpec(
            folder=self.cache.folder,
            parts=parts,
            max_gb=self.cache.max_gb,
            chunk=self.context.eval_batch_size,
            precision=self.context.precision,
            autocast=Precision(self.context.precision, self.context.device).autocast,
            resident_gb=self.context.max_device_gb,
            say=self.context.progress.say,
            task=find_task(self.dataset.task),
        )


def build_teachers(resolved_teacher: ResolvedTeacher, lesson: TeacherQuery) -> tuple[list[Teacher], dict[str, Any]]:
    """Return the frozen teacher for a training, and the report's `cache` section.

    Raises:
        UserError: a table of outputs has no features, cannot follow changed inputs, or does not cover the pool; the model has no
            module that the losses name; outputs are too large to store; stored ones are refused.
    """
    if resolved_teacher.model is None:
        return [_table(resolved_teacher, lesson)], {"state": "outputs", "views": 0}
    assert resolved_teacher.spec is not None
    model = resolved_teacher.model.to(lesson.context.device)
    teacher = freeze_teacher(model, lesson.pairs, find_task(lesson.dataset.task))
    if not lesson.uses_cache:
        return [teacher], {"state": "in the loop", "views": lesson.views}
    stored, facts = get_or_compute_outputs(
        lesson.cache_spec(_parts(model, resolved_teacher.spec, lesson)), model, lesson.paths, lesson.inputs()
    )
    return [stored], {**facts, "views": lesson.views}


def check_output_cache(lesson: TeacherQuery, teacher: Classifier | None) -> None:
    """Check stored views and the size of the teacher's outputs.

    This is done before anything is trained.

    Args:
        lesson: the student's.
        teacher: with whatever weights, on the device; None where it is not known yet.

    Raises:
        UserError: all views would be the same, or the outputs are larger than allowed.
    """
    if lesson.cache.views and not lesson.augments_inputs:
        raise UserError(
            f"cache.views={lesson.cache.views}: inputs are neither augmented nor mixed, so that all views are the same; "
            "choose augment= or mixup=, or set cache.views=0"
        )
    if teacher is None or not lesson.uses_cache:
        return
    place = lesson.cache_spec({})
    few = replace(lesson, pool=lesson.pool.select(np.arange(min(2, len(lesson.pool)))))
    shapes = row_shapes(place, freeze_teacher(teacher, lesson.pairs, find_task(lesson.dataset.task)), few.inputs())
    rows = max(1, lesson.views) * len(lesson.pool)
    check_size(place, rows * row_size(shapes), rows)


def _parts(model: Classifier, spec: ModelSpec, lesson: TeacherQuery) -> dict[str, Any]:
    """Return everything that stored outputs depend on.

    The seed is a part only where inputs are changed by it.
    """
    context, training = lesson.context, lesson.training
    augmentation = {"seed": lesson.seed, "augment": asdict(training.augment), "mixup": asdict(training.mixup)}
    return {
        "format": FORMAT,
        "recipe_version": RECIPE_VERSION,
        "teacher": f"{weights_hash(model)}-{files.hash_json(spec.to_json())}",
        "data": lesson.dataset.fingerprint,
        "rows": files.hash_bytes(np.ascontiguousarray(lesson.pool.index).tobytes(), lesson.pool.extra_fingerprint.encode()),
        "classes": list(lesson.dataset.class_names),
        "features": lesson.paths,
        "views": {"count": lesson.views, **augmentation} if lesson.views else None,
        "precision": context.precision,
        "device": context.device.type,
        "chunk": context.eval_batch_size,
        "torch": str(torch.__version__),
    }


def _table(resolved_teacher: ResolvedTeacher, lesson: TeacherQuery) -> PrecomputedTeacher:
    check_has_features(lesson.pairs)
    if lesson.augments_inputs:
        raise UserError(
            "teacher.logits_file: fixed outputs cannot follow changed inputs; "
            "use augment=none mixup=none or a teacher with weights"
        )
    logits = resolved_teacher.logits(lesson.pool, lesson.dataset, lesson.context)
    if logits is None:
        origin = resolved_teacher.origin
        raise UserError(f"teacher ({origin}): has no outputs for some of the student's training rows; give all row ids")
    return PrecomputedTeacher(len(lesson.pool), torch.from_numpy(logits).to(lesson.context.device))


def check_has_features(pairs: Pairs) -> None:
    """Refuse feature pairs for a teacher of which only outputs are known."""
    if pairs:
        raise UserError(
            f"teacher.logits_file: has logits only, and the loss compares features (the teacher's '{pairs[0][1]}'); "
            "use a teacher with weights, or a loss on logits"
        )
