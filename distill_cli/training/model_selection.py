"""Which epoch's weights are kept, and when training stops early."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

LOWER_IS_BETTER = ("nll",)


@dataclass
class Selection:
    """Which epoch's weights are kept, by a validation metric; never by test.

    Args:
        metric: ``macro_f1``, ``accuracy`` (highest) or ``nll`` (lowest).
        patience: epochs without progress before training stops; None: never.
        stop_after: epochs after which training stops, instead of patience; None: at the end.
    """

    metric: str = "macro_f1"
    patience: int | None = None
    stop_after: int | None = None
    best: float | None = None
    epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)

    def see(self, epoch: int, scores: dict[str, float], model: nn.Module) -> bool:
        """Keep the weights if this epoch is the best so far; the first of equals stays."""
        value = scores[self.metric]
        sign = -1 if self.metric in LOWER_IS_BETTER else 1
        if self.best is not None and not sign * value > sign * self.best:
            return False
        self.best, self.epoch = value, epoch
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return True

    def exhausted(self, epoch: int) -> bool:
        """Whether training ends with this epoch, counted from 0."""
        if self.stop_after is not None:
            return epoch + 1 >= self.stop_after
        return self.patience is not None and epoch - self.epoch >= self.patience
