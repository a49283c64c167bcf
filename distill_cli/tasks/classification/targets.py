"""Classification: one class a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.types import DataFacts, ModelOutput


def targets(y: np.ndarray, num_classes: int) -> Tensor:
    """Return class numbers ``[N]`` as probabilities ``[N, C]`` float32; of a row whose class nobody knows (-1), zeros."""
    known = torch.from_numpy(np.asarray(y, dtype=np.int64))
    return F.one_hot(known.clamp(min=0), num_classes).float() * (known >= 0).unsqueeze(-1)


def mean_logits(teachers: Sequence[ModelOutput]) -> Tensor:
    """Return the mean of the teachers' logits ``[B, C]`` in float32 or float64; every teacher counts the same."""
    if len(teachers) == 1:
        return to_float32(teachers[0].logits)
    return torch.stack([to_float32(t.logits) for t in teachers]).mean(dim=0)


def cross_entropy(logits: Tensor, target: Tensor, labelled: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Return ``-sum_c w_c t_c log p_c`` of each sample ``[B]``; 0 where `labelled` is 0.

    Args:
        logits: ``[B, C]``.
        target: ``[B, C]`` probabilities.
        labelled: ``[B]`` 0 or 1.
        class_weight: ``[C]`` or None for ones. The sum is not divided by the weights of the batch, so that a
            sample's loss does not depend on its company.
    """
    logits = to_float32(logits)
    if class_weight is None:  # the same digits, with fewer operations to go back through
        return (F.log_softmax(logits, dim=-1) * (target.to(logits.dtype) * -labelled.to(logits.dtype).unsqueeze(-1))).sum(dim=-1)
    return F.cross_entropy(logits, target.to(logits.dtype), weight=class_weight, reduction="none") * labelled


def class_weights(wanted: str | Sequence[float] | None, facts: DataFacts) -> Tensor | None:
    """Return ``[C]`` weights with mean 1 over the training rows, or None for ones.

    Args:
        wanted: ``none``, ``balanced`` (rows / (C x count), as scikit-learn) or one number a class.
        facts: counts of the training classes.

    Raises:
        ValueError: an unknown word, the wrong number of weights, or a negative one.
    """
    if wanted is None or wanted == "none":
        return None
    counts = torch.tensor(facts.class_counts, dtype=torch.float64)
    if wanted == "balanced":
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0).float()
    if isinstance(wanted, str):
        raise ValueError(f"class_weight={wanted}: expected none, balanced or one number a class")
    weights = [float(w) for w in wanted]
    if len(weights) != facts.num_classes or any(not 0 <= w < float("inf") for w in weights):
        raise ValueError(f"class_weight={weights}: expected {facts.num_classes} numbers >= 0, one a class")
    return torch.tensor(weights)
