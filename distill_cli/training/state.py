"""Where a training stands, as one value that can be kept and put back: with it, it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from distill_cli import rng
from distill_cli.training.model_selection import Selection
from distill_cli.types import EpochRecord, Pull, Stage


@dataclass
class Course:
    """All that moves in a training besides weights, optimizers, schedules and random draws.

    Attributes:
        stage: stages that are done.
        within: epochs of the stage under way that are done.
        step: steps of the epoch under way that are done.
        records: of all epochs that are done.
        steps, samples, seconds: of all epochs that are done.
        totals: of each weighted term over the steps of the epoch under way.
        rows, spent: rows seen and seconds spent in the epoch under way.
        pulled: what its gradients measured at its start.
        skipped_steps: steps that loss scaling (fp16) has left out because a gradient was not finite.
    """

    stage: int = 0
    within: int = 0
    step: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    totals: list[float] = field(default_factory=list)
    rows: int = 0
    spent: float = 0.0
    pulled: Pull | None = None
    skipped_steps: int = 0

    def begin_epoch(self, pulled: Pull | None, terms: int) -> None:
        """Forget the epoch before."""
        self.step, self.rows, self.pulled, self.totals = 0, 0, pulled, [0.0] * terms

    def end_epoch(self, record: EpochRecord, steps: int, seconds: float) -> None:
        """Count an epoch."""
        self.records.append(record)
        self.within, self.step, self.spent = self.within + 1, 0, 0.0
        self.steps, self.samples, self.seconds = self.steps + steps, self.samples + self.rows, self.seconds + seconds

    def end_stage(self) -> None:
        """Count a stage."""
        self.stage, self.within = self.stage + 1, 0


def state_of(course: Course, model: nn.Module, stages: Sequence[Stage], selection: Selection, scaler: Any) -> dict[str, Any]:
    """Return everything that the rest of the training depends on.

    Args:
        course: where it stands.
        model: the student.
        stages: all of them, done or not: a later one may use what an earlier one has trained.
        selection: the best epoch so far.
        scaler: of the loss, or None.
    """
    return {
        "course": {**asdict(course), "records": [asdict(record) for record in course.records]},
        "model": model.state_dict(),
        "stages": [
            {
                "objective": stage.objective.state_dict(),
                "factors": stage.objective.factors,
                "optimizer": stage.optimizer.state_dict(),
                "schedule": stage.schedule.state_dict(),
            }
            for stage in stages
        ],
        "selection": {"best": selection.best, "epoch": selection.epoch, "weights": selection.weights},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "random": rng.random_state(),
    }


def put_back(
    state: Mapping[str, Any], model: nn.Module, stages: Sequence[Stage], selection: Selection, scaler: Any
) -> tuple[Course, dict[str, torch.Tensor]]:
    """Put a state into what `state_of` took it from, made anew; return where the training stands, and its random draws.

    Raises:
        ValueError: the state is of other models, losses, optimizers or stages.
    """
    try:
        model.load_state_dict(state["model"])
        for stage, kept in zip(stages, state["stages"], strict=True):
            stage.objective.load_state_dict(kept["objective"])
            stage.objective.factors = dict(kept["factors"])
            stage.objective.advance(0.0)
            stage.optimizer.load_state_dict(kept["optimizer"])
            stage.schedule.load_state_dict(kept["schedule"])
        device = next(iter(model.state_dict().values())).device
        selection.best, selection.epoch = state["selection"]["best"], state["selection"]["epoch"]
        selection.weights = {name: value.to(device) for name, value in state["selection"]["weights"].items()}
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])
        course = Course(**state["course"])
        course.records = [_record(record) for record in state["course"]["records"]]
        course.pulled = _pull(state["course"]["pulled"])
        check(course, stages, selection, model)
        torch.Generator().set_state(state["random"]["cpu"])
    except (KeyError, TypeError, RuntimeError, AttributeError, IndexError) as e:
        raise ValueError((str(e).splitlines() or [type(e).__name__])[0]) from None
    return course, state["random"]


def check(course: Course, stages: Sequence[Stage], selection: Selection, model: nn.Module) -> None:
    """See that a state's counts are of these stages: a folder may come from anyone.

    Raises:
        ValueError: they are not.
    """
    counts = [course.stage, course.within, course.step, course.steps, course.samples, course.rows, course.skipped_steps]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("its counts are no whole numbers")
    if course.stage > len(stages) or course.within > max(stage.epochs for stage in stages):
        raise ValueError("it is past the end")
    stage = stages[min(course.stage, len(stages) - 1)]
    if course.step >= stage.steps_per_epoch or (course.step and len(course.totals) != len(stage.objective.names)):
        raise ValueError("it is past the end of an epoch")
    if not all(isinstance(value, int | float) for value in (course.seconds, course.spent, *course.totals)):
        raise ValueError("its sums are no numbers")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if (course.stage == len(stages) or selection.weights) and shapes != {n: w.shape for n, w in selection.weights.items()}:
        raise ValueError("its best weights are of another model")
    if type(selection.epoch) is not int or not -1 <= selection.epoch < max(1, len(course.records)):
        raise ValueError("its best epoch is none of its epochs")


def _record(kept: Mapping[str, Any]) -> EpochRecord:
    return EpochRecord(**{**kept, "pull": _pull(kept["pull"])})


def _pull(kept: Mapping[str, Any] | None) -> Pull | None:
    return None if kept is None else Pull(**kept)
