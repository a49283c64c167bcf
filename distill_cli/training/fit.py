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
from distill_cli.config.instantiate import build
from distill_cli.data.augment import Shift
from distill_cli.data.loader import Rows, Sampler
from distill_cli.data.mixup import Mixup
from distill_cli.data.stored_views import Views
from distill_cli.errors import UserError
from distill_cli.factory.context import Context
from distill_cli.factory.data import facts
from distill_cli.factory.objective import cross_entropy_objective
from distill_cli.factory.stages import Part
from distill_cli.metrics.classification import quick_scores
from distill_cli.models.classifier import Classifier
from distill_cli.rng import global_stream
from distill_cli.training.bind_losses import bind, uses_teacher
from distill_cli.training.freezing import trained_parameters
from distill_cli.training.model_selection import Selection
from distill_cli.training.trainer import Fit, Precision, Trainer, predict, try_step
from distill_cli.types import Change, Dataset, Pool, Stage, Teacher
from distill_cli.utils import files


def fit(
    name: str,
    model: Classifier,
    parts: Sequence[Part],
    pool: Pool,
    dataset: Dataset,
    teachers: Sequence[Teacher],
    settings: Mapping[str, Any],
    seed: int,
    context: Context,
    stop_after: int | None = None,
    views: int = 0,
    taught_by: str | None = None,
) -> Fit:
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
    model.fit_preparation(pool)  # inputs need no labels: student and control prepare theirs alike
    if not uses_teacher(parts):
        pool = pool.take(pool.labelled)
    model.to(context.device)
    rows, val = context.rows(pool, dataset), context.rows(dataset.val, dataset)
    batch_size = min(settings["batch_size"], len(rows))
    values = bind(parts, model, teachers, rows, facts(pool, dataset), seed, batch_size)
    decided = {"settings": dict(settings), "seed": seed, "stop_after": stop_after, "views": views, "values": values}
    decided["teacher"] = taught_by
    key = training_key(parts, pool, dataset, {**decided, "precision": context.precision})
    _try_train_mode(model, rows, batch_size, name)
    sampler = Sampler(pool.y, settings["batch_size"], seed, settings["sampling"]["power"], settings["steps_per_epoch"])
    trainer = Trainer(
        name=name,
        model=model,
        rows=rows,
        sampler=sampler,
        teachers=teachers,
        validate=lambda m: quick_scores(predict(m, val, context.chunk).numpy(), dataset.val.y, dataset.averaged),
        seed=seed,
        precision=Precision(context.precision, context.device),
        changes=changes(settings, seed, dataset.input_shape, "teacher." if name == "teacher" else "", rows, views),
        clip=settings["clip_grad_norm"],
        on_rows=context.progress.step,
        states=context.states(name, key),
        say=context.progress.say,
    )
    stages = [make_stage(model, part, sampler.steps_per_epoch) for part in parts]
    context.progress.start(
        name, sum(stage.epochs for stage in stages), sampler.steps_per_epoch * sampler.batch_size, sampler.steps_per_epoch
    )
    try:
        return trainer.fit(stages, Selection(**settings["select"], stop_after=stop_after), context.epoch)
    finally:
        context.progress.finish()
        model.tap(())


def changes(
    settings: Mapping[str, Any], seed: int, shape: tuple[int, ...], where: str = "", rows: Rows | None = None, views: int = 0
) -> list[Change]:
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
        return [Views(rows, views, shift, alpha, seed)]
    wanted: list[Change] = [Shift(shift, seed)] if shift else []
    return [*wanted, Mixup(alpha, seed)] if alpha else wanted


def check_training(parts: Sequence[Part], where: str = "") -> None:
    """Build optimizer and schedule of each stage for one number and make a step, so that what cannot work is found at once.

    Args:
        parts: the stages.
        where: whose they are, for messages: ``controls.slow.``.

    Raises:
        UserError: names the setting's place and what is wrong with it.
    """
    for part in parts:
        number, place = nn.Parameter(torch.zeros(1)), where + part.where
        part = replace(part, where=place, objective=cross_entropy_objective("none"), train=None)
        try:
            try_step(make_stage(nn.ParameterList([number]), part, 1), number)
        except UserError:
            raise
        except (ValueError, TypeError, ArithmeticError, RuntimeError) as e:
            raise UserError(f"{place}optimizer or {place}schedule cannot make a step: {str(e).splitlines()[0]}") from None
        if not bool(number.isfinite().all()):
            raise UserError(f"{place}optimizer: a step with it is not finite; look at lr={part.optimizer.get('lr')}")


def make_stage(model: nn.Module, part: Part, steps_per_epoch: int) -> Stage:
    """Make optimizer and schedule for everything that the stage trains, the losses' own parameters included."""
    student = trained_parameters(model.network if isinstance(model, Classifier) else model, part.train)
    parameters = [*student, *(p for p in part.objective.parameters() if p.requires_grad)]
    optimizer = build(part.optimizer, f"{part.where}optimizer", params=parameters)
    total = part.epochs * steps_per_epoch
    schedule = build(part.schedule, f"{part.where}schedule", optimizer=optimizer, total_steps=total)
    every = part.measure_every(steps_per_epoch)
    return Stage(
        part.name, part.objective, part.epochs, steps_per_epoch, optimizer, schedule, part.train, every,
        measure_batches=part.gradients["batches"] if every and part.gradients else 1, balance=part.balance,
    )  # fmt: skip


@torch.no_grad()
def _try_train_mode(model: nn.Module, rows: Rows, batch_size: int, name: str) -> None:
    with global_stream(0, "try"):
        try:
            copy.deepcopy(model).train()(rows.take(torch.arange(batch_size)).x)
        except (ValueError, TypeError, AttributeError, LookupError, AssertionError) as e:
            why = (str(e).splitlines() or [""])[0] or type(e).__name__
            raise UserError(f"{name}: this network cannot train on batches of {batch_size}: {why}") from None


def training_key(parts: Sequence[Part], pool: Pool, dataset: Dataset, decided: Mapping[str, Any]) -> str:
    """Return what decides a training, so that a state of another one is not gone on from.

    What its losses are is known by their values on a few rows, to two digits: they follow from the teacher's outputs and the
    student's first weights, and other threads or machines may move the last digits.
    """
    stages = [[p.name, p.epochs, p.optimizer, p.schedule, p.train, p.balance, p.objective.names] for p in parts]
    rows = files.hash_bytes(np.ascontiguousarray(pool.index).tobytes(), pool.labelled.tobytes(), pool.foreign.encode())
    return files.hash_json([RECIPE_VERSION, dataset.fingerprint, rows, stages, decided])
