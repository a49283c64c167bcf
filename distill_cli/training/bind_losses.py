"""Where losses meet student and teacher: features tapped, losses bound to example outputs, a gradient seen to arrive."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distill_cli.data.loader import SubsetLoader
from distill_cli.errors import UserError
from distill_cli.factory.stages import StageSpec, feature_pairs
from distill_cli.losses.objective import max_weight
from distill_cli.models.classifier import Classifier
from distill_cli.rng import seeded
from distill_cli.tasks.task import Task
from distill_cli.training.freezing import freeze_all_but, trainable_parameters
from distill_cli.training.gradient_stats import any_gradient_reaches, preserve_buffers
from distill_cli.types import DataFacts, ModelOutput, Teacher

EXAMPLES = 8  # rows that a loss sees before training: some relate samples to each other


def bind_losses(
    parts: Sequence[StageSpec],
    model: Classifier,
    teachers: Sequence[Teacher],
    rows: SubsetLoader,
    known: DataFacts,
    seed: int,
    batch_size: int,
    task: Task,
) -> list[str]:
    """Tap the features that the losses compare, let the losses look at example outputs, and see that each stage learns something.

    Args:
        parts: the stages; their losses may draw weights of their own, from stream ``loss_init`` of the seed.
        model: the student; it stays tapped.
        teachers: tapped already.
        rows: the first few are the example.
        known: what losses may know of the training rows.
        seed: the run's seed.
        batch_size: rows of a training batch.
        task: what is learned.

    Returns:
        The value of each stage's objective on the example, to two digits.

    Raises:
        UserError: the student has no such module, a module has no one output, a loss refuses what it sees, or gives no
            gradient to anything that its stage trains, or to the student in batches of this size.
    """
    set_feature_layers(model, [student for student, _ in feature_pairs(parts)], "student")
    example = rows.batch_at(torch.arange(min(EXAMPLES, len(rows))))
    model.eval()
    try:
        with torch.no_grad():
            taught = [teacher(example) for teacher in teachers] if uses_teacher(parts) else []
    except ValueError as e:
        raise UserError(f"features of the teacher: {e}") from None
    values = []
    for number, part in enumerate(parts):
        objective, given = part.objective, taught if part.objective.uses_teacher else []
        # a loss makes its own parameters here, from the shapes that it sees
        with torch.no_grad(), seeded(seed, "loss_init", number):
            try:
                objective.to(rows.device)
                student = task.forward(model, example.inputs, example)
                check_outputs(part, student, given)
                objective.bind(known, student, given)
                objective.to(rows.device)
                values.append(f"{float(objective(task.forward(model, example.inputs, example), given, example)[0]):.2g}")
            except ValueError as e:
                raise UserError(f"{part.config_path}loss: {e}") from None
            except OverflowError as e:
                raise UserError(f"{part.config_path}loss: a setting of it is too large ({e.args[-1]})") from None
        check_batches([part], batch_size, known.num_classes)
        try:
            trained = trainable_parameters(model.network, part.trainable_modules)
        except ValueError as e:
            raise UserError(f"{part.config_path}train: {e}") from None
        with seeded(seed, "try"), preserve_buffers(objective), freeze_all_but(model.network, part.trainable_modules):
            objective.skip_pretraining()
            student = task.forward(model, example.inputs, example)
            reached = any_gradient_reaches(objective.weighted_terms(student, given, example), trained)
        if not trained:
            raise UserError("student.model: this network has no parameters to train")
        if not reached:
            wrong = f"train={list(part.trainable_modules)}" if part.trainable_modules is not None else "loss"
            raise UserError(f"{part.config_path}{wrong}: the loss gives no gradient to any layer that is trained")
    return values


def check_outputs(part: StageSpec, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
    """See that the models give what each loss reads.

    Raises:
        UserError: names the loss, what it reads and whose outputs lack it.
    """
    for name, term in part.objective.items():
        outputs = {"student": student, **({"teacher": teachers[0]} if term.uses_teacher and teachers else {})}
        for model, output in outputs.items():
            for field in term.requires:
                if getattr(output, field) is None:
                    place = part.config_path + (name if name == "loss" else f"terms.{name}")
                    raise UserError(f"{place}: reads the {field} of the {model}, which gives none; choose another loss")


def check_targets(parts: Sequence[StageSpec], task: Task) -> None:
    """See that each loss is one for the targets of the task.

    Raises:
        UserError: names the loss and the task's own.
    """
    for part in parts:
        for name, term in part.objective.items():
            if term.targets and task.targets not in term.targets:
                place = part.config_path + (name if name == "loss" else f"terms.{name}")
                raise UserError(
                    f"{place}: {type(term).__name__} is for targets that are {' or '.join(term.targets)}, and those of "
                    f"task={task.name} are {task.targets}; choose another loss, such as {task.distillation_loss}"
                )


def check_pretraining(parts: Sequence[StageSpec], steps_per_epoch: int) -> None:
    """See that no stage ends before a loss that first trains itself has reached the student.

    Raises:
        UserError: names the loss.
    """
    for part in parts:
        steps = part.epochs * steps_per_epoch
        for name, term in part.objective.items():
            if steps <= term.pretrain_steps:
                path = name if name == "loss" else f"terms.{name}"
                raise UserError(
                    f"{part.config_path}{path}.pretrain_steps={term.pretrain_steps}: the stage has {steps} steps, so this loss would "
                    "never reach the student; give it fewer, or the stage more epochs"
                )


def check_batches(parts: Sequence[StageSpec], batch_size: int, classes: int) -> list[str]:
    """See that what the losses compare varies within a batch and over the classes.

    Args:
        parts: the stages; a loss may know only after it is bound how many rows it needs.
        batch_size: rows of a training batch.
        classes: C.

    Returns:
        A line for each part of a loss that teaches nothing where others of it do.

    Raises:
        UserError: nothing of a loss would reach the student; names it and what it needs.
    """
    notes = []
    for part in parts:
        for name, term in part.objective.items():
            if not max_weight(part.objective.schedules[name]):
                continue
            place = part.config_path + (name if name == "loss" else f"terms.{name}")
            if batch_size < term.min_batch_size:
                raise UserError(
                    f"batch_size={batch_size}: {place} teaches nothing on batches of fewer than {term.min_batch_size} rows; "
                    f"give batch_size={term.min_batch_size} or more, and as many training rows, or choose another loss"
                )
            if classes < term.min_classes:
                raise UserError(
                    f"{place}: teaches nothing with {classes} classes, it needs {term.min_classes}; "
                    "choose another loss, such as soft_target"
                )
            idle = [p for p, (rows, least) in term.part_minimums.items() if batch_size < rows or classes < least]
            lines = [f"{place}.{p}: this part teaches nothing {_needs(*term.part_minimums[p])}" for p in idle]
            if idle and len(idle) == len(term.part_minimums):
                raise UserError(f"{lines[0]}, and neither does another of this loss; choose another loss, such as soft_target")
            notes += lines
    return notes


def _needs(rows: int, classes: int) -> str:
    return f"on batches of fewer than {rows} rows" if rows > 1 else f"with fewer than {classes} classes"


def uses_teacher(parts: Sequence[StageSpec]) -> bool:
    """Return whether any stage needs a teacher."""
    return any(part.objective.uses_teacher for part in parts)


def set_feature_layers(model: Classifier, paths: Sequence[str], who: str) -> None:
    """Tap a model, or say whose module does not exist."""
    try:
        model.set_feature_layers(paths)
    except ValueError as e:
        raise UserError(f"features of the {who}: {e}") from None
