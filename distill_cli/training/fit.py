"""Config -> a fit: objective, sampler, optimizer, schedule, and the loop that they go into."""

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
from distill_cli.data.augment import RandomShift
from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.mixup import Mixup
from distill_cli.data.stored_views import StoredViews
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
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
from distill_cli.types import BatchTransform, Dataset, Pool, Stage, Teacher
from distill_cli.utils import files


def fit(
    name: str,
    model: Classifier,
    parts: Sequence[StageSpec],
    pool: Pool,
    dataset: Dataset,
    teachers: Sequence[Teacher],
    settings: Mapping[str, Any],
    seed: int,
    context: RunContext,
    stop_after: int | None = None,
    views: int = 0,
    taught_by: str | None = None,
) -> FitResult:
    """Train one model: teacher, student and control all pass here.

    Args:
        name: what messages and metrics call it.
        model: gets the best epoch's weights.
        parts: the stages; without any teacher in their objectives the labelled rows only are seen.
        pool: its training rows.
        dataset: for validation and the classes that macro F1 averages.
        teachers: frozen.
        settings: the keys TRAINING_KEYS; epochs, optimizer and schedule are those of `parts`.
        seed: of order, augmentation, mixup and dropout.
        context: device, precision, progress.
        stop_after: epochs after which it stops, instead of by patience.
        views: augmented and mixed inputs are so many stored views of the rows; 0: new ones every epoch.
        taught_by: what tells the teacher's weights or outputs apart from another's; None without one.
    """
    task = find_task(dataset.task)
    model.fit_preprocessing(pool)  # inputs need no labels: student and control prepare theirs alike
    if not uses_teacher(parts):
        pool = pool.select(pool.labeled)
    model.to(context.device)
    rows, val = context.rows(pool, dataset), context.rows(dataset.val, dataset)
    batch_size = min(settings["batch_size"], len(rows))
    values = bind_losses(parts, model, teachers, rows, data_facts(pool, dataset), seed, batch_size, task)
    key_parts = {"settings": dict(settings), "seed": seed, "stop_after": stop_after, "views": views, "values": values}
    key_parts["teacher"] = taught_by
    key = training_key(parts, pool, dataset, {**key_parts, "precision": context.precision})
    _dry_run_train_mode(model, rows, batch_size, name)
    sampler = EpochBatchSampler(
        task.strata(pool.y), settings["batch_size"], seed, settings["sampling"]["power"], settings["steps_per_epoch"]
    )
    trainer = Trainer(
        name=name,
        model=model,
        train_data=rows,
        sampler=sampler,
        teachers=teachers,
        validate=lambda m: task.epoch_scores(predict(m, val, context.eval_batch_size, task).numpy(), dataset.val, dataset),
        seed=seed,
        precision=Precision(context.precision, context.device),
        transforms=build_transforms(settings, seed, dataset.input_shape, "teacher." if name == "teacher" else "", rows, views),
        clip_grad_norm=settings["clip_grad_norm"],
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
        return trainer.fit(stages, _selection(settings["select"], task, stop_after), context.epoch)
    finally:
        context.progress.finish()
        model.set_feature_layers(())


def _selection(settings: Mapping[str, Any], task: Task, stop_after: int | None) -> ModelSelection:
    metric = task.metric(settings["metric"])
    assert metric is not None
    return ModelSelection(**settings, max_epochs=stop_after, higher_is_better=metric.higher_is_better)


def build_transforms(
    settings: Mapping[str, Any],
    seed: int,
    shape: tuple[int, ...],
    where: str = "",
    rows: SubsetLoader | None = None,
    views: int = 0,
) -> list[BatchTransform]:
    """Return what happens to every training batch before it is seen: augmentation, then mixup; or views of the rows with both.

    Raises:
        UserError: samples of this shape cannot be moved so far.
    """
    shift, alpha = settings["augment"]["shift"], settings["mixup"]["alpha"]
    if shift and (len(shape) < 2 or shift >= min(shape[1:])):
        raise UserError(
            f"{where}augment.shift={shift}: moves images and signals by fewer steps than they are long, "
            f"the data's samples have shape {shape}; use {where}augment=none"
        )
    if rows is not None and views and (shift or alpha):
        return [StoredViews(rows, views, shift, alpha, seed)]
    wanted: list[BatchTransform] = [RandomShift(shift, seed)] if shift else []
    return [*wanted, Mixup(alpha, seed)] if alpha else wanted


def dry_run_optimizers(parts: Sequence[StageSpec], where: str = "") -> None:
    """Build optimizer and schedule of each stage for one number and make a step, so that what cannot work is found at once.

    Args:
        parts: the stages.
        where: whose they are, for messages: ``controls.slow.``.

    Raises:
        UserError: names the setting's place and what is wrong with it.
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
            raise UserError(f"{place}optimizer or {place}schedule cannot make a step: {str(e).splitlines()[0]}") from None
        if not bool(number.isfinite().all()):
            raise UserError(f"{place}optimizer: a step with it is not finite; look at lr={part.optimizer.get('lr')}")


def make_stage(model: nn.Module, part: StageSpec, steps_per_epoch: int) -> Stage:
    """Make optimizer and schedule for everything that the stage trains, the losses' own parameters included."""
    student = trainable_parameters(model.network if isinstance(model, Classifier) else model, part.trainable_modules)
    parameters = [*student, *(p for p in part.objective.parameters() if p.requires_grad)]
    optimizer = instantiate_component(part.optimizer, f"{part.config_path}optimizer", params=parameters)
    total = part.epochs * steps_per_epoch
    schedule = instantiate_component(part.lr_scheduler, f"{part.config_path}schedule", optimizer=optimizer, total_steps=total)
    every = part.gradient_log_every(steps_per_epoch)
    return Stage(
        part.name, part.objective, part.epochs, steps_per_epoch, optimizer, schedule, part.trainable_modules, every,
        gradient_log_batches=part.log_gradients["batches"] if every and part.log_gradients else 1, balance_gradients=part.balance_gradients,
    )  # fmt: skip


@torch.no_grad()
def _dry_run_train_mode(model: nn.Module, rows: SubsetLoader, batch_size: int, name: str) -> None:
    with seeded(0, "try"):
        try:
            copy.deepcopy(model).train()(rows.batch_at(torch.arange(batch_size)).inputs)
        except (ValueError, TypeError, AttributeError, LookupError, AssertionError) as e:
            why = (str(e).splitlines() or [""])[0] or type(e).__name__
            raise UserError(f"{name}: this network cannot train on batches of {batch_size}: {why}") from None


def training_key(parts: Sequence[StageSpec], pool: Pool, dataset: Dataset, key_parts: Mapping[str, Any]) -> str:
    """Return what decides a training, so that a state of another one is not gone on from.

    What its losses are is known by their values on a few rows, to two digits: they follow from the teacher's outputs and the
    student's first weights, and other threads or machines may move the last digits.
    """
    stages = [
        [p.name, p.epochs, p.optimizer, p.lr_scheduler, p.trainable_modules, p.balance_gradients, p.objective.names]
        for p in parts
    ]
    rows = files.hash_bytes(np.ascontiguousarray(pool.index).tobytes(), pool.labeled.tobytes(), pool.extra_fingerprint.encode())
    return files.hash_json([RECIPE_VERSION, dataset.fingerprint, rows, stages, key_parts])
