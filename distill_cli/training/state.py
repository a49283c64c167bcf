"""Where a training stands, as one value that can be kept and put back: with it, it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from distill_cli import rng
from distill_cli.training.model_selection import ModelSelection
from distill_cli.types import EpochRecord, GradientStats, Stage


@dataclass
class TrainerState:
    """All that moves in a training besides weights, optimizers, schedules and random draws.

    Attributes:
        stage: stages that are done.
        epoch_in_stage: epochs of the stage under way that are done.
        step_in_epoch: steps of the epoch under way that are done.
        history: of all epochs that are done.
        global_step, samples_seen, train_seconds: of all epochs that are done.
        loss_sums: of each weighted term over the steps of the epoch under way.
        samples_in_epoch, epoch_seconds: rows seen and seconds spent in the epoch under way.
        gradient_stats: what its gradients measured at its start.
        skipped_steps: steps that loss scaling (fp16) has left out because a gradient was not finite.
    """

    stage: int = 0
    epoch_in_stage: int = 0
    step_in_epoch: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    global_step: int = 0
    samples_seen: int = 0
    train_seconds: float = 0.0
    loss_sums: list[float] = field(default_factory=list)
    samples_in_epoch: int = 0
    epoch_seconds: float = 0.0
    gradient_stats: GradientStats | None = None
    skipped_steps: int = 0

    def begin_epoch(self, pulled: GradientStats | None, terms: int) -> None:
        """Forget the epoch before."""
        self.step_in_epoch, self.samples_in_epoch, self.gradient_stats, self.loss_sums = 0, 0, pulled, [0.0] * terms

    def end_epoch(self, record: EpochRecord, steps: int, seconds: float) -> None:
        """Count an epoch."""
        self.history.append(record)
        self.epoch_in_stage, self.step_in_epoch, self.epoch_seconds = self.epoch_in_stage + 1, 0, 0.0
        self.global_step, self.samples_seen, self.train_seconds = (
            self.global_step + steps,
            self.samples_seen + self.samples_in_epoch,
            self.train_seconds + seconds,
        )

    def end_stage(self) -> None:
        """Count a stage."""
        self.stage, self.epoch_in_stage = self.stage + 1, 0


def capture_state(
    course: TrainerState, model: nn.Module, stages: Sequence[Stage], selection: ModelSelection, scaler: Any
) -> dict[str, Any]:
    """Return everything that the rest of the training depends on.

    Args:
        course: where it stands.
        model: the student.
        stages: all of them, done or not: a later one may use what an earlier one has trained.
        selection: the best epoch so far.
        scaler: of the loss, or None.
    """
    return {
        "course": {**asdict(course), "records": [asdict(record) for record in course.history]},
        "model": model.state_dict(),
        "stages": [
            {
                "objective": stage.objective.state_dict(),
                "factors": stage.objective.factors,
                "optimizer": stage.optimizer.state_dict(),
                "schedule": stage.lr_scheduler.state_dict(),
            }
            for stage in stages
        ],
        "selection": {"best": selection.best_score, "epoch": selection.best_epoch, "weights": selection.best_state_dict},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "random": rng.get_rng_state(),
    }


def restore_state(
    state: Mapping[str, Any], model: nn.Module, stages: Sequence[Stage], selection: ModelSelection, scaler: Any
) -> tuple[TrainerState, dict[str, torch.Tensor]]:
    """Put a state into what `state_of` took it from, made anew; return where the training stands, and its random draws.

    Raises:
        ValueError: the state is of other models, losses, optimizers or stages.
    """
    try:
        model.load_state_dict(state["model"])
        for stage, kept in zip(stages, state["stages"], strict=True):
            stage.objective.load_state_dict(kept["objective"])
            stage.objective.factors = dict(kept["factors"])
            stage.objective.set_progress(0.0)
            stage.optimizer.load_state_dict(kept["optimizer"])
            stage.lr_scheduler.load_state_dict(kept["schedule"])
        device = next(iter(model.state_dict().values())).device
        selection.best_score, selection.best_epoch = state["selection"]["best"], state["selection"]["epoch"]
        selection.best_state_dict = {name: value.to(device) for name, value in state["selection"]["weights"].items()}
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        course = TrainerState(**state["course"])
        course.history = [_record(record) for record in state["course"]["records"]]
        course.gradient_stats = _pull(state["course"]["pulled"])
        validate_state(course, stages, selection, model)
        torch.Generator().set_state(state["random"]["cpu"])
    except (KeyError, TypeError, RuntimeError, AttributeError, IndexError) as e:
        raise ValueError((str(e).splitlines() or [type(e).__name__])[0]) from None
    return course, state["random"]


def validate_state(course: TrainerState, stages: Sequence[Stage], selection: ModelSelection, model: nn.Module) -> None:
    """See that a state's counts are of these stages: a folder may come from anyone.

    Raises:
        ValueError: they are not.
    """
    counts = [
        course.stage,
        course.epoch_in_stage,
        course.step_in_epoch,
        course.global_step,
        course.samples_seen,
        course.samples_in_epoch,
        course.skipped_steps,
    ]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("its counts are no whole numbers")
    if course.stage > len(stages) or course.epoch_in_stage > max(stage.epochs for stage in stages):
        raise ValueError("it is past the end")
    stage = stages[min(course.stage, len(stages) - 1)]
    if course.step_in_epoch >= stage.steps_per_epoch or (
        course.step_in_epoch and len(course.loss_sums) != len(stage.objective.names)
    ):
        raise ValueError("it is past the end of an epoch")
    if not all(isinstance(value, int | float) for value in (course.train_seconds, course.epoch_seconds, *course.loss_sums)):
        raise ValueError("its sums are no numbers")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if (course.stage == len(stages) or selection.best_state_dict) and shapes != {
        n: w.shape for n, w in selection.best_state_dict.items()
    }:
        raise ValueError("its best weights are of another model")
    if type(selection.best_epoch) is not int or not -1 <= selection.best_epoch < max(1, len(course.history)):
        raise ValueError("its best epoch is none of its epochs")


def _record(kept: Mapping[str, Any]) -> EpochRecord:
    return EpochRecord(**{**kept, "pull": _pull(kept["pull"])})


def _pull(kept: Mapping[str, Any] | None) -> GradientStats | None:
    return None if kept is None else GradientStats(**kept)
