"""The training state: everything that a checkpoint must hold.

A resumed run then equals an uninterrupted one.
"""

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
    """Progress of a training.

    Weights, optimizers, schedules and random states are not part of it.

    Attributes:
        stage: number of finished stages.
        epoch_in_stage: number of finished epochs of the current stage.
        step_in_epoch: number of finished steps of the current epoch.
        history: records of all finished epochs.
        global_step, samples_seen, train_seconds: optimizer steps, samples and seconds of all finished epochs.
        loss_sums: sum of each weighted term over the finished steps of the current epoch.
        samples_in_epoch, epoch_seconds: samples seen and seconds spent in the current epoch.
        gradient_stats: gradient statistics at the start of the current epoch, None where they were not measured.
        skipped_steps: optimizer steps that the fp16 gradient scaler skipped because a gradient was not finite.
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

    def begin_epoch(self, gradient_stats: GradientStats | None, terms: int) -> None:
        """Reset the sums of the previous epoch."""
        self.step_in_epoch, self.samples_in_epoch, self.gradient_stats, self.loss_sums = 0, 0, gradient_stats, [0.0] * terms

    def end_epoch(self, record: EpochRecord, steps: int, seconds: float) -> None:
        """Count a finished epoch."""
        self.history.append(record)
        self.epoch_in_stage, self.step_in_epoch, self.epoch_seconds = self.epoch_in_stage + 1, 0, 0.0
        self.global_step, self.samples_seen, self.train_seconds = (
            self.global_step + steps,
            self.samples_seen + self.samples_in_epoch,
            self.train_seconds + seconds,
        )

    def end_stage(self) -> None:
        """Count a finished stage."""
        self.stage, self.epoch_in_stage = self.stage + 1, 0


def capture_state(
    course: TrainerState, model: nn.Module, stages: Sequence[Stage], selection: ModelSelection, scaler: Any
) -> dict[str, Any]:
    """Return everything that the rest of the training depends on.

    Args:
        course: progress of the training.
        model: the trained model.
        stages: all stages, finished or not: a later stage may use parameters that an earlier one has trained.
        selection: selection with the best epoch so far.
        scaler: gradient scaler of fp16, or None.
    """
    return {
        "progress": asdict(course),
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
    """Load a state into a new model, optimizers, schedules and selection.

    Returns the progress of the training and the random state.

    Raises:
        ValueError: the state is of other models, losses, optimizers or stages.
    """
    try:
        model.load_state_dict(state["model"])
        for stage, stage_state in zip(stages, state["stages"], strict=True):
            stage.objective.load_state_dict(stage_state["objective"])
            stage.objective.factors = dict(stage_state["factors"])
            stage.objective.set_progress(0.0)
            stage.optimizer.load_state_dict(stage_state["optimizer"])
            stage.lr_scheduler.load_state_dict(stage_state["schedule"])
        device = next(iter(model.state_dict().values())).device
        selection.best_score, selection.best_epoch = state["selection"]["best"], state["selection"]["epoch"]
        selection.best_state_dict = {name: value.to(device) for name, value in state["selection"]["weights"].items()}
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        course = TrainerState(**state["progress"])
        course.history = [_record(record) for record in state["progress"]["history"]]
        course.gradient_stats = _gradient_stats(state["progress"]["gradient_stats"])
        validate_state(course, stages, selection, model)
        torch.Generator().set_state(state["random"]["cpu"])
    except (KeyError, TypeError, RuntimeError, AttributeError, IndexError) as e:
        raise ValueError((str(e).splitlines() or [type(e).__name__])[0]) from None
    return course, state["random"]


def validate_state(course: TrainerState, stages: Sequence[Stage], selection: ModelSelection, model: nn.Module) -> None:
    """Check that a state's counts fit these stages.

    The folder of the state may be from an untrusted source.

    Raises:
        ValueError: the counts do not fit.
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


def _record(record: Mapping[str, Any]) -> EpochRecord:
    return EpochRecord(**{**record, "gradients": _gradient_stats(record["gradients"])})


def _gradient_stats(stats: Mapping[str, Any] | None) -> GradientStats | None:
    return None if stats is None else GradientStats(**stats)
