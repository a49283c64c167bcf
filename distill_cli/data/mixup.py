"""Mixup: convex pairs of samples. Zhang et al. 2018 (arXiv:1710.09412)."""

from __future__ import annotations

import numpy as np
import torch

from distill_cli.rng import derive_seed
from distill_cli.types import Batch


class Mixup:
    """Mixup of each sample with a partner of its batch.

    Inputs and targets are mixed with one weight.

    One lambda ~ Beta(alpha, alpha) a batch, drawn from the stream ``augment`` at (epoch, step). A row with a label
    mixed with one without has no usable target, so `labeled` is the product.

    Args:
        alpha: parameter of the beta distribution, > 0.
        seed: seed of the run.
    """

    def __init__(self, alpha: float, seed: int) -> None:
        if not 0 < alpha < float("inf"):
            raise ValueError(f"mixup.alpha must be > 0, got {alpha}")
        self.alpha = alpha
        self.seed = seed

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the mixed batch.

        `index`, `group` and `position` are those of the first sample of each pair.
        """
        draw = np.random.default_rng(derive_seed(self.seed, "augment", epoch, step))
        weight = float(draw.beta(self.alpha, self.alpha))
        partner = torch.from_numpy(draw.permutation(len(batch.inputs))).to(batch.inputs.device)
        return Batch(
            inputs=torch.lerp(batch.inputs[partner], batch.inputs, weight),
            target=torch.lerp(batch.target[partner], batch.target, weight),
            index=batch.index,
            labeled=batch.labeled * batch.labeled[partner],
            group=batch.group,
            position=batch.position,
        )
