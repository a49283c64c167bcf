"""Training the student and its controls: the same network from the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.data.leakage import merge_records, record_training_rows
from distill_cli.factory import controls
from distill_cli.factory.context import RunContext
from distill_cli.factory.stages import build_stages as stages_of
from distill_cli.factory.stages import feature_pairs
from distill_cli.models.classifier import Classifier, LogitOffset
from distill_cli.pipeline.loss_terms import stages_section
from distill_cli.pipeline.results import RunResults
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import build_model
from distill_cli.tasks.classification import bias_correction
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import train as teacher_training
from distill_cli.teachers.supply import TeacherQuery, build_teachers
from distill_cli.training.bind_losses import uses_teacher
from distill_cli.training.fit import fit
from distill_cli.training.trainer import predict
from distill_cli.types import UNCORRECTED, Dataset, Pool, Teacher


def train_students(
    cfg: Any,
    plans: Sequence[controls.TrainingPlan],
    gathered: RunResults,
    entry: Mapping[str, Any],
    pool: Pool,
    taught: teacher_training.ResolvedTeacher,
) -> None:
    """Train the student, then its controls: the same network from the same weights, without the teacher's terms."""
    dataset, context = gathered.dataset, gathered.context
    labels, steps_per_epoch, epochs = int(pool.labeled.sum()), None, None
    views = cfg.cache.views
    for plan in plans:
        stages, stop_after = stages_of(cfg, plan, find_task(dataset.task)), None
        if plan.is_control:
            if plan.match_steps:  # fewer rows may have labels than a teacher can teach: the control makes as many steps
                plan.settings["steps_per_epoch"] = steps_per_epoch
            if plan.match_epochs:  # the student's patience ends both, whatever the control's own validation says
                stop_after = epochs
        teachers: list[Teacher] = []
        if uses_teacher(stages):
            lesson = TeacherQuery(feature_pairs(stages), pool, dataset, context, plan.settings, plan.seed, cfg.cache)
            teachers, gathered.cache = build_teachers(taught, lesson)
        model = build_model(entry, "student.model", plan.seed)
        taught_by = taught.content_hash() if teachers else None
        result = fit(
            plan.name, model, stages, pool, dataset, teachers, plan.settings, plan.seed, context, stop_after, views, taught_by
        )
        gathered.records += result.history
        if not plan.is_control:
            steps_per_epoch, epochs = result.steps // len(result.history), len(result.history)
            gathered.stages = stages_section(stages, result)
        record = record_training_rows(pool, dataset)
        if teachers and taught.train_record is not None:  # what the teacher saw has reached the student through it
            record = merge_records([record, taught.train_record])
        layout.save_train_record(context.run_dir, plan.name, record)
        cost = teacher_training.training_stats(result, labels if any(stage.objective.uses_labels for stage in stages) else 0)
        if not cfg.student.bias_fix:
            gathered.add(plan.name, model, entry, cost)
            continue
        if not plan.is_control:
            layout.save_train_record(context.run_dir, UNCORRECTED, record)
            gathered.add(UNCORRECTED, model, entry, cost)
        fixed, fixed_entry = apply_bias_correction(model, entry, pool, dataset, context, plan.settings["select"]["metric"])
        gathered.add(
            plan.name, fixed, fixed_entry, {**cost, "bias_fix": bias_correction.described(fixed_entry, dataset.class_names)}
        )


def apply_bias_correction(
    model: Classifier, entry: Mapping[str, Any], pool: Pool, dataset: Dataset, context: RunContext, metric: str
) -> tuple[Classifier, dict[str, Any]]:
    """Return a trained model with the offset of its missing classes, and how to build it again."""
    missing = bias_correction.missing_classes(pool, dataset)
    logits = predict(model.to(context.device), context.rows(dataset.val, dataset), context.eval_batch_size).numpy()
    offset = bias_correction.fit_offset(logits, dataset.val.y, missing, dataset.macro_classes, metric)
    fixed_entry = {**entry, "offset": bias_correction.offsets(offset, missing, len(dataset.class_names))}
    fixed = build_model(fixed_entry, "student.model")
    fixed.preprocessing.load_state_dict(model.preprocessing.state_dict())
    assert isinstance(fixed.network, LogitOffset)
    fixed.network.network.load_state_dict(model.network.state_dict())
    return fixed.to(context.device), fixed_entry
