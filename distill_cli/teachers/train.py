"""The teacher of a run: built and trained, found, or loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.config.settings.run import TeacherRunSettings
from distill_cli.config.settings.teacher import TrainHere
from distill_cli.config.trust import targets_in
from distill_cli.data.leakage import TrainRecord, record_training_rows
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.controls import TrainingPlan
from distill_cli.factory.data import teacher_pool
from distill_cli.factory.objective import supervised_objective
from distill_cli.factory.stages import single_stage
from distill_cli.factory.task import check_metric
from distill_cli.models.classifier import Classifier
from distill_cli.reports.run.metrics_csv import epochs_of
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec, build_model, columns_of, load_model, read_checkpoint
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import external
from distill_cli.teachers.output_cache import weights_hash
from distill_cli.teachers.registry import find_or_create
from distill_cli.training.fit import fit
from distill_cli.training.trainer import FitResult
from distill_cli.types import TEACHER, Columns, Dataset, Pool
from distill_cli.utils import files


@dataclass
class ResolvedTeacher:
    """A teacher ready to teach.

    Attributes:
        origin: in words: ``trained``, ``found <folder>``, ``run <folder>``, ``weights <file>``, ``logits_file <file>``.
        model: None where only outputs are known.
        spec: how to build the model again; None where only outputs are known.
        outputs: outputs by row id, where there is no model.
        train_record: its training rows, None where unknown.
        training_stats: the report's training figures.
        key: what it is found by, None where it was not trained by this tool.
        metrics_csv: its rows of the metrics.csv of the run that trained it, as such a file, None where there are none.
        members: of an ensemble, without their models, which are in `model`.
        columns: names of the table's columns that it was trained on, None where it had none.
        class_names: of a finished run, in class order; None of any other.
    """

    origin: str
    model: Classifier | None
    spec: ModelSpec | None
    outputs: tuple[np.ndarray, np.ndarray] | None = None
    train_record: TrainRecord | None = None
    training_stats: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    metrics_csv: str | None = None
    members: tuple[ResolvedTeacher, ...] = ()
    columns: Columns | None = None
    class_names: tuple[str, ...] | None = None

    def logits(self, pool: Pool, dataset: Dataset, context: RunContext) -> np.ndarray | None:
        """Return logits ``[N, C]`` on a pool.

        None where a table of outputs does not cover the pool.
        """
        from distill_cli.training.trainer import predict

        if self.model is not None:
            self.model.to(context.device)
            return predict(self.model, context.rows(pool, dataset), context.eval_batch_size, find_task(dataset.task)).numpy()
        assert self.outputs is not None
        return external.select_rows(*self.outputs, pool.index)

    def content_hash(self) -> str:
        """Return a hash of the weights or of the table of outputs.

        Another teacher in the same folder has another hash.
        """
        if self.model is not None:
            return weights_hash(self.model)
        assert self.outputs is not None
        return files.hash_bytes(*(values.tobytes() for values in self.outputs))

    def fingerprint(self) -> str:
        """Return the identity of the teacher.

        It is its key, or, where this tool did not train it, a hash of its content.
        """
        if self.key is not None or self.model is None:
            return self.key or self.content_hash()
        assert self.spec is not None
        return f"{self.content_hash()}-{files.hash_json(self.spec.model)}"


class TrainRun(Protocol):
    """Trains the teacher of some settings into a run folder, and returns the folder."""

    def __call__(self, settings: TeacherRunSettings, dataset: Dataset, context: RunContext, out: Path) -> Path:
        """Train into `out`."""
        ...


def teacher_key(teacher: TrainHere, dataset: Dataset, settings: DatasetSettings, precision: str) -> str:
    """Return the key of a trained teacher.

    It depends on what decides its weights, the data and the recipe version.
    """
    parts = teacher.key_parts()
    if parts["label_fraction"] is None:
        parts["label_fraction"] = settings.rows.label_fraction
    parts["preprocessing"] = parts["preprocessing"] or dataset.default_preprocessing
    return files.hash_json({**parts, "precision": precision, "data": dataset.fingerprint, "recipe_version": RECIPE_VERSION})


def find_or_train(settings: TeacherRunSettings, dataset: Dataset, context: RunContext, train_run: TrainRun) -> ResolvedTeacher:
    """Return a finished teacher with the same settings and data, or train one."""
    key = teacher_key(settings.teacher.trained, dataset, settings.dataset, context.precision)
    home = context.output_dir / "train-teacher"

    def make(name: Path) -> Path:
        return train_run(settings, dataset, context, home / name)

    folder, reused = find_or_create(context, key, "teacher_key", "teacher", make, home)
    return load_from_run(folder, TEACHER, "found" if reused else "trained", targets_in(settings.resolved))


def load_from_run(folder: Path, name: str, how: str, also: Collection[str] = ()) -> ResolvedTeacher:
    """Return a model of a finished run as a teacher.

    Classes of `also` may be built, in addition to the trusted ones.
    """
    checkpoint = read_checkpoint(folder)
    model, spec = load_model(folder, name, also)
    report = layout.read_json(folder / layout.REPORT)
    cost = layout.model_metrics(report, name, TRAINING_STATS)
    record = layout.read_train_record(folder, name) if layout.train_record_file(folder, name).is_file() else None
    if record is None and not (name == TEACHER and str(report.get("teacher_source")).startswith(("weights", "logits_file"))):
        raise UserError(
            f"{layout.train_record_file(folder, name)}: missing, so nobody can tell what this teacher was trained on; "
            "the run is damaged"
        )
    return ResolvedTeacher(
        f"{how} {folder}",
        model,
        spec,
        train_record=record,
        training_stats=cost,
        key=report.get("teacher_key") if name == TEACHER else None,
        metrics_csv=_epochs(folder, name),
        columns=columns_of(checkpoint),
        class_names=tuple(checkpoint["class_names"]),
    )


def _epochs(folder: Path, name: str) -> str | None:
    """Return a model's epochs from the run that trained it.

    They may come from a run that had copied them from there.
    """
    for file in (layout.EPOCHS, layout.TEACHER_EPOCHS):
        if (folder / file).is_file() and (epochs := epochs_of(folder / file, name, "teacher")) is not None:
            return epochs
    return None


TRAINING_STATS = (
    "train_seconds",
    "samples_per_second",
    "steps",
    "epochs",
    "best_epoch",
    "labeled_samples_seen",
    "weight_change",
    "skipped_steps",
)


def training_stats(result: FitResult, labeled_samples_seen: int) -> dict[str, Any]:
    """Return what a training cost, under the names of the report."""
    return {
        "train_seconds": result.seconds,
        "samples_per_second": result.samples / max(result.seconds, 1e-9),
        "steps": result.steps,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch + 1,
        "labeled_samples_seen": labeled_samples_seen,
        "weight_change": result.weight_change,
    } | ({} if result.skipped_steps is None else {"skipped_steps": result.skipped_steps})


def train(settings: TeacherRunSettings, dataset: Dataset, context: RunContext) -> tuple[ResolvedTeacher, FitResult]:
    """Build and train the one teacher of some settings."""
    teacher, task = settings.teacher.trained, find_task(dataset.task)
    check_metric(teacher.training.monitor, task, "teacher.monitor")
    pool = teacher_pool(dataset, settings.dataset, teacher.label_fraction)
    spec = ModelSpec.of_data(teacher.model.model, teacher.model.preprocessing, dataset)
    model = build_model(spec, "teacher.model", teacher.seed)
    stages = single_stage(supervised_objective(task, teacher.class_weight, "teacher."), teacher.training, "teacher.")
    result = fit(TrainingPlan(TEACHER, teacher.training, (), teacher.seed), model, stages, pool, dataset, [], context)
    return ResolvedTeacher(
        "trained",
        model,
        spec,
        train_record=record_training_rows(pool, dataset),
        training_stats=training_stats(result, len(pool)),
        key=teacher_key(teacher, dataset, settings.dataset, context.precision),
    ), result
