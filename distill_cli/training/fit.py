"""Builds a fit from the settings.

It consists of objective, sampler, optimizer, schedule and the training loop.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from distill_cli import RECIPE_VERSION
from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.settings.training import TrainingSettings
from distill_cli.data.augment import RandomShift
from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.mixup import Mixup
from distill_cli.data.stored_views import StoredViews
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.controls import TrainingPlan
from distill_cli.factory.data import data_facts
from distill_cli.factory.stages import StageSpec
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.objective import Objective
from distill_cli.models.classifier import Classifier
from distill_cli.rng import seeded
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.training.bind_losses import bind_losses, uses_teacher
from distill_cli.training.freezing import trainable_parameters
from distill_cli.training.model_selection import ModelSelection
from distill_cli.training.trainer import FitResult, Precision, Trainer, dry_run_step, predict
from distill_cli.types import TEACHER, BatchTransform, Dataset, Pool, Stage, Teacher
from distill_cli.utils import files


def fit(
    plan: TrainingPlan,
    model: Classifier,
    parts: Sequence[StageSpec],
    pool: Pool,
    dataset: Dataset,
    teachers: Sequence[Teacher],
    context: RunContext,
) -> FitResult:
    """Train one model: teacher, student or control.

    Args:
        plan: its settings; epochs, optimizer and lr_scheduler are those of `parts`.
        model: gets the best epoch's weights.
        parts: the stages; without any teacher in their objectives the labeled rows only are seen.
        pool: its training rows.
        dataset: for validation and the classes that macro F1 averages.
        teachers: frozen.
        context: device, precision, progress.
    """
    task = find_task(dataset.task)
    model.fit_preprocessing(pool)  # inputs need no labels: student and control prepare theirs alike
    if not uses_teacher(parts):
        pool = pool.select(pool.labeled)
    model.to(context.device)
    rows, val = context.rows(pool, dataset), context.rows(dataset.val, dataset)
    training, name, where = plan.training, plan.name, "teacher." if plan.name == TEACHER else ""
    batch_size = min(training.batch_size, len(rows))
    values = bind_losses(parts, model, teachers, rows, data_facts(pool, dataset), plan.seed, batch_size, task)
    key = training_key(plan, parts, pool, dataset, {"values": values, "precision": context.precision})
    _dry_run_train_mode(model, rows, batch_size, name)
    power = training.sampling.class_balance_power
    sampler = EpochBatchSampler(task.strata(pool.y), training.batch_size, plan.seed, power, training.steps_per_epoch)
    trainer = Trainer(
        name=name,
        model=model,
        train_data=rows,
        sampler=sampler,
        teachers=teachers,
        validate=lambda m: task.epoch_scores(predict(m, val, context.eval_batch_size, task).numpy(), dataset.val, dataset),
        seed=plan.seed,
        precision=Precision(context.precision, context.device),
        transforms=build_transforms(training, plan.seed, dataset.input_shape, where, rows, plan.views),
        clip_grad_norm=training.clip_grad_norm,
        on_progress=context.progress.step,
        checkpoints=context.checkpoint_manager(name, key),
        log=context.progress.say,
        task=task,
    )
    stages = [make_stage(model, part, sampler.steps_per_epoch) for part in parts]
    context.progress.start(
        name, sum(stage.epochs for stage in stages), sampler.steps_per_epoch * sampler.batch_size, sampler.steps_per_epoch
    )
    try:
        return trainer.fit(stages, _selection(training, task, plan.stop_after), context.epoch)
    finally:
        context.progress.finish()
        model.set_feature_layers(())


def _selection(training: TrainingSettings, task: Task, stop_after: int | None) -> ModelSelection:
    metric = task.metric(training.monitor)
    assert metric is not None
    return ModelSelection(metric.name, training.early_stopping.patience, stop_after, metric.higher_is_better)


def build_transforms(
    training: TrainingSettings,
    seed: int,
    shape: tuple[int, ...],
    where: str = "",
    rows: SubsetLoader | None = None,
    views: int = 0,
) -> list[BatchTransform]:
    """Return the transforms of every training batch.

    Augmentation, then mixup; or stored views of the rows with both.

    Raises:
        UserError: samples of this shape cannot be shifted so far.
    """
    shift, alpha = training.augment.shift, training.mixup.alpha
    if shift and (len(shape) < 2 or shift >= min(shape[1:])):
        raise UserError(
            f"{where}augment.shift={shift}: moves images and signals by fewer steps than they are long, "
            f"the data's samples have shape {shape}; use {where}augment=none"
        )
    if rows is not None and views and (shift or alpha):
        return [StoredViews(rows, views, shift, alpha, seed)]
    shifts: list[BatchTransform] = [RandomShift(shift, seed)] if shift else []
    return [*shifts, Mixup(alpha, seed)] if alpha else shifts


def dry_run_optimizers(parts: Sequence[StageSpec], where: str = "") -> None:
    """Check that optimizer and schedule of each stage can make a step.

    Both are built for one number, so that an unusable setting is reported at once.

    Args:
        parts: settings of the stages.
        where: prefix of the stages' keys in messages, such as ``controls.slow.``.

    Raises:
        UserError: names the setting and its problem.
    """
    for part in parts:
        number, place = nn.Parameter(torch.zeros(1)), where + part.config_path
        part = replace(
            part, config_path=place, objective=Objective({"loss": CrossEntropy()}, {"loss": 1.0}), trainable_modules=None
        )
        try:
            dry_run_step(make_stage(nn.ParameterList([number]), part, 1), number)
        except UserError:
            raise
        except (ValueError, TypeError, ArithmeticError, RuntimeError) as e:
            raise UserError(f"{place}optimizer or {place}lr_scheduler cannot make a step: {str(e).splitlines()[0]}") from None
        if not bool(number.isfinite().all()):
            raise UserError(f"{place}optimizer: a step with it is not finite; look at lr={part.optimizer.get('lr')}")


def make_stage(model: nn.Module, part: StageSpec, steps_per_epoch: int) -> Stage:
    """Build optimizer and schedule for all parameters that the stage trains.

    Those of the losses included.
    """
    student = trainable_parameters(model.network if isinstance(model, Classifier) else model, part.trainable_modules)
    parameters = [*student, *(p for p in part.objective.parameters() if p.requires_grad)]
    optimizer = instantiate_component(part.optimizer, f"{part.config_path}optimizer", params=parameters)
    total = part.epochs * steps_per_epoch
    schedule = instantiate_component(part.lr_scheduler, f"{part.config_path}lr_scheduler", optimizer=optimizer, total_steps=total)
    every = part.gradient_log_every(steps_per_epoch)
    return Stage(
        part.name, part.objective, part.epochs, steps_per_epoch, optimizer, schedule, part.trainable_modules, every,
        gradient_log_batches=part.log_gradients.batches if every and part.log_gradients else 1,
        balance_gradients=part.balance_gradients,
    )  # fmt: skip


@torch.no_grad()
def _dry_run_train_mode(model: nn.Module, rows: SubsetLoader, batch_size: int, name: str) -> None:
    with seeded(0, "try"):
        try:
            copy.deepcopy(model).train()(rows.batch_at(torch.arange(batch_size)).inputs)
        except (ValueError, TypeError, AttributeError, LookupError, AssertionError) as e:
            why = (str(e).splitlines() or [""])[0] or type(e).__name__
            raise UserError(f"{name}: this network cannot train on batches of {batch_size}: {why}") from None


def training_key(plan: TrainingPlan, parts: Sequence[StageSpec], pool: Pool, dataset: Dataset, further: Mapping[str, Any]) -> str:
    """Return a hash of everything that decides a training.

    A checkpoint of another training is then not resumed.

    The losses are identified by their values on a few rows, to two digits: the values depend on the teacher's outputs and the
    student's first weights, and other threads or machines may change the last digits.
    """
    stages = [
        [p.name, p.epochs, p.optimizer, p.lr_scheduler, p.trainable_modules, p.balance_gradients, p.objective.names]
        for p in parts
    ]
    rows = files.hash_bytes(np.ascontiguousarray(pool.index).tobytes(), pool.labeled.tobytes(), pool.extra_fingerprint.encode())
    own = {
        "settings": plan.training.to_config(),
        "seed": plan.seed,
        "stop_after": plan.stop_after,
        "views": plan.views,
        "teacher": plan.teacher_hash,
    }
    return files.hash_json([RECIPE_VERSION, dataset.fingerprint, rows, stages, {**own, **further}])
