"""The loop: train step, fit, predict. The only `backward` and the only `step`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

# Off the CPU a look at a value waits for the device; there losses are looked at once in this many steps.
STEPS_BETWEEN_CHECKS = 32
RandomState = Mapping[str, Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Precision:
    """Arithmetic of the forward pass: ``32``, ``bf16`` or ``fp16`` (with loss scaling), on one device."""

    name: str
    device: torch.device
    scaler: torch.amp.GradScaler | None = None

    def __post_init__(self) -> None:
        if self.name == "fp16":
            self.scaler = torch.amp.GradScaler(self.device.type)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        if self.name not in DTYPES:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.name])


@dataclass
class FitResult:
    """What a training gave: the model holds the best weights.

    Attributes:
        history: of all epochs.
        best_epoch: whose weights are kept, from 0.
        steps, samples, seconds: of the training; validation is not counted in the seconds.
        skipped_steps: those that loss scaling left out; None without it.
        weight_change: length of what training added to the weights, as a share of the length they began with.
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
    """What stays the same over the stages of one training.

    Args:
        name: the model's name, for messages.
        model: the student (or the teacher in its own training).
        train_data: its training rows.
        sampler: which of them each step sees.
        teachers: what the objective compares it with.
        validate: scores of the model on validation.
        seed: of dropout.
        precision: arithmetic of the forward pass.
        transforms: applied to every batch, in order, before both forward passes: augmentation, mixup.
        clip_grad_norm: largest norm of the gradient, or None.
        on_progress: told now and then how many rows of the epoch are done.
        checkpoints: where the training's state is saved and looked for; None: nowhere.
        log: told in one line where a training goes on.
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
        """Run the stages one after the other and load the best weights: those of an epoch of the last stage.

        Earlier stages prepare; after a hint stage the head is untrained, so its epochs are no candidates, and patience
        counts in the last stage only. With `checkpoints` it goes on where the newest one stands, a finished training at its end.

        Raises:
            UserError: a term is NaN or infinite; names term, epoch and step. Or the outputs on validation are.
            Interrupted: a signal asked for it; with `checkpoints` the last step is kept.
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
        """Return where to begin: at the newest state, with its random draws, or at the beginning."""
        state = None
        if self.checkpoints is not None:
            state, said = self.checkpoints.load_latest()
            if said:
                self.log(said)
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
        """Save the state, if states are kept and the weights are finite; else the last good one stays."""
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
        """Train and score one epoch, or the rest of the one that a state broke off, with its random draws."""
        stage, epoch = stages[course.stage], len(course.history)
        start = time.perf_counter() - course.epoch_seconds
        if random is None:
            course.begin_epoch(
                self.measure_gradients(stage, epoch, course.epoch_in_stage)
                if stage.logs_gradients_at(course.epoch_in_stage)
                else None,
                len(stage.objective.names),
            )

        def keep() -> None:
            course.epoch_seconds = time.perf_counter() - start
            self.save_checkpoint(course, stages, selection)

        means = self.train_epoch(stage, epoch, course, random, keep)
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
        keep: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Make the steps of an epoch that `course` has not done; return the mean of each weighted term.

        Args:
            stage: what is minimised.
            epoch: of the training.
            course: counts along.
            random: draws to go on with in the middle of an epoch.
            save_checkpoint: saves the state after a step.
        """
        objective = self.set_train_mode(stage)
        device = self.precision.device
        every = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS
        unseen: list[Tensor] = []
        moves, states, within = objective.has_schedules, self.checkpoints, course.epoch_in_stage
        with seeded(self.seed, "dropout", epoch):
            if random is not None:
                set_rng_state(random)
            for step, batch in enumerate(self.batches(epoch, course.step_in_epoch), course.step_in_epoch):
                if moves:
                    objective.set_progress(stage.progress(within, step))
                parts = self.train_step(stage, batch, course)
                course.samples_in_epoch += len(batch.index)
                unseen.append(parts)
                if self.on_progress is not None and step % STEPS_BETWEEN_CHECKS == 0:
                    self.on_progress(course.samples_in_epoch)
                if len(unseen) == every:
                    self.accumulate_losses(unseen, stage, course.loss_sums, epoch, step)
                    unseen = []
                stage.lr_scheduler.step()
                course.step_in_epoch = step + 1
                if states is not None and states.should_save() and course.step_in_epoch < stage.steps_per_epoch:
                    self.accumulate_losses(unseen, stage, course.loss_sums, epoch, step)
                    unseen = []
                    keep()
        self.accumulate_losses(unseen, stage, course.loss_sums, epoch, stage.steps_per_epoch - 1)
        return {name: total / stage.steps_per_epoch for name, total in zip(objective.names, course.loss_sums, strict=True)}

    def set_train_mode(self, stage: Stage) -> Objective:
        """Put what the stage trains into train mode, the rest of the student into eval mode; return the objective."""
        self.model.train()
        set_frozen_modules_to_eval(self.model.network, stage.trainable_modules)
        return stage.objective.train()

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from step `first` as both forward passes see them; the same whenever they are asked for."""
        for step, positions in islice(enumerate(self.sampler.epoch(epoch)), first, None):
            batch = self.train_data.batch_at(positions)
            for change in self.transforms:
                batch = change(batch, epoch, step)
            yield batch

    def measure_gradients(self, stage: Stage, epoch: int, within: int = 0, *, skip_pretraining: bool = False) -> GradientStats:
        """Return how hard each term pulls on the first batches of an epoch, in train mode; training goes on as if not asked.

        Random draws come from a stream of their own, and the buffers of student and losses (batch norm's statistics) are
        put back. A loss that keeps a state elsewhere notices. Loss scaling (fp16) is left out, and so is its precision.
        A loss that trains itself first pulls at nothing meanwhile, unless `skip_pretraining`.
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
        """Give each term the factor that makes all gradients equally long at the start of the stage.

        Raises:
            UserError: a term has no gradient there.
        """
        try:
            stage.objective.balance(balancing_factors(self.measure_gradients(stage, epoch, skip_pretraining=True)))
        except ValueError as e:
            raise UserError(f"{self.name}: balance=start: {e}; give it a weight above 0, or leave balance out") from None

    def train_step(self, stage: Stage, batch: Batch, course: TrainerState) -> Tensor:
        """Change the weights once; return the weighted terms ``[K]``.

        A step that skipped_steps (fp16) is counted, and changes nothing.
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
        """Scale the gradient of everything trained to norm `clip_grad_norm` where it is longer."""
        if self.clip_grad_norm is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.clip_grad_norm)

    def accumulate_losses(self, parts: Sequence[Tensor], stage: Stage, totals: list[float], epoch: int, last: int) -> None:
        """Add the terms of the last steps, up to step `last`, to `totals`; stop at the first that is not finite."""
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
    """Return the length of the difference of two lists of tensors, as a share of the first's length (of 1 where that is 0)."""
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
    """Return logits ``[N, C]`` float32 on the CPU, in eval mode, `chunk` rows at a time in order.

    The same chunk size gives the same digits.
    """
    model.eval()
    forward = (task or find_task(CLASSIFICATION)).forward
    return torch.cat([forward(model, x).logits.float() for x in rows.iter_inputs(chunk)]).cpu()


def teacher_outputs(teachers: Sequence[Teacher], batch: Batch) -> list[ModelOutput]:
    """Return every teacher's output for the batch, in order."""
    return [teacher(batch) for teacher in teachers]
