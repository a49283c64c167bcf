"""Model selection on validation, and early stopping."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class ModelSelection:
    """Selection of the best epoch's weights by a validation metric, never by test.

    Args:
        metric: one of the task's that is there after every epoch, such as ``macro_f1``.
        higher_is_better: direction of the metric.
        patience: epochs without progress before training stops; None: never.
        max_epochs: epochs after which training stops, instead of patience; None: at the end.
    """

    metric: str = "macro_f1"
    patience: int | None = None
    max_epochs: int | None = None
    higher_is_better: bool = True
    best_score: float | None = None
    best_epoch: int = -1
    best_state_dict: dict[str, Tensor] = field(default_factory=dict)

    def update(self, epoch: int, scores: dict[str, float], model: nn.Module) -> bool:
        """Store the weights if this epoch is the best so far, and return whether it is.

        Of equal epochs the first is the best.
        """
        value = scores[self.metric]
        sign = 1 if self.higher_is_better else -1
        if self.best_score is not None and not sign * value > sign * self.best_score:
            return False
        self.best_score, self.best_epoch = value, epoch
        self.best_state_dict = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return True

    def should_stop(self, epoch: int) -> bool:
        """Return whether training ends with this epoch, counted from 0."""
        if self.max_epochs is not None:
            return epoch + 1 >= self.max_epochs
        return self.patience is not None and epoch - self.best_epoch >= self.patience
