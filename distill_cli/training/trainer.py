"""The training loop: train step, fit, predict.

All calls of `backward` and of an optimizer's `step` are here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.errors import UserError
from distill_cli.losses.objective import Objective
from distill_cli.models.classifier import Classifier
from distill_cli.rng import seeded, set_rng_state
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.tasks.registry import CLASSIFICATION, find_task
from distill_cli.tasks.task import Task
from distill_cli.training.freezing import freeze_all_but, set_frozen_modules_to_eval, trainable_parameters
from distill_cli.training.gradient_stats import balancing_factors, gradient_gram_matrix, gradient_stats, preserve_buffers
from distill_cli.training.model_selection import ModelSelection
from distill_cli.training.state import TrainerState, capture_state, restore_state
from distill_cli.types import (
    DEFAULT_STAGE,
    Batch,
    BatchTransform,
    EpochCallback,
    EpochRecord,
    GradientStats,
    ModelOutput,
    Stage,
    Teacher,
)
from distill_cli.utils import signals as stop_signals

# Reading a value from another device than the CPU waits for that device; there losses are read once in this many steps.
STEPS_BETWEEN_CHECKS = 32
RandomState = Mapping[str, Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Precision:
    """Arithmetic of the forward pass on one device.

    ``32``, ``bf16`` or ``fp16`` (with loss scaling).
    """

    name: str
    device: torch.device
    scaler: torch.amp.GradScaler | None = None

    def __post_init__(self) -> None:
        if self.name == "fp16":
            self.scaler = torch.amp.GradScaler(self.device.type)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of a forward pass."""
        if self.name not in DTYPES:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.name])


@dataclass
class FitResult:
    """Result of `Trainer.fit`.

    The model holds the weights of the best epoch.

    Attributes:
        history: records of all epochs.
        best_epoch: number of the epoch whose weights the model holds, from 0.
        steps, samples, seconds: optimizer steps, samples and seconds of the training, without validation.
        skipped_steps: optimizer steps that the fp16 gradient scaler skipped; None without a scaler.
        weight_change: L2 norm of the change of the weights, as a share of the initial weights' norm.
    """

    history: list[EpochRecord]
    best_epoch: int
    steps: int
    samples: int
    seconds: float
    skipped_steps: int | None = None
    weight_change: float | None = None

    @property
    def terms(self) -> dict[str, float]:
        """Mean weighted terms in the best epoch."""
        return self.history[self.best_epoch].loss_terms


@dataclass
class Trainer:
    """Trainer of one model over all stages.

    Args:
        name: name of the model in messages.
        model: the student (or the teacher in its own training).
        train_data: training rows.
        sampler: order of the training rows.
        teachers: teachers that the objective compares the model with.
        validate: function that returns the model's scores on validation.
        seed: seed of dropout and of the gradient measurements.
        precision: arithmetic of the forward pass.
        transforms: changes of every batch, in order, before both forward passes: augmentation, mixup.
        clip_grad_norm: largest norm of the gradient, or None.
        on_progress: function that is called now and then with the number of samples of the epoch so far.
        checkpoints: store of the training's checkpoints; None: no checkpoints.
        log: function that is called with one line when a training is resumed.
    """

    name: str
    model: Classifier
    train_data: SubsetLoader
    sampler: EpochBatchSampler
    teachers: Sequence[Teacher]
    validate: Callable[[nn.Module], dict[str, float]]
    seed: int
    precision: Precision
    transforms: Sequence[BatchTransform] = ()
    clip_grad_norm: float | None = None
    on_progress: Callable[[int], object] | None = None
    checkpoints: CheckpointManager | None = None
    log: Callable[[str], object] = lambda line: None
    task: Task = field(default_factory=lambda: find_task(CLASSIFICATION))

    def fit(self, stages: Sequence[Stage], selection: ModelSelection, on_epoch_end: EpochCallback) -> FitResult:
        """Run the stages in order and load the best weights of the last stage.

        The best epoch is one of the last stage, and patience counts there only: after an earlier stage, such as one on hints,
        the head is untrained. With `checkpoints` the training resumes from the newest one, a finished training at its end.

        Raises:
            UserError: a term is NaN or infinite; names term, epoch and step. Or the outputs on validation are.
            Interrupted: a signal asked for it; with `checkpoints` the last step is saved.
        """
        first = [parameter.detach().clone() for parameter in self.model.parameters()]
        course, random = self.load_checkpoint(stages, selection)
        with stop_signals.defer_signals() if self.checkpoints is not None else contextlib.nullcontext():
            for stage in stages[course.stage :]:
                with freeze_all_but(self.model.network, stage.trainable_modules):
                    if stage.balance_gradients and not course.epoch_in_stage and not course.step_in_epoch:
                        self.balance_loss_weights(stage, len(course.history))
                    while course.epoch_in_stage < stage.epochs:
                        self.fit_epoch(course, stages, selection, on_epoch_end, random)
                        random = None
                course.end_stage()
            self.save_checkpoint(course, stages, selection)
        self.model.load_state_dict(selection.best_state_dict)
        skipped_steps = course.skipped_steps if self.precision.scaler is not None else None
        change = relative_change(first, list(self.model.parameters()))
        return FitResult(
            course.history,
            selection.best_epoch,
            course.global_step,
            course.samples_seen,
            course.train_seconds,
            skipped_steps,
            change,
        )

    def load_checkpoint(self, stages: Sequence[Stage], selection: ModelSelection) -> tuple[TrainerState, RandomState | None]:
        """Return the progress and the random state of the newest checkpoint.

        Without a checkpoint a new state. The random state is None unless an epoch was interrupted.
        """
        state = None
        if self.checkpoints is not None:
            state, message = self.checkpoints.load_latest()
            if message:
                self.log(message)
        if state is None:
            return TrainerState(), None
        try:
            course, random = restore_state(state, self.model, stages, selection, self.precision.scaler)
        except (ValueError, ArithmeticError) as e:
            folder = self.checkpoints.folder if self.checkpoints is not None else ""
            raise UserError(f"{folder}: a state there is of another training ({e}); use resume=never to begin again") from None
        if course.stage == len(stages):
            self.log(f"{self.name}: finished before; its state is taken up")
        else:
            self.log(f"{self.name}: going on after epoch {len(course.history)}, step {course.step_in_epoch}")
        return course, random if course.step_in_epoch else None

    def save_checkpoint(self, course: TrainerState, stages: Sequence[Stage], selection: ModelSelection) -> None:
        """Save a checkpoint if the weights are finite.

        Without `checkpoints` nothing is saved. If the weights are not finite, the last checkpoint stays.
        """
        if self.checkpoints is None:
            return
        if all(bool(p.isfinite().all()) for p in self.model.parameters()):
            self.checkpoints.save(capture_state(course, self.model, stages, selection, self.precision.scaler))
        else:
            stop_signals.raise_if_requested()

    def fit_epoch(
        self,
        course: TrainerState,
        stages: Sequence[Stage],
        selection: ModelSelection,
        listen: EpochCallback,
        random: RandomState | None,
    ) -> None:
        """Train and score one epoch, or the rest of an interrupted one."""
        stage, epoch = stages[course.stage], len(course.history)
        start = time.perf_counter() - course.epoch_seconds
        if random is None:
            course.begin_epoch(
                self.measure_gradients(stage, epoch, course.epoch_in_stage)
                if stage.logs_gradients_at(course.epoch_in_stage)
                else None,
                len(stage.objective.names),
            )

        def save() -> None:
            course.epoch_seconds = time.perf_counter() - start
            self.save_checkpoint(course, stages, selection)

        means = self.train_epoch(stage, epoch, course, random, save)
        trained = time.perf_counter() - start
        scores = self.validate(self.model)
        is_last = course.stage == len(stages) - 1
        record = EpochRecord(
            model=self.name, stage=stage.name, epoch=epoch + 1, step=course.global_step + stage.steps_per_epoch,
            lr=stage.optimizer.param_groups[0]["lr"], loss=sum(means.values()), loss_terms=means, val=scores,
            seconds=time.perf_counter() - start, is_best=is_last and selection.update(epoch, scores, self.model),
            weights=dict(stage.objective.weights), gradients=course.gradient_stats,
        )  # fmt: skip
        course.end_epoch(record, stage.steps_per_epoch, trained)
        listen(record)
        if is_last and selection.should_stop(epoch):
            course.epoch_in_stage = stage.epochs
        if self.checkpoints is not None and self.checkpoints.should_save():
            self.save_checkpoint(course, stages, selection)

    def train_epoch(
        self,
        stage: Stage,
        epoch: int,
        course: TrainerState,
        random: RandomState | None = None,
        save_checkpoint: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Make the remaining steps of an epoch and return the mean weighted terms.

        Args:
            stage: current stage.
            epoch: number of the epoch over all stages, from 0.
            course: progress of the training, updated after every step.
            random: random state of an interrupted epoch, or None at the start of an epoch.
            save_checkpoint: function that saves a checkpoint after a step.
        """
        objective = self.set_train_mode(stage)
        device = self.precision.device
        every = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS
        pending_losses: list[Tensor] = []
        has_schedules, checkpoints, stage_epoch = objective.has_schedules, self.checkpoints, course.epoch_in_stage
        with seeded(self.seed, "dropout", epoch), contextlib.closing(self.batches(epoch, course.step_in_epoch)) as batches:
            if random is not None:
                set_rng_state(random)
            for step, batch in enumerate(batches, course.step_in_epoch):
                if has_schedules:
                    objective.set_progress(stage.progress(stage_epoch, step))
                parts = self.train_step(stage, batch, course)
                course.samples_in_epoch += len(batch.index)
                pending_losses.append(parts)
                if self.on_progress is not None and step % STEPS_BETWEEN_CHECKS == 0:
                    self.on_progress(course.samples_in_epoch)
                if len(pending_losses) == every:
                    self.accumulate_losses(pending_losses, stage, course.loss_sums, epoch, step)
                    pending_losses = []
                stage.lr_scheduler.step()
                course.step_in_epoch = step + 1
                if checkpoints is not None and checkpoints.should_save() and course.step_in_epoch < stage.steps_per_epoch:
                    self.accumulate_losses(pending_losses, stage, course.loss_sums, epoch, step)
                    pending_losses = []
                    save_checkpoint()
        self.accumulate_losses(pending_losses, stage, course.loss_sums, epoch, stage.steps_per_epoch - 1)
        return {name: total / stage.steps_per_epoch for name, total in zip(objective.names, course.loss_sums, strict=True)}

    def set_train_mode(self, stage: Stage) -> Objective:
        """Set the trained modules to train mode, the others to eval mode.

        Returns the objective.
        """
        self.model.train()
        set_frozen_modules_to_eval(self.model.network, stage.trainable_modules)
        return stage.objective.train()

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the augmented batches of an epoch, starting at step `first`.

        Deterministic: the same epoch and step always give the same batch.
        """
        plan = islice(self.sampler.epoch(epoch), first, None)
        for step, batch in enumerate(self.train_data.iter_batches(plan), first):
            for change in self.transforms:
                batch = change(batch, epoch, step)
            yield batch

    def measure_gradients(self, stage: Stage, epoch: int, within: int = 0, *, skip_pretraining: bool = False) -> GradientStats:
        """Measure the gradient of each loss term on the first batches of an epoch.

        In train mode, without changing the training state.

        Random draws come from a stream of their own, and the buffers of student and losses (batch norm's statistics) are
        restored; a loss's state elsewhere is not. Instead of fp16 with loss scaling, float32 is used. A loss in its pretraining
        has no gradient, unless `skip_pretraining`.

        Args:
            stage: current stage.
            epoch: number of the epoch over all stages, from 0.
            within: number of the epoch in the stage, from 0.
            skip_pretraining: whether losses are measured as after their pretraining.
        """
        objective = self.set_train_mode(stage)
        objective.set_progress(stage.progress(within))
        parameters = trainable_parameters(self.model.network, stage.trainable_modules)
        arithmetic = self.precision.autocast() if self.precision.scaler is None else contextlib.nullcontext()
        grams = []
        with seeded(self.seed, "gradients", epoch), preserve_buffers(self.model, objective):
            if skip_pretraining:
                objective.skip_pretraining()
            for batch in islice(self.batches(epoch), max(1, stage.gradient_log_batches)):
                with arithmetic:
                    teachers = teacher_outputs(self.teachers, batch) if objective.uses_teacher else []
                    parts = objective.weighted_terms(self.task.forward(self.model, batch.inputs, batch), teachers, batch)
                grams.append(gradient_gram_matrix(parts, parameters))
        return gradient_stats(objective.names, grams)

    def balance_loss_weights(self, stage: Stage, epoch: int) -> None:
        """Scale the loss weights so that all terms' gradients have the same norm.

        Measured at the start of the stage.

        Raises:
            UserError: a term has no gradient there; names the term.
        """
        try:
            stage.objective.balance(balancing_factors(self.measure_gradients(stage, epoch, skip_pretraining=True)))
        except ValueError as e:
            raise UserError(
                f"{self.name}: balance_gradients=at_start: {e}; give it a weight above 0, or leave balance_gradients out"
            ) from None

    def train_step(self, stage: Stage, batch: Batch, course: TrainerState) -> Tensor:
        """Update the weights once and return the weighted terms ``[K]``.

        A step that the fp16 gradient scaler skips is counted in `course.skipped_steps` and changes nothing.
        """
        objective: Objective = stage.objective
        with self.precision.autocast():
            # The teachers first: the student's activations are then still in the processor's cache when backward reads them.
            teachers = teacher_outputs(self.teachers, batch) if objective.uses_teacher else []
            student = self.task.forward(self.model, batch.inputs, batch)
            loss, parts = objective(student, teachers, batch)
        optimizer, scaler = stage.optimizer, self.precision.scaler
        optimizer.zero_grad(set_to_none=True)
        if scaler is None:
            loss.backward()
            self.clip_gradient(optimizer)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            if self.clip_grad_norm is not None:
                scaler.unscale_(optimizer)
            self.clip_gradient(optimizer)
            scaler.step(optimizer)
            scale = scaler.get_scale()
            scaler.update()
            course.skipped_steps += scaler.get_scale() < scale
        self.model.after_step()
        return parts

    def clip_gradient(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of all trained parameters to norm `clip_grad_norm`."""
        if self.clip_grad_norm is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.clip_grad_norm)

    def accumulate_losses(self, parts: Sequence[Tensor], stage: Stage, totals: list[float], epoch: int, last: int) -> None:
        """Add the loss terms of the last steps to `totals`.

        Args:
            parts: weighted terms ``[K]`` of each step since the last call.
            stage: current stage.
            totals: sums of the K terms, updated in place.
            epoch: number of the epoch over all stages, from 0.
            last: number of the last step in the epoch, from 0.

        Raises:
            UserError: a term is NaN or infinite; names term, epoch and step.
        """
        values = [parts[0].tolist()] if len(parts) == 1 else torch.stack(list(parts)).tolist() if parts else []
        for row, terms in enumerate(values):
            for k, value in enumerate(terms):
                if not math.isfinite(value):
                    where = f" of stage '{stage.name}'" if stage.name != DEFAULT_STAGE else ""
                    step = last - len(values) + row + 2
                    raise UserError(
                        f"{self.name}: term '{stage.objective.names[k]}'{where} is {value} at epoch {epoch + 1}, step {step} "
                        "of the epoch; lower the learning rate (optimizer.lr) or set clip_grad_norm=1"
                    )
                totals[k] += value


@torch.no_grad()
def relative_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the relative length of the difference of two lists of tensors.

    As a share of the first list's length, or of 1 where that length is 0.
    """
    change = sum(float((b - a).double().square().sum()) for a, b in zip(before, after, strict=True))
    length = sum(float(a.double().square().sum()) for a in before)
    return math.sqrt(change / (length or 1.0))


def dry_run_step(stage: Stage, parameter: nn.Parameter) -> None:
    """Make one optimizer and schedule step on a parameter with a gradient of ones."""
    parameter.grad = torch.ones_like(parameter)
    stage.optimizer.step()
    stage.lr_scheduler.step()


@torch.no_grad()
def predict(model: nn.Module, rows: SubsetLoader, chunk: int, task: Task | None = None) -> Tensor:
    """Return logits ``[N, C]`` float32 on the CPU, in eval mode.

    `chunk` rows at a time, in order.

    The same chunk size gives the same digits.
    """
    model.eval()
    forward = (task or find_task(CLASSIFICATION)).forward
    return torch.cat([forward(model, x).logits.float() for x in rows.iter_inputs(chunk)]).cpu()


def teacher_outputs(teachers: Sequence[Teacher], batch: Batch) -> list[ModelOutput]:
    """Return every teacher's output for the batch, in order."""
    return [teacher(batch) for teacher in teachers]
