"""Row ids, which may be any integers, as places 0..N-1 in a memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = torch.iinfo(torch.int64).max


class IdToSlot(nn.Module):
    """A place for each row id, given out in the order in which ids are first seen.

    Args:
        rows: how many places there are.
    """

    ids: Tensor
    order: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.full((rows,), EMPTY))  # ascending
        self.register_buffer("order", torch.arange(rows))  # the place of each of them

    def __call__(self, index: Tensor) -> Tensor:
        """Return the places ``[B]`` of row ids ``[B]``.

        Raises:
            ValueError: there are more rows than places.
        """
        at = torch.searchsorted(self.ids, index).clamp(max=len(self.ids) - 1)
        unknown = self.ids[at] != index
        if unknown.any():
            self.add(index[unknown].unique())
            at = torch.searchsorted(self.ids, index)
        return self.order[at]

    def add(self, new: Tensor) -> None:
        """Give places to ids that have none."""
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
    """Return the positions of the last occurrence of each place: rows drawn twice are written once."""
    found, inverse = places.unique(return_inverse=True)
    positions = torch.arange(len(places), device=places.device)
    return torch.zeros_like(found).scatter_reduce(0, inverse, positions, "amax", include_self=False)
