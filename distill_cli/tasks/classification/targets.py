"""Targets, cross-entropy and class weights of classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.types import DataFacts, ModelOutput


def targets(y: np.ndarray, num_classes: int) -> Tensor:
    """Return class numbers ``[N]`` as probabilities ``[N, C]`` float32.

    An unknown class (-1) gives zeros.
    """
    known = torch.from_numpy(np.asarray(y, dtype=np.int64))
    return F.one_hot(known.clamp(min=0), num_classes).float() * (known >= 0).unsqueeze(-1)


def mean_logits(teachers: Sequence[ModelOutput]) -> Tensor:
    """Return the mean of the teachers' logits ``[B, C]`` in float32 or float64.

    Every teacher has the same weight.
    """
    if len(teachers) == 1:
        return to_float32(teachers[0].logits)
    return torch.stack([to_float32(t.logits) for t in teachers]).mean(dim=0)


def cross_entropy(logits: Tensor, target: Tensor, labeled: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Return ``-sum_c w_c t_c log p_c`` of each sample ``[B]``.

    0 where `labeled` is 0.

    Args:
        logits: ``[B, C]`` logits.
        target: ``[B, C]`` class probabilities.
        labeled: ``[B]`` 1 where the target may be used, else 0.
        class_weight: ``[C]`` weights, or None for ones. The sum is not divided by the weights of the batch, so that a
            sample's loss does not depend on the other samples.
    """
    logits = to_float32(logits)
    if class_weight is None:  # the same result, with fewer operations in the backward pass
        return (F.log_softmax(logits, dim=-1) * (target.to(logits.dtype) * -labeled.to(logits.dtype).unsqueeze(-1))).sum(dim=-1)
    return F.cross_entropy(logits, target.to(logits.dtype), weight=class_weight, reduction="none") * labeled


def class_weights(class_weight: str | Sequence[float] | None, facts: DataFacts) -> Tensor | None:
    """Return class weights ``[C]`` with mean 1 over the training rows.

    Returns None for weights of 1.

    Args:
        class_weight: ``none``, ``balanced`` (rows / (C x count), as scikit-learn) or one number a class.
        facts: class counts of the training data.

    Raises:
        ValueError: an unknown name, the wrong number of weights, or a negative one.
    """
    if class_weight is None or class_weight == "none":
        return None
    counts = torch.tensor(facts.class_counts, dtype=torch.float64)
    if class_weight == "balanced":
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0).float()
    if isinstance(class_weight, str):
        raise ValueError(f"class_weight={class_weight}: expected none, balanced or one number a class")
    weights = [float(w) for w in class_weight]
    if len(weights) != facts.num_classes or any(not 0 <= w < float("inf") for w in weights):
        raise ValueError(f"class_weight={weights}: expected {facts.num_classes} numbers >= 0, one a class")
    return torch.tensor(weights)
