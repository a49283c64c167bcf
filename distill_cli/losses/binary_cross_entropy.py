"""Cross-entropy of labels that do not exclude each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.losses.base import DistillationLoss
from distill_cli.types import Batch, ModelOutput


def binary_cross_entropy(student: ModelOutput, batch: Batch) -> Tensor:
    """Return the mean binary cross-entropy of each sample ``[B]``, 0 without labels."""
    logits = to_float32(student.logits)
    each = F.binary_cross_entropy_with_logits(logits, batch.target.to(logits.dtype), reduction="none")
    return each.mean(dim=-1) * batch.labeled.to(logits.dtype)


class BinaryCrossEntropy(DistillationLoss):
    """Mean binary cross-entropy over the labels of each sample ``[B]``.

    ``-mean_l (t_l log s_l + (1 - t_l) log(1 - s_l))`` with ``s = sigmoid(z)``, 0 for rows without labels. The mean is over the
    labels, so that the loss does not grow with their number.

    Example:
        >>> loss = BinaryCrossEntropy()
        >>> loss(student, [], batch).shape
        torch.Size([8])
    """

    uses_teacher = False
    is_supervised = True
    targets = ("labels",)
    min_classes = 1

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the cross-entropy of each sample ``[B]``."""
        return binary_cross_entropy(student, batch)
