"""The teacher of a run: built and trained, found, or loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from distill_cli import RECIPE_VERSION
from distill_cli.config.validation.check import TRAINING_KEYS, targets_in
from distill_cli.data.leakage import TrainRecord, record_training_rows
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import teacher_pool
from distill_cli.factory.objective import supervised_objective
from distill_cli.factory.stages import single_stage
from distill_cli.models.classifier import Classifier
from distill_cli.reports.run.metrics_csv import epochs_of
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import build_model, columns_of, load_model, model_spec, read_checkpoint
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import external
from distill_cli.teachers.output_cache import weights_hash
from distill_cli.teachers.registry import find_or_create
from distill_cli.training.fit import fit
from distill_cli.training.trainer import FitResult
from distill_cli.types import Columns, Dataset, Pool
from distill_cli.utils import files

# Where a teacher that is not trained here comes from.
SOURCES = ("checkpoint", "weights", "outputs")
# What decides a teacher's weights; a finished teacher is found by these, the data and the recipe version.
KEY_PARTS = (*TRAINING_KEYS, "model", "prepare", "seed", "label_fraction", "class_weight")


@dataclass
class ResolvedTeacher:
    """A teacher ready to teach.

    Attributes:
        origin: in words: ``trained``, ``found <folder>``, ``checkpoint <folder>``, ``weights <file>``, ``outputs <file>``.
        model: None where only outputs are known.
        spec: how to build the model again.
        outputs: outputs by row id, where there is no model.
        train_record: its training rows, None where unknown.
        training_stats: the report's training figures.
        key: what it is found by, None where it was not trained by this tool.
        metrics_csv: its rows of the metrics.csv of the run that trained it, as such a file, None where there are none.
        members: of an ensemble, without their models, which are in `model`.
        columns: names of the table's columns that it was trained on, None where it had none.
    """

    origin: str
    model: Classifier | None
    spec: dict[str, Any]
    outputs: tuple[np.ndarray, np.ndarray] | None = None
    train_record: TrainRecord | None = None
    training_stats: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    metrics_csv: str | None = None
    members: tuple[ResolvedTeacher, ...] = ()
    columns: Columns | None = None

    def logits(self, pool: Pool, dataset: Dataset, context: RunContext) -> np.ndarray | None:
        """Return logits ``[N, C]`` on a pool, or None where a table of outputs does not cover it."""
        from distill_cli.training.trainer import predict

        if self.model is not None:
            self.model.to(context.device)
            return predict(self.model, context.rows(pool, dataset), context.eval_batch_size, find_task(dataset.task)).numpy()
        assert self.outputs is not None
        return external.select_rows(*self.outputs, pool.index)

    def content_hash(self) -> str:
        """Return a hash of the weights, or of the table: another teacher in the same folder has another."""
        if self.model is not None:
            return weights_hash(self.model)
        assert self.outputs is not None
        return files.hash_bytes(*(values.tobytes() for values in self.outputs))

    def fingerprint(self) -> str:
        """Return what identifies the teacher: its key, or, where this tool did not train it, what it is made of."""
        if self.key is not None or self.model is None:
            return self.key or self.content_hash()
        return f"{self.content_hash()}-{files.hash_json(self.spec['model'])}"


def teacher_key(node: Mapping[str, Any], dataset: Dataset, dataset_node: Mapping[str, Any], precision: str) -> str:
    """Return what a trained teacher is found by."""
    parts = {name: node.get(name) for name in KEY_PARTS}
    if parts["label_fraction"] is None:
        parts["label_fraction"] = dataset_node.get("label_fraction", 1.0)
    parts["prepare"] = parts["prepare"] or dataset.default_preprocessing
    return files.hash_json({**parts, "precision": precision, "data": dataset.fingerprint, "recipe_version": RECIPE_VERSION})


def check_sources(node: Mapping[str, Any], *, trained: bool = False) -> None:
    """See that a teacher is given in one way at most, and in none where it is to be trained."""
    given = [name for name in SOURCES if node.get(name) is not None]
    if trained and node.get("members", 1) > 1:
        raise UserError(
            f"teacher.members={node['members']}: train-teacher trains one teacher a run; sweep over its seeds with "
            f"-m seed={node['seed']},{node['seed'] + 1},..., and distill teacher.members={node['members']} finds them"
        )
    if given and trained:
        raise UserError(f"teacher.{given[0]} names a teacher that is there already, and train-teacher trains one; leave it out")
    if len(given) > 1:
        raise UserError(f"teacher.{given[0]} and teacher.{given[1]} are both given; a teacher comes from one of them")


def find_or_train(cfg: Any, dataset: Dataset, context: RunContext, train_run: Any) -> ResolvedTeacher:
    """Return a finished teacher with the same config and data, or train one."""
    key = teacher_key(cfg.teacher, dataset, cfg.dataset, context.precision)
    home = context.output_dir / "train-teacher"

    def make(name: Path) -> Path:
        return train_run(cfg, dataset, context, home / name)

    folder, found = find_or_create(context, key, "teacher_key", "teacher", make, home)
    return load_from_run(
        folder, "teacher", "found" if found else "trained", targets_in(OmegaConf.to_container(cfg, resolve=True))
    )


def load_from_run(folder: Path, name: str, how: str, also: Collection[str] = ()) -> ResolvedTeacher:
    """Return a model of a finished run as a teacher; classes of `also` may be built, beside the trusted ones."""
    checkpoint = read_checkpoint(folder)
    model, entry = load_model(folder, name, also)
    report = layout.read_json(folder / layout.REPORT)
    cost = layout.model_metrics(report, name, TRAINING_STATS)
    record = layout.read_train_record(folder, name) if layout.train_record_file(folder, name).is_file() else None
    if record is None and not (name == "teacher" and str(report.get("teacher_source")).startswith(("weights", "outputs"))):
        raise UserError(
            f"{layout.train_record_file(folder, name)}: missing, so nobody can tell what this teacher was trained on; the run is damaged"
        )
    return ResolvedTeacher(f"{how} {folder}", model, {**entry, "class_names": checkpoint["class_names"]}, train_record=record, training_stats=cost,
                  key=report.get("teacher_key") if name == "teacher" else None, metrics_csv=_epochs(folder, name),
                  columns=columns_of(checkpoint))  # fmt: skip


def _epochs(folder: Path, name: str) -> str | None:
    """Return a model's epochs from the run that trained it, or from one that had them from there."""
    for file in (layout.EPOCHS, layout.TEACHER_EPOCHS):
        if (folder / file).is_file() and (found := epochs_of(folder / file, name, "teacher")) is not None:
            return found
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


def train(cfg: Any, dataset: Dataset, context: RunContext) -> tuple[ResolvedTeacher, FitResult]:
    """Build and train the teacher of a config."""
    node = cfg.teacher
    pool = teacher_pool(dataset, cfg.dataset, node.label_fraction)
    entry = model_spec(node.model, node.prepare, dataset)
    model = build_model(entry, "teacher.model", node.seed)
    settings = {name: node[name] for name in TRAINING_KEYS}
    objective = supervised_objective(find_task(dataset.task), node.class_weight, "teacher.")
    stages = single_stage(objective, settings, "teacher.")
    result = fit("teacher", model, stages, pool, dataset, [], settings, node.seed, context)
    key = teacher_key(node, dataset, cfg.dataset, context.precision)
    return ResolvedTeacher(
        "trained",
        model,
        entry,
        train_record=record_training_rows(pool, dataset),
        training_stats=training_stats(result, len(pool)),
        key=key,
    ), result
