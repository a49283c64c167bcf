"""The weighted sum of the losses.

Only here losses are averaged over a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.losses.base import DistillationLoss, as_loss
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.weight_schedule import WeightSchedule
from distill_cli.types import Batch, DataFacts, Loss, ModelOutput

CROSS_ENTROPY = "cross_entropy"


class Objective(nn.Module):
    """Weighted sum of losses: ``sum_k weight_k x mean_b loss_k``.

    Args:
        terms: losses by name; a user's loss that only follows `types.Loss` gets the defaults of `DistillationLoss`.
        weights: weight of each term, a number >= 0 or a schedule over the steps (`set_progress`).

    Attributes:
        losses: the terms in their order.
        schedules: the weights by name as they were passed.
        weights: current weights by name, factors included.
        factors: factor of each weight from `balance`; empty before that call.
    """

    def __init__(self, terms: Mapping[str, Loss], weights: Mapping[str, float | WeightSchedule]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("an objective needs at least one term")
        if set(terms) != set(weights):
            raise ValueError(f"weights for {sorted(weights)}, terms {sorted(terms)}")
        # A list: a ModuleDict refuses names such as `forward` and `train`.
        self.losses = nn.ModuleList(as_loss(term) for term in terms.values())
        self.schedules = {name: weights[name] for name in terms}
        self.factors: dict[str, float] = {}
        self.weights: dict[str, float] = {}
        self.set_progress(0.0)

    def items(self) -> list[tuple[str, DistillationLoss]]:
        """Return the terms with their names."""
        losses: Iterable[Any] = self.losses
        return list(zip(self.weights, losses, strict=True))

    @property
    def names(self) -> list[str]:
        """Names of the terms, in the order of `weighted_terms`."""
        return list(self.weights)

    @property
    def uses_teacher(self) -> bool:
        """Whether any term needs a teacher."""
        return any(term.uses_teacher for _, term in self.items())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Module paths (student's, teacher's) of the features that any term compares."""
        return [(str(student), str(teacher)) for _, term in self.items() for student, teacher in term.pairs]

    @property
    def uses_labels(self) -> bool:
        """Whether any term of a weight above 0 looks at labels."""
        return any(term.uses_labels for name, term in self.items() if max_weight(self.schedules[name]))

    @property
    def has_schedules(self) -> bool:
        """Whether any weight changes from step to step."""
        return any(isinstance(weight, WeightSchedule) for weight in self.schedules.values())

    def set_progress(self, progress: float) -> None:
        """Set the weights for the share `progress` (0..1) of the stage's steps."""
        for name, weight in self.schedules.items():
            value = weight.value_at(progress) if isinstance(weight, WeightSchedule) else float(weight)
            self.weights[name] = value * self.factors.get(name, 1.0)

    def balance(self, factors: Mapping[str, float]) -> None:
        """Multiply the weights by `factors` from now on."""
        self.factors = dict(factors)
        self.set_progress(0.0)

    def skip_pretraining(self) -> None:
        """Skip the pretraining of all terms that have one."""
        for _, term in self.items():
            term.skip_pretraining()

    def without_teacher(self, name: str = CROSS_ENTROPY, supervised: Callable[[], DistillationLoss] = CrossEntropy) -> Objective:
        """Return the control's objective, with a supervised loss for the teacher's terms.

        1. Drop the terms that need a teacher, and supervised losses of weight 0.
        2. If the only remaining schedule is a supervised loss's, fix its weight at the maximum: the schedule traded the
           supervised loss off against the teacher's terms (docs/decisions/0007).
        3. If no supervised loss of a weight above 0 remains, add one of weight 1, with the class weights of the first term
           that it replaces.
        4. Else scale all weights so that the supervised losses sum to at least 1: they had left room for the teacher's terms.

        Args:
            name: name of the added term.
            supervised: builds it, where no term has a substitute of its own.
        """
        terms: dict[str, DistillationLoss] = {}
        for own, term in self.items():
            if not term.uses_teacher and (max_weight(self.schedules[own]) or not term.is_supervised):
                terms[own] = term
        weights = {own: self.schedules[own] for own in terms}
        moving = [own for own, weight in weights.items() if isinstance(weight, WeightSchedule)]
        if len(moving) == 1 and terms[moving[0]].is_supervised:
            weights[moving[0]] = max_weight(weights[moving[0]])
        label_weight = sum(max_weight(weights[own]) for own, term in terms.items() if term.is_supervised)
        if not label_weight:
            substitutes = (term.without_teacher() for _, term in self.items())
            terms[name] = next((loss for loss in substitutes if loss is not None), None) or supervised()
            weights[name] = 1.0
        elif label_weight < 1:
            weights = {own: scaled_weight(weight, 1 / label_weight) for own, weight in weights.items()}
        return Objective(terms, weights)

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Bind each term to the data and to example outputs, before the optimizer exists."""
        for _, term in self.items():
            term.bind(facts, student, teachers)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the total (scalar) and the weighted terms ``[K]``, in order of `names`."""
        parts = self.weighted_terms(student, teachers, batch)
        if len(parts) == 1:
            return parts[0], parts[0].detach().unsqueeze(0)
        stacked = torch.stack(parts)
        return stacked.sum(), stacked.detach()

    def weighted_terms(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> list[Tensor]:
        """Return the weighted terms in the order of `names`.

        They are scalars through which gradients flow.
        """
        rows = len(batch.index)
        return [reduce_loss(term(student, teachers, batch), self.weights[name], rows) for name, term in self.items()]


def max_weight(weight: float | WeightSchedule) -> float:
    """Return the maximum of a weight over the steps."""
    return max(weight.start_value, weight.end_value) if isinstance(weight, WeightSchedule) else float(weight)


def scaled_weight(weight: float | WeightSchedule, factor: float) -> float | WeightSchedule:
    """Return a weight multiplied by a factor."""
    return weight.scaled(factor) if isinstance(weight, WeightSchedule) else factor * weight


def reduce_loss(loss: Tensor, weight: float = 1.0, rows: int | None = None) -> Tensor:
    """Return `weight` times the mean of a loss per sample ``[B]``.

    A scalar is not averaged.

    Raises:
        ValueError: no tensor, or one that is neither a scalar nor has one number for each of the `rows`.
    """
    if not isinstance(loss, Tensor):
        raise ValueError(f"a loss returns a tensor, [B] or a scalar, got a {type(loss).__name__}")
    if loss.dim() > 1 or (loss.dim() == 1 and rows not in (None, len(loss))):
        raise ValueError(f"a loss returns [B] or a scalar, got shape {tuple(loss.shape)} for {rows} samples")
    value = loss.mean() if loss.dim() == 1 else loss
    return value if weight == 1 else weight * value
