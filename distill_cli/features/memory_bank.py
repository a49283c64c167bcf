"""Slots 0..N-1 of a memory bank for sample ids, which may be any integers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = torch.iinfo(torch.int64).max


class IdToSlot(nn.Module):
    """A map from sample ids to slots, assigned in the order of first use.

    Args:
        rows: number of slots.
    """

    ids: Tensor
    order: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.full((rows,), EMPTY))  # ascending
        self.register_buffer("order", torch.arange(rows))  # the slot of each id

    def __call__(self, index: Tensor) -> Tensor:
        """Return the slots ``[B]`` of sample ids ``[B]``.

        Raises:
            ValueError: there are more ids than slots.
        """
        at = torch.searchsorted(self.ids, index).clamp(max=len(self.ids) - 1)
        unknown = self.ids[at] != index
        if unknown.any():
            self.add(index[unknown].unique())
            at = torch.searchsorted(self.ids, index)
        return self.order[at]

    def add(self, new: Tensor) -> None:
        """Assign slots to new ids."""
        known = int((self.ids != EMPTY).sum())
        if known + len(new) > len(self.ids):
            raise ValueError(f"{known + len(new)} row ids are too many for a memory of {len(self.ids)} training rows")
        by_place = torch.full_like(self.ids, EMPTY)
        by_place[self.order] = self.ids
        by_place[known : known + len(new)] = new
        ids, order = by_place.sort(stable=True)
        self.ids.copy_(ids)
        self.order.copy_(order)


def last_of_each(places: Tensor) -> Tensor:
    """Return the position of the last occurrence of each slot.

    A sample that a batch holds twice is written once.
    """
    distinct, inverse = places.unique(return_inverse=True)
    positions = torch.arange(len(places), device=places.device)
    return torch.zeros_like(distinct).scatter_reduce(0, inverse, positions, "amax", include_self=False)
