"""Config -> a fit: objective, sampler, optimizer, schedule, and the loop that they go into."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from distill_cli.augment import Shift
from distill_cli.batches import Rows, Sampler
from distill_cli.config.validate import build
from distill_cli.engine import Fit, Precision, Selection, Trainer, predict, try_step
from distill_cli.errors import UserError
from distill_cli.losses.hard import Hard
from distill_cli.metrics.scores import quick_scores
from distill_cli.mixup import Mixup
from distill_cli.models.classifier import Classifier
from distill_cli.objective import Objective
from distill_cli.pipeline.context import Context
from distill_cli.pipeline.data import facts
from distill_cli.rng import global_stream
from distill_cli.teachers import FrozenTeacher, Teacher
from distill_cli.types import Change, DataFacts, Dataset, Pool, Stage


def build_objective(loss: Mapping[str, Any], terms: Mapping[str, Mapping[str, Any]], seed: int) -> Objective:
    """Build the weighted losses of a student: the term `loss` and the further ones by name."""
    nodes = {"loss": loss, **{f"terms.{name}": node for name, node in terms.items()}}
    built, weights = {}, {}
    with global_stream(seed, "loss_init"):
        for path, node in nodes.items():
            name = path.removeprefix("terms.")
            if name in built or "." in name:
                raise UserError(f"{path}: a term is named by one word other than 'loss'; choose another name")
            weights[name] = float(node.get("weight", 1.0))
            term = build({k: v for k, v in node.items() if k != "weight"}, path)
            if not callable(term) or not hasattr(term, "uses_teacher"):
                raise UserError(f"{path}: {type(term).__name__} is no loss: it needs uses_teacher and a call; see docs/extend.md")
            built[name] = term if isinstance(term, nn.Module) else PlainLoss(term)
    if not any(weights.values()):
        raise UserError("loss.weight=0: nothing is left to minimise; give the loss or a term a weight above 0")
    return Objective(built, weights)


class PlainLoss(nn.Module):
    """A user's loss that is no nn.Module, as one."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss
        self.uses_teacher = bool(loss.uses_teacher)

    def forward(self, *args: Any) -> torch.Tensor:
        """Return what the loss returns."""
        return self.loss(*args)


def hard_objective(class_weight: Any) -> Objective:
    """Return a teacher's own objective: cross-entropy."""
    return Objective({"hard": Hard(class_weight)}, {"hard": 1.0})


def fit(
    name: str,
    model: Classifier,
    objective: Objective,
    pool: Pool,
    dataset: Dataset,
    teachers: Sequence[Teacher],
    settings: Mapping[str, Any],
    seed: int,
    context: Context,
    stop_after: int | None = None,
) -> Fit:
    """Train one model: teacher, student and control all pass here.

    Args:
        name: what messages and metrics call it.
        model: gets the best epoch's weights.
        objective: what is minimised.
        pool: its training rows; an objective without a teacher sees the labelled ones only.
        dataset: for validation and the classes that macro F1 averages.
        teachers: frozen.
        settings: the keys TRAINING_KEYS.
        seed: of order, augmentation, mixup and dropout.
        context: device, precision, progress.
        stop_after: epochs after which it stops, instead of by patience.
    """
    model.fit_preparation(pool)  # inputs need no labels: student and control prepare theirs alike
    if not objective.uses_teacher:
        pool = pool.take(pool.labelled)
    model.to(context.device)
    objective.to(context.device)
    rows, val = context.rows(pool, dataset), context.rows(dataset.val, dataset)
    bind(objective, model, teachers, rows, facts(pool, dataset), seed)
    _try_train_mode(model, rows, min(settings["batch_size"], len(rows)), name)
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
        changes=changes(settings, seed, dataset.input_shape, "teacher." if name == "teacher" else ""),
        clip=settings["clip_grad_norm"],
        on_rows=context.progress.step,
    )
    stage = make_stage(model, objective, settings, sampler.steps_per_epoch, "teacher." if name == "teacher" else "")
    context.progress.start(name, stage.epochs, sampler.steps_per_epoch * sampler.batch_size)
    try:
        return trainer.fit([stage], Selection(**settings["select"], stop_after=stop_after), context.progress.epoch)
    finally:
        context.progress.finish()
        model.tap(())


def changes(settings: Mapping[str, Any], seed: int, shape: tuple[int, ...], where: str = "") -> list[Change]:
    """Return what happens to every training batch before it is seen: augmentation, then mixup.

    Raises:
        UserError: samples of this shape cannot be moved so far.
    """
    shift, alpha = settings["augment"]["shift"], settings["mixup"]["alpha"]
    if shift and (len(shape) < 2 or shift >= min(shape[1:])):
        raise UserError(
            f"{where}augment.shift={shift}: moves images and signals by fewer steps than they are long, "
            f"the data's samples have shape {shape}; use {where}augment=none"
        )
    wanted: list[Change] = [Shift(shift, seed)] if shift else []
    return [*wanted, Mixup(alpha, seed)] if alpha else wanted


def check_training(settings: Mapping[str, Any], where: str) -> None:
    """Build optimizer and schedule for one number and make a step, so that a value that cannot work is found at once.

    Raises:
        UserError: names the setting's place and what is wrong with it.
    """
    number = nn.Parameter(torch.zeros(1))
    try:
        try_step(make_stage(nn.ParameterList([number]), hard_objective("none"), settings, 1, where), number)
    except UserError:
        raise
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as e:
        raise UserError(f"{where}optimizer or {where}schedule cannot make a step: {str(e).splitlines()[0]}") from None
    if not bool(number.isfinite().all()):
        raise UserError(f"{where}optimizer: a step with it is not finite; look at lr={settings['optimizer'].get('lr')}")


def make_stage(model: nn.Module, objective: Objective, settings: Mapping[str, Any], steps_per_epoch: int, where: str) -> Stage:
    """Make optimizer and schedule for everything that the stage trains, the losses' own parameters included."""
    parameters = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimizer = build(settings["optimizer"], f"{where}optimizer", params=parameters)
    total = settings["epochs"] * steps_per_epoch
    schedule = build(settings["schedule"], f"{where}schedule", optimizer=optimizer, total_steps=total)
    return Stage("train", objective, settings["epochs"], steps_per_epoch, optimizer, schedule)


@torch.no_grad()
def _try_train_mode(model: nn.Module, rows: Rows, batch_size: int, name: str) -> None:
    with global_stream(0, "try"):
        try:
            copy.deepcopy(model).train()(rows.take(torch.arange(batch_size)).x)
        except ValueError as e:
            raise UserError(f"{name}: this network cannot train on batches of {batch_size}: {str(e).splitlines()[0]}") from None


@torch.no_grad()
def bind(objective: Objective, model: Classifier, teachers: Sequence[Teacher], rows: Rows, data: DataFacts, seed: int) -> None:
    """Tap the features that the terms compare, let the terms look at example outputs, and try them once.

    Args:
        objective: its terms may draw weights of their own, from stream ``loss_init`` of the seed.
        model: the student; it stays tapped.
        teachers: tapped already.
        rows: the first two are the example.
        data: what losses may know of the training rows.
        seed: the run's seed.

    Raises:
        UserError: the student has no such module, a module has no one output, or a term refuses what it sees.
    """
    tap(model, [student for student, _ in objective.pairs], "student")
    example = rows.take(torch.arange(min(2, len(rows))))
    model.eval()
    try:
        teacher_outputs = [teacher(example) for teacher in teachers] if objective.uses_teacher else []
        student = model(example.x)
        with global_stream(seed, "loss_init"):  # a loss makes its own parameters here, from the shapes that it sees
            objective.bind(data, student, teacher_outputs)
        objective.to(rows.device)
        objective(student, teacher_outputs, example)
    except ValueError as e:
        raise UserError(f"loss: {e}") from None


def tap(model: Classifier, paths: Sequence[str], who: str) -> None:
    """Tap a model, or say whose module does not exist."""
    try:
        model.tap(paths)
    except ValueError as e:
        raise UserError(f"features of the {who}: {e}") from None


def freeze(model: Classifier, objective: Objective) -> FrozenTeacher:
    """Return the model as a teacher that tells the features that the objective's terms compare."""
    try:
        return FrozenTeacher(model, [teacher for _, teacher in objective.pairs])
    except ValueError as e:
        raise UserError(f"features of the teacher: {e}") from None
