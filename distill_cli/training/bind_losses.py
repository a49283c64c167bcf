"""Binding of losses to student and teachers before training.

Hooks are set for the compared features, losses are bound to example outputs, and a gradient must reach the student.
"""

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

EXAMPLES = 8  # rows of the example outputs: more than one, as some losses relate samples to each other


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
    """Bind each stage's losses to example outputs, and check their gradients.

    The compared features of the student are captured from here on.

    Args:
        parts: settings and objectives of the stages; losses may initialise weights, from stream ``loss_init`` of the seed.
        model: the student; its feature layers stay set.
        teachers: teachers whose feature layers are set.
        rows: training rows, of which the first few are the example.
        known: facts about the training data for the losses.
        seed: seed of the run.
        batch_size: number of rows of a training batch.
        task: what is learned.

    Returns:
        The value of each stage's objective on the example, to two digits.

    Raises:
        UserError: the student has no such module, a module has no single output, a loss refuses the outputs, or gives no
            gradient to the parameters that its stage trains, or to the student in batches of this size.
    """
    set_feature_layers(model, [student for student, _ in feature_pairs(parts)], "student")
    example = rows.batch_at(torch.arange(min(EXAMPLES, len(rows))))
    model.eval()
    try:
        with torch.no_grad():
            teacher_examples = [teacher(example) for teacher in teachers] if uses_teacher(parts) else []
    except ValueError as e:
        raise UserError(f"features of the teacher: {e}") from None
    values = []
    for number, part in enumerate(parts):
        objective, outputs = part.objective, teacher_examples if part.objective.uses_teacher else []
        # a loss makes its own parameters here, from the shapes that it sees
        with torch.no_grad(), seeded(seed, "loss_init", number):
            try:
                objective.to(rows.device)
                student = task.forward(model, example.inputs, example)
                check_outputs(part, student, outputs)
                objective.bind(known, student, outputs)
                objective.to(rows.device)
                values.append(f"{float(objective(task.forward(model, example.inputs, example), outputs, example)[0]):.2g}")
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
            reached = any_gradient_reaches(objective.weighted_terms(student, outputs, example), trained)
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
    """Check that each stage outlasts the pretraining of its losses.

    Raises:
        UserError: names the loss.
    """
    for part in parts:
        steps = part.epochs * steps_per_epoch
        for name, term in part.objective.items():
            if steps <= term.pretrain_steps:
                path = name if name == "loss" else f"terms.{name}"
                raise UserError(
                    f"{part.config_path}{path}.pretrain_steps={term.pretrain_steps}: the stage has {steps} steps, so this loss "
                    "would never reach the student; give it fewer, or the stage more epochs"
                )


def check_batches(parts: Sequence[StageSpec], batch_size: int, classes: int) -> list[str]:
    """Check that the compared values vary within a batch and over the classes.

    Args:
        parts: settings and objectives of the stages; some losses know only after `bind` how many rows they need.
        batch_size: number of rows of a training batch.
        classes: number of classes C.

    Returns:
        A line for each part of a loss that has no effect while other parts of the loss have one.

    Raises:
        UserError: no part of a loss would reach the student; names the loss and its requirement.
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
    """Set the modules whose outputs a model returns as features.

    A module that does not exist gives a UserError that names the model.
    """
    try:
        model.set_feature_layers(paths)
    except ValueError as e:
        raise UserError(f"features of the {who}: {e}") from None
