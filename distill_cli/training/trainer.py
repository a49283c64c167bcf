"""The loop: train step, fit, predict. The only `backward` and the only `step`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.data.loader import Rows, Sampler
from distill_cli.errors import UserError
from distill_cli.losses.objective import Objective
from distill_cli.models.classifier import Classifier
from distill_cli.rng import global_stream, set_random_state
from distill_cli.runs.training_checkpoint import States
from distill_cli.training.freezing import only, stand_still, trained_parameters
from distill_cli.training.gradient_stats import balancing, gram, kept_buffers, pull
from distill_cli.training.model_selection import Selection
from distill_cli.training.state import Course, put_back, state_of
from distill_cli.types import ONLY_STAGE, Batch, Change, EpochListener, EpochRecord, ModelOutput, Pull, Stage, Teacher
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
class Fit:
    """What a training gave: the model holds the best weights.

    Attributes:
        records: of all epochs.
        best_epoch: whose weights are kept, from 0.
        steps, samples, seconds: of the training; validation is not counted in the seconds.
        skipped_steps: those that loss scaling left out; None without it.
        weight_change: length of what training added to the weights, as a share of the length they began with.
    """

    records: list[EpochRecord]
    best_epoch: int
    steps: int
    samples: int
    seconds: float
    skipped_steps: int | None = None
    weight_change: float | None = None

    @property
    def terms(self) -> dict[str, float]:
        """Mean weighted terms in the best epoch."""
        return self.records[self.best_epoch].terms


@dataclass
class Trainer:
    """What stays the same over the stages of one training.

    Args:
        name: the model's name, for messages.
        model: the student (or the teacher in its own training).
        rows: its training rows.
        sampler: which of them each step sees.
        teachers: what the objective compares it with.
        validate: scores of the model on validation.
        seed: of dropout.
        precision: arithmetic of the forward pass.
        changes: applied to every batch, in order, before both forward passes: augmentation, mixup.
        clip: largest norm of the gradient, or None.
        on_rows: told now and then how many rows of the epoch are done.
        states: where the training's state is saved and looked for; None: nowhere.
        say: told in one line where a training goes on.
    """

    name: str
    model: Classifier
    rows: Rows
    sampler: Sampler
    teachers: Sequence[Teacher]
    validate: Callable[[nn.Module], dict[str, float]]
    seed: int
    precision: Precision
    changes: Sequence[Change] = ()
    clip: float | None = None
    on_rows: Callable[[int], object] | None = None
    states: States | None = None
    say: Callable[[str], object] = lambda line: None

    def fit(self, stages: Sequence[Stage], selection: Selection, listen: EpochListener) -> Fit:
        """Run the stages one after the other and load the best weights: those of an epoch of the last stage.

        Earlier stages prepare; after a hint stage the head is untrained, so its epochs are no candidates, and patience
        counts in the last stage only. With `states` it goes on where the newest one stands, a finished training at its end.

        Raises:
            UserError: a term is NaN or infinite; names term, epoch and step. Or the outputs on validation are.
            Interrupted: a signal asked for it; with `states` the last step is kept.
        """
        first = [parameter.detach().clone() for parameter in self.model.parameters()]
        course, random = self.resumed(stages, selection)
        with stop_signals.listening() if self.states is not None else contextlib.nullcontext():
            for stage in stages[course.stage :]:
                with only(self.model.network, stage.train):
                    if stage.balance and not course.within and not course.step:
                        self.balance(stage, len(course.records))
                    while course.within < stage.epochs:
                        self.run_epoch(course, stages, selection, listen, random)
                        random = None
                course.end_stage()
            self.keep(course, stages, selection)
        self.model.load_state_dict(selection.weights)
        skipped_steps = course.skipped_steps if self.precision.scaler is not None else None
        change = relative_change(first, list(self.model.parameters()))
        return Fit(course.records, selection.epoch, course.steps, course.samples, course.seconds, skipped_steps, change)

    def resumed(self, stages: Sequence[Stage], selection: Selection) -> tuple[Course, RandomState | None]:
        """Return where to begin: at the newest state, with its random draws, or at the beginning."""
        state = None
        if self.states is not None:
            state, said = self.states.load()
            if said:
                self.say(said)
        if state is None:
            return Course(), None
        try:
            course, random = put_back(state, self.model, stages, selection, self.precision.scaler)
        except (ValueError, ArithmeticError) as e:
            folder = self.states.folder if self.states is not None else ""
            raise UserError(f"{folder}: a state there is of another training ({e}); use resume=never to begin again") from None
        if course.stage == len(stages):
            self.say(f"{self.name}: finished before; its state is taken up")
        else:
            self.say(f"{self.name}: going on after epoch {len(course.records)}, step {course.step}")
        return course, random if course.step else None

    def keep(self, course: Course, stages: Sequence[Stage], selection: Selection) -> None:
        """Save the state, if states are kept and the weights are finite; else the last good one stays."""
        if self.states is None:
            return
        if all(bool(p.isfinite().all()) for p in self.model.parameters()):
            self.states.save(state_of(course, self.model, stages, selection, self.precision.scaler))
        else:
            stop_signals.stop()

    def run_epoch(
        self, course: Course, stages: Sequence[Stage], selection: Selection, listen: EpochListener, random: RandomState | None
    ) -> None:
        """Train and score one epoch, or the rest of the one that a state broke off, with its random draws."""
        stage, epoch = stages[course.stage], len(course.records)
        start = time.perf_counter() - course.spent
        if random is None:
            course.begin_epoch(
                self.measure(stage, epoch, course.within) if stage.measured_at(course.within) else None,
                len(stage.objective.names),
            )

        def keep() -> None:
            course.spent = time.perf_counter() - start
            self.keep(course, stages, selection)

        means = self.train_epoch(stage, epoch, course, random, keep)
        trained = time.perf_counter() - start
        scores = self.validate(self.model)
        is_last = course.stage == len(stages) - 1
        record = EpochRecord(
            model=self.name, stage=stage.name, epoch=epoch + 1, step=course.steps + stage.steps_per_epoch,
            lr=stage.optimizer.param_groups[0]["lr"], loss=sum(means.values()), terms=means, val=scores,
            seconds=time.perf_counter() - start, best=is_last and selection.see(epoch, scores, self.model),
            weights=dict(stage.objective.weights), pull=course.pulled,
        )  # fmt: skip
        course.end_epoch(record, stage.steps_per_epoch, trained)
        listen(record)
        if is_last and selection.exhausted(epoch):
            course.within = stage.epochs
        if self.states is not None and self.states.due():
            self.keep(course, stages, selection)

    def train_epoch(
        self,
        stage: Stage,
        epoch: int,
        course: Course,
        random: RandomState | None = None,
        keep: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Make the steps of an epoch that `course` has not done; return the mean of each weighted term.

        Args:
            stage: what is minimised.
            epoch: of the training.
            course: counts along.
            random: draws to go on with in the middle of an epoch.
            keep: saves the state after a step.
        """
        objective = self.train_mode(stage)
        device = self.precision.device
        every = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS
        unseen: list[Tensor] = []
        moves, states, within = objective.moves, self.states, course.within
        with global_stream(self.seed, "dropout", epoch):
            if random is not None:
                set_random_state(random)
            for step, batch in enumerate(self.batches(epoch, course.step), course.step):
                if moves:
                    objective.advance(stage.done(within, step))
                parts = self.train_step(stage, batch, course)
                course.rows += len(batch.index)
                unseen.append(parts)
                if self.on_rows is not None and step % STEPS_BETWEEN_CHECKS == 0:
                    self.on_rows(course.rows)
                if len(unseen) == every:
                    self.look_at(unseen, stage, course.totals, epoch, step)
                    unseen = []
                stage.schedule.step()
                course.step = step + 1
                if states is not None and states.due() and course.step < stage.steps_per_epoch:
                    self.look_at(unseen, stage, course.totals, epoch, step)
                    unseen = []
                    keep()
        self.look_at(unseen, stage, course.totals, epoch, stage.steps_per_epoch - 1)
        return {name: total / stage.steps_per_epoch for name, total in zip(objective.names, course.totals, strict=True)}

    def train_mode(self, stage: Stage) -> Objective:
        """Put what the stage trains into train mode, the rest of the student into eval mode; return the objective."""
        self.model.train()
        stand_still(self.model.network, stage.train)
        return stage.objective.train()

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from step `first` as both forward passes see them; the same whenever they are asked for."""
        for step, positions in islice(enumerate(self.sampler.epoch(epoch)), first, None):
            batch = self.rows.take(positions)
            for change in self.changes:
                batch = change(batch, epoch, step)
            yield batch

    def measure(self, stage: Stage, epoch: int, within: int = 0, *, skip_pretraining: bool = False) -> Pull:
        """Return how hard each term pulls on the first batches of an epoch, in train mode; training goes on as if not asked.

        Random draws come from a stream of their own, and the buffers of student and losses (batch norm's statistics) are
        put back. A loss that keeps a state elsewhere notices. Loss scaling (fp16) is left out, and so is its precision.
        A loss that trains itself first pulls at nothing meanwhile, unless `skip_pretraining`.
        """
        objective = self.train_mode(stage)
        objective.advance(stage.done(within))
        parameters = trained_parameters(self.model.network, stage.train)
        arithmetic = self.precision.autocast() if self.precision.scaler is None else contextlib.nullcontext()
        grams = []
        with global_stream(self.seed, "gradients", epoch), kept_buffers(self.model, objective):
            if skip_pretraining:
                objective.skip_pretraining()
            for batch in islice(self.batches(epoch), max(1, stage.measure_batches)):
                with arithmetic:
                    teachers = outputs(self.teachers, batch) if objective.uses_teacher else []
                    parts = objective.parts(self.model(batch.x), teachers, batch)
                grams.append(gram(parts, parameters))
        return pull(objective.names, grams)

    def balance(self, stage: Stage, epoch: int) -> None:
        """Give each term the factor that makes all gradients equally long at the start of the stage.

        Raises:
            UserError: a term has no gradient there.
        """
        try:
            stage.objective.balance(balancing(self.measure(stage, epoch, skip_pretraining=True)))
        except ValueError as e:
            raise UserError(f"{self.name}: balance=start: {e}; give it a weight above 0, or leave balance out") from None

    def train_step(self, stage: Stage, batch: Batch, course: Course) -> Tensor:
        """Change the weights once; return the weighted terms ``[K]``.

        A step that skipped_steps (fp16) is counted, and changes nothing.
        """
        objective: Objective = stage.objective
        with self.precision.autocast():
            # The teachers first: the student's activations are then still in the processor's cache when backward reads them.
            teachers = outputs(self.teachers, batch) if objective.uses_teacher else []
            student = self.model(batch.x)
            loss, parts = objective(student, teachers, batch)
        optimizer, scaler = stage.optimizer, self.precision.scaler
        optimizer.zero_grad(set_to_none=True)
        if scaler is None:
            loss.backward()
            self.clip_gradient(optimizer)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            if self.clip is not None:
                scaler.unscale_(optimizer)
            self.clip_gradient(optimizer)
            scaler.step(optimizer)
            scale = scaler.get_scale()
            scaler.update()
            course.skipped_steps += scaler.get_scale() < scale
        self.model.after_step()
        return parts

    def clip_gradient(self, optimizer: torch.optim.Optimizer) -> None:
        """Scale the gradient of everything trained to norm `clip` where it is longer."""
        if self.clip is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.clip)

    def look_at(self, parts: Sequence[Tensor], stage: Stage, totals: list[float], epoch: int, last: int) -> None:
        """Add the terms of the last steps, up to step `last`, to `totals`; stop at the first that is not finite."""
        values = [parts[0].tolist()] if len(parts) == 1 else torch.stack(list(parts)).tolist() if parts else []
        for row, terms in enumerate(values):
            for k, value in enumerate(terms):
                if not math.isfinite(value):
                    where = f" of stage '{stage.name}'" if stage.name != ONLY_STAGE else ""
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


def try_step(stage: Stage, parameter: nn.Parameter) -> None:
    """Make one optimizer and schedule step on a parameter with a gradient of ones."""
    parameter.grad = torch.ones_like(parameter)
    stage.optimizer.step()
    stage.schedule.step()


@torch.no_grad()
def predict(model: nn.Module, rows: Rows, chunk: int) -> Tensor:
    """Return logits ``[N, C]`` float32 on the CPU, in eval mode, `chunk` rows at a time in order.

    The same chunk size gives the same digits.
    """
    model.eval()
    return torch.cat([model(x).logits.float() for x in rows.chunks(chunk)]).cpu()


def outputs(teachers: Sequence[Teacher], batch: Batch) -> list[ModelOutput]:
    """Return every teacher's output for the batch, in order."""
    return [teacher(batch) for teacher in teachers]
