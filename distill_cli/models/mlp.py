"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """A multilayer perceptron with ReLU and a linear head.

    Inputs of any shape are flattened.

    Args:
        num_classes: C, at least 2.
        input_shape: shape of one sample.
        hidden: units of each hidden layer; empty for a linear model.
        dropout: probability of dropout after each hidden layer, 0 <= p < 1.
        input_dropout: probability of dropout on the inputs, 0 <= p < 1.
        max_norm: bound on the Euclidean norm of the weights into a hidden unit, restored after every step
            (Hinton et al. 2012, arXiv:1207.0580), or None.
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, ...],
        hidden: Sequence[int] = (16,),
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__()
        for name, p in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= p < 1:
                raise ValueError(f"{name} must be in [0, 1), got {p}")
        if max_norm is not None and max_norm <= 0:
            raise ValueError(f"max_norm must be > 0 or null, got {max_norm}")
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden must hold sizes >= 1, got {list(hidden)}")
        sizes = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout:
            layers.append(nn.Dropout(input_dropout))
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], num_classes)
        self.max_norm = max_norm

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, *shape]`` to logits ``[B, C]``."""
        return self.head(self.body(x))

    @torch.no_grad()
    def after_step(self) -> None:
        """Scale rows of hidden weights back to `max_norm`."""
        if self.max_norm is None:
            return
        for layer in self.body:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.renorm(layer.weight, p=2, dim=0, maxnorm=self.max_norm))
