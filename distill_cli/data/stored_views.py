"""Stored views of the training rows, functions of (seed, view, row).

An input does not depend on the batch that its row is in.

A student that cycles through K views sees the teacher's inputs of the stored outputs: consistent teaching (Beyer et al. 2022,
arXiv:2106.05237), with K augmented copies of each row in place of a new one every epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill_cli.data.augment import shifted
from distill_cli.data.loader import SubsetLoader
from distill_cli.rng import derive_seed
from distill_cli.types import Batch


@dataclass(frozen=True)
class ViewParams:
    """Augmentation parameters of one view of N rows.

    Attributes:
        offsets: ``[N, axes]`` shift in steps along each axis of space, or None without a shift.
        partner: ``[N]`` position of the row that each row is mixed with, or None without mixup.
        weight: ``[N]`` share of the row itself in the mixture, 0..1, or None without mixup.
    """

    offsets: Tensor | None = None
    partner: Tensor | None = None
    weight: Tensor | None = None


class StoredViews:
    """K views of a pool's rows, each with its own augmentation and mixup.

    By default one view: the rows without augmentation.

    The draws of a row depend on (seed, view, sample id): offsets uniform on ``-shift..shift`` as in `augment.RandomShift`; a
    partner uniform among the rows of the pool, augmented by its own draws; one lambda ~ Beta(alpha, alpha) a row.

    Args:
        rows: training rows.
        count: number of views K >= 1; epoch e shows view e mod K.
        shift: largest offset in steps, >= 0; 0: no shift.
        alpha: parameter of mixup's beta distribution, >= 0; 0: no mixup.
        seed: seed of the run.
    """

    def __init__(self, rows: SubsetLoader, count: int = 1, shift: int = 0, alpha: float = 0.0, seed: int = 0) -> None:
        self.rows = rows
        self.count = count
        self.shift = shift
        self.alpha = alpha
        self.seed = seed
        self._params: tuple[int, ViewParams] = (-1, ViewParams())

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the epoch's view of the batch's rows."""
        assert batch.position is not None
        return self.change(batch, batch.position.cpu(), epoch % self.count)

    def batch(self, positions: Tensor, view: int) -> Batch:
        """Return one view of the rows at `positions` ``[B]`` (int64, on the CPU)."""
        return self.change(self.rows.batch_at(positions), positions, view)

    def iter_batches(self, plan: Iterable[Tensor], view: int) -> Iterator[Batch]:
        """Yield one view of the rows at each of the positions ``[B]`` in `plan`.

        Views come in the plan's order, with inputs read ahead.
        """
        plan = list(plan)
        for positions, batch in zip(plan, self.rows.iter_batches(plan), strict=True):
            yield self.change(batch, positions, view)

    def change(self, batch: Batch, positions: Tensor, view: int) -> Batch:
        """Return a batch of unchanged rows at `positions` as one view shows them."""
        params = self.draws(view)
        batch.inputs, batch.view = apply_shift(batch.inputs, params, positions), view
        if params.partner is None or params.weight is None:
            return batch
        partner, weight = params.partner[positions], params.weight[positions].to(batch.inputs.device)
        partners = self.rows.batch_at(partner)
        batch.inputs = torch.lerp(
            apply_shift(partners.inputs, params, partner), batch.inputs, weight.view(-1, *[1] * (batch.inputs.dim() - 1))
        )
        batch.target = torch.lerp(partners.target, batch.target, weight[:, None])
        batch.labeled = batch.labeled * partners.labeled
        return batch

    def draws(self, view: int) -> ViewParams:
        """Return the augmentation parameters of a view."""
        if self._params[0] != view:
            self._params = (view, self._draw(view))
        return self._params[1]

    def _draw(self, view: int) -> ViewParams:
        # One draw for every sample id up to the largest: a row's draws do not depend on the other rows of the pool.
        index = self.rows.pool.index
        ids, n = int(index.max()) + 1, len(index)
        offsets = partner = weight = None
        if self.shift:
            axes = self.rows.pool.source.ndim - 2
            shifts = np.random.default_rng(derive_seed(self.seed, "view/shift", view)).integers(
                -self.shift, self.shift + 1, (ids, axes)
            )
            offsets = torch.from_numpy(shifts[index])
        if self.alpha:
            uniform = np.random.default_rng(derive_seed(self.seed, "view/partner", view)).random(ids)[index]
            partner = torch.from_numpy((uniform * n).astype(np.int64))
            shares = np.random.default_rng(derive_seed(self.seed, "view/lambda", view)).beta(self.alpha, self.alpha, ids)[index]
            weight = torch.from_numpy(shares.astype(np.float32))
        return ViewParams(offsets, partner, weight)


def apply_shift(x: Tensor, params: ViewParams, positions: Tensor) -> Tensor:
    """Return inputs ``[B, *shape]`` shifted by their rows' offsets."""
    return x if params.offsets is None else shifted(x, params.offsets[positions].to(x.device))
