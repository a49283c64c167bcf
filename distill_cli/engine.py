"""The loop: train step, fit, predict. The only `backward` and the only `step`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.batches import Rows, Sampler
from distill_cli.errors import UserError
from distill_cli.freezing import only, stand_still, trained_parameters
from distill_cli.gradients import balancing, gram, kept_buffers, pull
from distill_cli.models.classifier import Classifier
from distill_cli.objective import Objective
from distill_cli.rng import global_stream
from distill_cli.selection import Selection
from distill_cli.teachers import Teacher, outputs
from distill_cli.types import ONLY_STAGE, Batch, Change, EpochListener, EpochRecord, Pull, Stage

# Off the CPU a look at a value waits for the device; there losses are looked at once in this many steps.
STEPS_BETWEEN_CHECKS = 32
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
    """What a training gave: the model holds the best weights."""

    records: list[EpochRecord]
    best_epoch: int
    steps: int
    samples: int
    seconds: float

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

    def fit(self, stages: Sequence[Stage], selection: Selection, listen: EpochListener) -> Fit:
        """Run the stages one after the other and load the best weights: those of an epoch of the last stage.

        Earlier stages prepare; after a hint stage the head is untrained, so its epochs are no candidates, and patience
        counts in the last stage only.

        Raises:
            UserError: a term is NaN or infinite; names term, epoch and step.
        """
        records: list[EpochRecord] = []
        steps = samples = 0
        seconds = 0.0
        for stage in stages:
            with only(self.model.network, stage.train):
                if stage.balance:
                    self.balance(stage, len(records))
                for within in range(stage.epochs):
                    epoch = len(records)
                    start = time.perf_counter()
                    pulled = self.measure(stage, epoch, within) if stage.measured_at(within) else None
                    means, seen = self.train_epoch(stage, epoch, within)
                    seconds += time.perf_counter() - start
                    steps, samples = steps + stage.steps_per_epoch, samples + seen
                    scores = self.validate(self.model)
                    record = EpochRecord(
                        model=self.name, stage=stage.name, epoch=epoch + 1, step=steps,
                        lr=stage.optimizer.param_groups[0]["lr"], loss=sum(means.values()), terms=means, val=scores,
                        seconds=time.perf_counter() - start,
                        best=stage is stages[-1] and selection.see(epoch, scores, self.model),
                        weights=dict(stage.objective.weights), pull=pulled,
                    )  # fmt: skip
                    records.append(record)
                    listen(record)
                    if stage is stages[-1] and selection.exhausted(epoch):
                        break
        self.model.load_state_dict(selection.weights)
        return Fit(records, selection.epoch, steps, samples, seconds)

    def train_epoch(self, stage: Stage, epoch: int, within: int) -> tuple[dict[str, float], int]:
        """Make the steps of an epoch, the stage's number `within`; return the mean of each weighted term and the rows seen."""
        objective = self.train_mode(stage)
        device = self.precision.device
        every = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS
        totals = [0.0] * len(objective.names)
        unseen: list[Tensor] = []
        rows = 0
        moves = objective.moves
        with global_stream(self.seed, "dropout", epoch):
            for step, batch in enumerate(self.batches(epoch)):
                if moves:
                    objective.advance(stage.done(within, step))
                parts = self.train_step(stage, batch)
                rows += len(batch.index)
                unseen.append(parts)
                if self.on_rows is not None and step % STEPS_BETWEEN_CHECKS == 0:
                    self.on_rows(rows)
                if len(unseen) == every:
                    self.look_at(unseen, stage, totals, epoch, step)
                    unseen = []
                stage.schedule.step()
        self.look_at(unseen, stage, totals, epoch, stage.steps_per_epoch - 1)
        means = {name: total / stage.steps_per_epoch for name, total in zip(objective.names, totals, strict=True)}
        return means, rows

    def train_mode(self, stage: Stage) -> Objective:
        """Put what the stage trains into train mode, the rest of the student into eval mode; return the objective."""
        self.model.train()
        stand_still(self.model.network, stage.train)
        return stage.objective.train()

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches as both forward passes see them; the same whenever they are asked for."""
        for step, positions in enumerate(self.sampler.epoch(epoch)):
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

    def train_step(self, stage: Stage, batch: Batch) -> Tensor:
        """Change the weights once; return the weighted terms ``[K]``."""
        objective: Objective = stage.objective
        with self.precision.autocast():
            student = self.model(batch.x)
            teachers = outputs(self.teachers, batch) if objective.uses_teacher else []
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
            scaler.update()
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
