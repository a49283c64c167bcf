"""Stored views of the training rows: inputs that are a function of (seed, view, row), not of the batch a row falls into.

A student that cycles through K views sees what the teacher saw when its outputs were stored: consistent teaching (Beyer et
al. 2022, arXiv:2106.05237), with K changed copies of each row in place of a new one every epoch.
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
    """What one view does to each of N rows.

    Attributes:
        offsets: ``[N, axes]`` steps along each axis of space, or None where nothing is moved.
        partner: ``[N]`` position of the row that each is mixed with, or None where nothing is mixed.
        weight: ``[N]`` share of the row itself in the mixture.
    """

    offsets: Tensor | None = None
    partner: Tensor | None = None
    weight: Tensor | None = None


class StoredViews:
    """K views of the rows of a pool, each augmented and mixed by draws of its own; by default one, of the rows as they are.

    The draws of a row follow from (seed, view, its row id): offsets uniform on ``-shift..shift`` as in `augment.Shift`; a
    partner uniform among the rows of the pool, augmented by its own draws; one lambda ~ Beta(alpha, alpha) a row.

    Args:
        rows: the training rows.
        count: K >= 1; epoch e shows view e mod K.
        shift: >= 0, steps.
        alpha: >= 0; 0 mixes nothing.
        seed: the run's seed.
    """

    def __init__(self, rows: SubsetLoader, count: int = 1, shift: int = 0, alpha: float = 0.0, seed: int = 0) -> None:
        self.rows = rows
        self.count = count
        self.shift = shift
        self.alpha = alpha
        self.seed = seed
        self._drawn: tuple[int, ViewParams] = (-1, ViewParams())

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the epoch's view of the batch's rows."""
        assert batch.position is not None
        return self.change(batch, batch.position.cpu(), epoch % self.count)

    def batch(self, positions: Tensor, view: int) -> Batch:
        """Return one view of the rows at `positions` ``[B]`` (int64, on the CPU)."""
        return self.change(self.rows.batch_at(positions), positions, view)

    def iter_batches(self, plan: Iterable[Tensor], view: int) -> Iterator[Batch]:
        """Yield one view of the rows at each of the positions ``[B]`` in `plan`, in its order, with inputs read ahead."""
        plan = list(plan)
        for positions, batch in zip(plan, self.rows.iter_batches(plan), strict=True):
            yield self.change(batch, positions, view)

    def change(self, batch: Batch, positions: Tensor, view: int) -> Batch:
        """Return a batch of rows as they are, which lie at `positions`, as one view shows them."""
        drawn = self.draws(view)
        batch.inputs, batch.view = apply_shift(batch.inputs, drawn, positions), view
        if drawn.partner is None or drawn.weight is None:
            return batch
        partner, weight = drawn.partner[positions], drawn.weight[positions].to(batch.inputs.device)
        other = self.rows.batch_at(partner)
        batch.inputs = torch.lerp(
            apply_shift(other.inputs, drawn, partner), batch.inputs, weight.view(-1, *[1] * (batch.inputs.dim() - 1))
        )
        batch.target = torch.lerp(other.target, batch.target, weight[:, None])
        batch.labeled = batch.labeled * other.labeled
        return batch

    def draws(self, view: int) -> ViewParams:
        """Return what a view does to each row."""
        if self._drawn[0] != view:
            self._drawn = (view, self._draw(view))
        return self._drawn[1]

    def _draw(self, view: int) -> ViewParams:
        # One number for every row id up to the largest: a row's draws are the same whatever other rows the pool holds.
        index = self.rows.pool.index
        ids, n = int(index.max()) + 1, len(index)
        offsets = partner = weight = None
        if self.shift:
            axes = self.rows.pool.source.ndim - 2
            drawn = np.random.default_rng(derive_seed(self.seed, "view/shift", view)).integers(
                -self.shift, self.shift + 1, (ids, axes)
            )
            offsets = torch.from_numpy(drawn[index])
        if self.alpha:
            uniform = np.random.default_rng(derive_seed(self.seed, "view/partner", view)).random(ids)[index]
            partner = torch.from_numpy((uniform * n).astype(np.int64))
            shares = np.random.default_rng(derive_seed(self.seed, "view/lambda", view)).beta(self.alpha, self.alpha, ids)[index]
            weight = torch.from_numpy(shares.astype(np.float32))
        return ViewParams(offsets, partner, weight)


def apply_shift(x: Tensor, drawn: ViewParams, positions: Tensor) -> Tensor:
    """Return inputs ``[B, *shape]`` moved by their rows' offsets."""
    return x if drawn.offsets is None else shifted(x, drawn.offsets[positions].to(x.device))
