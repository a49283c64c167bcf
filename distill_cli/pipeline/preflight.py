"""Before hours go into a teacher: is everything that training will need sound?"""

from __future__ import annotations

from typing import Any

import numpy as np

from distill_cli.data.loader import EpochBatchSampler
from distill_cli.errors import UserError
from distill_cli.factory import controls
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import data_facts
from distill_cli.factory.objective import supervised_objective
from distill_cli.factory.stages import build_stages as stages_of
from distill_cli.factory.stages import feature_pairs, single_stage
from distill_cli.factory.task import check_metric
from distill_cli.factory.tuned_settings import SearchResult
from distill_cli.models.classifier import Classifier
from distill_cli.runs.checkpoint import build_model, model_spec
from distill_cli.tasks.classification import bias_correction
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import generations as teacher_generations
from distill_cli.teachers import train as teacher_training
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


def preflight(cfg: Any, found: SearchResult | None, pool: Pool, dataset: Dataset, context: RunContext) -> None:
    """Build everything of a run and of its links once, on nothing, so that a mistake costs no training.

    Args:
        cfg: the composed config.
        found: where the tuned control's settings come from.
        pool: the student's rows.
        dataset: theirs.
        context: the device.

    Raises:
        UserError: what cannot be built, cannot make a step, or cannot be compared with its teacher.
    """
    task, links = find_task(dataset.task), teacher_generations.generations_of(cfg)
    check_metric(cfg.teacher.select.metric, task, "teacher.select.metric")
    check_settings(cfg, found, pool, dataset, context)
    for link in links:
        with teacher_generations.prefix_errors(link) as own:
            check_settings(own, None, pool, dataset, context)
    taught_by = None
    if not any(cfg.teacher[key] is not None for key in teacher_training.SOURCES):
        dry_run_optimizers(
            single_stage(supervised_objective(task, cfg.teacher.class_weight, "teacher."), cfg.teacher, "teacher.")
        )
        build_transforms(cfg.teacher, 0, dataset.input_shape, "teacher.")
        taught_by = build_untrained_teacher(cfg.teacher, dataset)
    for link in links:
        with teacher_generations.prefix_errors(link) as own:
            taught_by = check_losses(own, taught_by, pool, dataset, context)
    check_losses(cfg, taught_by, pool, dataset, context)


def check_settings(cfg: Any, found: SearchResult | None, pool: Pool, dataset: Dataset, context: RunContext) -> None:
    """Build the student, its losses, its optimizers and those of its controls.

    Raises:
        UserError: what cannot be built, or cannot make a step.
    """
    task = find_task(dataset.task)
    if cfg.student.bias_fix and not task.has_classes:
        raise UserError(f"student.bias_fix: task={task.name} has no classes that could be missing; set student.bias_fix=false")
    if cfg.student.bias_fix:
        bias_correction.missing_classes(pool, dataset)
    build_model(model_spec(cfg.student.model, cfg.student.prepare, dataset), "student.model", cfg.seed)
    for plan in controls.build_plans(cfg, cfg.controls, found):
        where = f"controls.{plan.name}." if plan.is_control and plan.name != SCRATCH else ""
        stages = stages_of(cfg, plan, task)
        check_targets(stages, task)
        check_metric(plan.settings["select"]["metric"], task, f"{where}select.metric")
        dry_run_optimizers(stages, where)
        build_transforms(plan.settings, plan.seed, dataset.input_shape, where)
        if not plan.is_control:
            seen = pool if uses_teacher(stages) else pool.select(pool.labeled)
            sampler = EpochBatchSampler(
                task.strata(seen.y), plan.settings["batch_size"], plan.seed, steps_per_epoch=plan.settings["steps_per_epoch"]
            )
            check_pretraining(stages, sampler.steps_per_epoch)
            for note in check_batches(stages, sampler.batch_size, len(dataset.class_names)):
                context.progress.say(note)
        if pool.extra_fingerprint and not plan.is_control:
            check_unlabeled_is_used(plan, uses_teacher(stages))
        if (
            not plan.is_control
            and uses_teacher(stages)
            and plan.settings["sampling"]["power"]
            and cfg.dataset.get("label_fraction", 1.0) < 1
        ):
            raise UserError(
                "sampling draws rows by their class, and with dataset.label_fraction < 1 most classes are "
                "unknown; use sampling=uniform"
            )


def check_unlabeled_is_used(plan: controls.TrainingPlan, uses_teacher: bool) -> None:
    """Refuse rows of ``dataset.unlabeled`` that would teach nothing, or whose classes would have to be known.

    Raises:
        UserError: says which.
    """
    if not uses_teacher:
        raise UserError(
            "dataset.unlabeled: the student's loss looks at labels alone, so rows without one would teach it nothing; "
            "choose a loss that listens to a teacher, or leave them out"
        )
    if plan.settings["sampling"]["power"]:
        raise UserError("sampling draws rows by their class, and those of dataset.unlabeled have none; use sampling=uniform")


def check_losses(cfg: Any, taught_by: Classifier | None, pool: Pool, dataset: Dataset, context: RunContext) -> Classifier:
    """Compare an untrained student with its untrained teacher, as the losses will.

    Args:
        cfg: of the run, or of a link.
        taught_by: the teacher's network; None where it is not trained here.
        pool: the student's rows.
        dataset: theirs.
        context: the device.

    Returns:
        Such a student, to teach the next.
    """
    task, entry = find_task(dataset.task), model_spec(cfg.student.model, cfg.student.prepare, dataset)
    student = build_model(entry, "student.model", cfg.seed)
    plan = controls.build_plans(cfg, [])[0]
    stages = stages_of(cfg, plan, task)
    pairs = feature_pairs(stages)
    set_feature_layers(student, [path for path, _ in pairs], "student")
    if taught_by is not None:
        rows = context.rows(pool.select(np.arange(min(EXAMPLES, len(pool)))), dataset)
        batch_size = min(plan.settings["batch_size"], len(pool))
        teachers = [freeze_teacher(taught_by.to(context.device), pairs, task)]
        bind_losses(stages, student.to(context.device), teachers, rows, data_facts(pool, dataset), cfg.seed, batch_size, task)
    elif cfg.teacher.outputs is not None:
        check_has_features(pairs)
    lesson = TeacherQuery(pairs, pool, dataset, context, plan.settings, plan.seed, cfg.cache)
    check_output_cache(lesson, taught_by if uses_teacher(stages) else None)
    return build_model(entry, "student.model", cfg.seed)
