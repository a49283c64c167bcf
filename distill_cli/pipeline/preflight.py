"""Before hours go into a teacher: is everything that training will need sound?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.teacher import FromLogits
from distill_cli.data.loader import EpochBatchSampler
from distill_cli.errors import UserError
from distill_cli.factory import controls
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import data_facts
from distill_cli.factory.objective import supervised_objective
from distill_cli.factory.stages import StageSpec, build_stages, feature_pairs, single_stage
from distill_cli.factory.task import check_metric
from distill_cli.models.classifier import Classifier
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.tasks.classification import bias_correction
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import generations as teacher_generations
from distill_cli.teachers.frozen import freeze_teacher
from distill_cli.teachers.resolve import build_untrained_teacher
from distill_cli.teachers.supply import TeacherQuery, check_has_features, check_output_cache
from distill_cli.training.bind_losses import (
    EXAMPLES,
    bind_losses,
    check_batches,
    check_pretraining,
    check_targets,
    set_feature_layers,
    uses_teacher,
)
from distill_cli.training.fit import build_transforms, dry_run_optimizers
from distill_cli.types import SCRATCH, Dataset, Pool


def preflight(settings: RunSettings, pool: Pool, dataset: Dataset, context: RunContext) -> None:
    """Build everything of a run and of its generations once, without data.

    Why: a mistake then costs no training.

    Args:
        settings: of the run.
        pool: the student's rows.
        dataset: theirs.
        context: the device.

    Raises:
        UserError: what cannot be built, cannot make a step, or cannot be compared with its teacher.
    """
    task, teacher = find_task(dataset.task), None
    check_settings(settings, pool, dataset, context)
    for link in settings.generations:
        with teacher_generations.prefix_errors(link):
            check_settings(link.run, pool, dataset, context)
    if isinstance(settings.teacher.source, tuple):
        trained = settings.teacher.trained
        check_metric(trained.training.monitor, task, "teacher.monitor")
        objective = supervised_objective(task, trained.class_weight, "teacher.")
        dry_run_optimizers(single_stage(objective, trained.training, "teacher."))
        build_transforms(trained.training, 0, dataset.input_shape, "teacher.")
        teacher = build_untrained_teacher(settings.teacher, dataset)
    for link in settings.generations:
        with teacher_generations.prefix_errors(link):
            teacher = check_losses(link.run, teacher, pool, dataset, context)
    check_losses(settings, teacher, pool, dataset, context)


def check_settings(settings: RunSettings, pool: Pool, dataset: Dataset, context: RunContext) -> None:
    """Build the student, its losses, its optimizers and those of its controls.

    Raises:
        UserError: what cannot be built, or cannot make a step.
    """
    task, student = find_task(dataset.task), settings.student
    if student.bias_correction and not task.has_classes:
        raise UserError(
            f"student.bias_correction: task={task.name} has no classes that could be missing; set student.bias_correction=false"
        )
    if student.bias_correction:
        bias_correction.missing_classes(pool, dataset)
    build_model(ModelSpec.of_data(student.model, student.preprocessing, dataset), "student.model", settings.seed)
    for plan in controls.build_plans(settings):
        where = f"controls.{plan.name}." if plan.is_control and plan.name != SCRATCH else ""
        stages = build_stages(plan, settings.log_gradients, task)
        check_targets(stages, task)
        check_metric(plan.training.monitor, task, f"{where}monitor")
        dry_run_optimizers(stages, where)
        build_transforms(plan.training, plan.seed, dataset.input_shape, where)
        if not plan.is_control:
            check_student(settings, stages, pool, dataset, context)


def check_student(settings: RunSettings, stages: Sequence[StageSpec], pool: Pool, dataset: Dataset, context: RunContext) -> None:
    """Hold the student's losses against its rows and batches.

    Raises:
        UserError: a loss would never reach the student, or a class would have to be known that is not.
    """
    training, has_teacher = settings.training, uses_teacher(stages)
    seen = pool if has_teacher else pool.select(pool.labeled)
    sampler = EpochBatchSampler(seen.y, training.batch_size, settings.seed, steps_per_epoch=training.steps_per_epoch)
    check_pretraining(stages, sampler.steps_per_epoch)
    for note in check_batches(stages, sampler.batch_size, len(dataset.class_names)):
        context.progress.say(note)
    balanced = bool(training.sampling.class_balance_power)
    if pool.extra_fingerprint:
        check_unlabeled_is_used(balanced, has_teacher)
    if has_teacher and balanced and settings.dataset.rows.label_fraction < 1:
        raise UserError(
            "sampling draws rows by their class, and with dataset.label_fraction < 1 most classes are "
            "unknown; use sampling=uniform"
        )


def check_unlabeled_is_used(balanced: bool, uses_teacher: bool) -> None:
    """Check that the rows of ``dataset.unlabeled`` can be used.

    They would otherwise teach nothing, or their classes would have to be known.

    Raises:
        UserError: says which.
    """
    if not uses_teacher:
        raise UserError(
            "dataset.unlabeled: the student's loss looks at labels alone, so rows without one would teach it nothing; "
            "choose a loss that listens to a teacher, or leave them out"
        )
    if balanced:
        raise UserError("sampling draws rows by their class, and those of dataset.unlabeled have none; use sampling=uniform")


def check_losses(
    settings: RunSettings, teacher: Classifier | None, pool: Pool, dataset: Dataset, context: RunContext
) -> Classifier:
    """Compare an untrained student with its untrained teacher, as the losses will.

    Args:
        settings: of the run, or of a generation.
        teacher: its network; None where it is not trained here.
        pool: the student's rows.
        dataset: theirs.
        context: the device.

    Returns:
        Such a student, to teach the next.
    """
    spec = ModelSpec.of_data(settings.student.model, settings.student.preprocessing, dataset)
    student = build_model(spec, "student.model", settings.seed)
    plan, task = controls.student_plan(settings), find_task(dataset.task)
    stages = build_stages(plan, settings.log_gradients, task)
    pairs = feature_pairs(stages)
    set_feature_layers(student, [path for path, _ in pairs], "student")
    if teacher is not None:
        rows = context.rows(pool.select(np.arange(min(EXAMPLES, len(pool)))), dataset)
        batch_size = min(plan.training.batch_size, len(pool))
        teachers = [freeze_teacher(teacher.to(context.device), pairs, task)]
        bind_losses(stages, student.to(context.device), teachers, rows, data_facts(pool, dataset), plan.seed, batch_size, task)
    elif isinstance(settings.teacher.source, FromLogits):
        check_has_features(pairs)
    query = TeacherQuery(pairs, pool, dataset, context, plan.training, plan.seed, settings.cache)
    check_output_cache(query, teacher if uses_teacher(stages) else None)
    return build_model(spec, "student.model", settings.seed)
