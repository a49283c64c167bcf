"""Several teachers as one: their mean logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill_cli.tasks.classification import full_precision
from distill_cli.types import ModelOutput


def mean_logits(teachers: Sequence[ModelOutput]) -> Tensor:
    """Return the mean of the teachers' logits ``[B, C]`` in float32 or float64; every teacher counts the same."""
    if len(teachers) == 1:
        return full_precision(teachers[0].logits)
    return torch.stack([full_precision(t.logits) for t in teachers]).mean(dim=0)
