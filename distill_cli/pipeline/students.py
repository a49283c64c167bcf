"""Training the student and its controls: the same network from the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill_cli.config.settings.run import RunSettings
from distill_cli.data.leakage import merge_records, record_training_rows
from distill_cli.factory import controls
from distill_cli.factory.context import RunContext
from distill_cli.factory.stages import build_stages, feature_pairs
from distill_cli.models.classifier import Classifier, LogitOffset
from distill_cli.pipeline.loss_terms import stages_section
from distill_cli.pipeline.results import RunResults
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.tasks.classification import bias_correction
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import train as teacher_training
from distill_cli.teachers.supply import TeacherQuery, build_teachers
from distill_cli.training.bind_losses import uses_teacher
from distill_cli.training.fit import fit
from distill_cli.training.trainer import predict
from distill_cli.types import UNCORRECTED, Dataset, Pool, Teacher


def train_students(
    settings: RunSettings,
    plans: Sequence[controls.TrainingPlan],
    gathered: RunResults,
    spec: ModelSpec,
    pool: Pool,
    teacher: teacher_training.ResolvedTeacher,
) -> None:
    """Train the student, then its controls.

    A control is the same network from the same weights, without the teacher's terms.
    """
    dataset, context = gathered.dataset, gathered.context
    labels, steps_per_epoch, epochs = int(pool.labeled.sum()), None, None
    for plan in plans:
        stages = build_stages(plan, settings.log_gradients, find_task(dataset.task))
        if plan.is_control and plan.match_steps:  # fewer rows may have labels than a teacher can teach
            plan = replace(plan, training=replace(plan.training, steps_per_epoch=steps_per_epoch))
        if plan.is_control and plan.match_epochs:  # the student's patience ends both, whatever the control's own validation says
            plan = replace(plan, stop_after=epochs)
        teachers: list[Teacher] = []
        if uses_teacher(stages):
            query = TeacherQuery(feature_pairs(stages), pool, dataset, context, plan.training, plan.seed, settings.cache)
            teachers, gathered.cache = build_teachers(teacher, query)
            plan = replace(plan, teacher_hash=teacher.content_hash())
        model = build_model(spec, "student.model", plan.seed)
        result = fit(plan, model, stages, pool, dataset, teachers, context)
        gathered.records += result.history
        if not plan.is_control:
            steps_per_epoch, epochs = result.steps // len(result.history), len(result.history)
            gathered.stages = stages_section(stages, result)
        record = record_training_rows(pool, dataset)
        if teachers and teacher.train_record is not None:  # what the teacher saw has reached the student through it
            record = merge_records([record, teacher.train_record])
        layout.save_train_record(context.run_dir, plan.name, record)
        cost = teacher_training.training_stats(result, labels if any(stage.objective.uses_labels for stage in stages) else 0)
        if not settings.student.bias_correction:
            gathered.add(plan.name, model, spec, cost)
            continue
        if not plan.is_control:
            layout.save_train_record(context.run_dir, UNCORRECTED, record)
            gathered.add(UNCORRECTED, model, spec, cost)
        fixed, fixed_spec = apply_bias_correction(model, spec, pool, dataset, context, plan.training.monitor)
        added = bias_correction.described(fixed_spec.logit_offset or (), dataset.class_names)
        gathered.add(plan.name, fixed, fixed_spec, {**cost, "bias_correction": added})


def apply_bias_correction(
    model: Classifier, spec: ModelSpec, pool: Pool, dataset: Dataset, context: RunContext, metric: str
) -> tuple[Classifier, ModelSpec]:
    """Return a model with offset logits of its missing classes.

    Also returns how to build it again.
    """
    missing = bias_correction.missing_classes(pool, dataset)
    logits = predict(model.to(context.device), context.rows(dataset.val, dataset), context.eval_batch_size).numpy()
    offset = bias_correction.fit_offset(logits, dataset.val.y, missing, dataset.macro_classes, metric)
    fixed_spec = replace(spec, logit_offset=tuple(bias_correction.offsets(offset, missing, len(dataset.class_names))))
    fixed = build_model(fixed_spec, "student.model")
    fixed.preprocessing.load_state_dict(model.preprocessing.state_dict())
    assert isinstance(fixed.network, LogitOffset)
    fixed.network.network.load_state_dict(model.network.state_dict())
    return fixed.to(context.device), fixed_spec
