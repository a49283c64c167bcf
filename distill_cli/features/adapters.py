"""Adapters: modules that bring a student's features to the teacher's shape.

They are built from example features, before the optimizer exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.pairs import Pair, Tokens, paired
from distill_cli.types import ModelOutput

POOL: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


class IdentityAdapter(nn.Identity):
    """An adapter for features of the right shape."""

    description = "as it is"


class Adapter(nn.Module):
    """Resizing in space, then one linear map over the channels (a 1x1 convolution).

    An axis that is too long is averaged down (adaptive average pooling), one that is too short is interpolated
    linearly; both commute with the linear map. The map has a bias and torch's initialisation.

    Args:
        channels: numbers of channels of student and teacher, or None to keep the channels.
        size: the teacher's space, or None to keep the space; ``()`` averages all positions, ``[B, C, ...]`` to ``[B, C]``.
        description: text on the adapter for the report.
        dtype: type of the weights: float32, or float64 for float64 features.
    """

    def __init__(self, channels: tuple[int, int] | None, size: tuple[int, ...] | None, description: str, dtype: torch.dtype):
        super().__init__()
        self.size = size
        self.description = description
        self.linear = nn.Linear(*channels, dtype=dtype) if channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, C_teacher, *space_teacher]`` of the teacher's shape.

        Args:
            x: ``[B, C_student, *space_student]`` features of the student."""
        if self.size is not None:
            x = resized(x, self.size)
        return x if self.linear is None else self.linear(x.movedim(1, -1)).movedim(-1, 1)


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return ``[B, C, *space]`` in another space.

    Long axes are averaged, short ones interpolated; ``()`` averages over all positions.
    """
    space = tuple(x.shape[2:])
    if not size:
        return x.flatten(2).mean(dim=2)
    smaller = tuple(min(a, b) for a, b in zip(space, size, strict=True))
    if smaller != space:
        x = POOL[len(size)](x, smaller)
    if smaller != size:
        x = F.interpolate(x, size=size, mode=INTERPOLATION[len(size)], align_corners=False)
    return x


def adapter(student: Tensor, teacher: Tensor, *, channels: bool = True, space: bool = True) -> nn.Module:
    """Return the module that brings a student's features to the teacher's shape.

    Shapes are ``[B, D]``, ``[B, C, L]``, ``[B, C, H, W]`` or with three axes of space; tokens come as ``[B, D, N]`` from
    `paired`. A map may be averaged into a vector, a vector does not become a map.

    Args:
        student: example features.
        teacher: example features.
        channels: whether to fit the channels.
        space: whether to fit the space; a map that is to become a vector is averaged either way.

    Raises:
        ValueError: the two cannot match; names both shapes.
    """
    fits = student.dim() == teacher.dim() or teacher.dim() == 2
    if min(student.dim(), teacher.dim()) < 2 or max(student.dim(), teacher.dim()) > 5 or not fits:
        raise ValueError(
            f"a student layer of shape {shown(student)} cannot be brought to the teacher's {shown(teacher)}; "
            "choose layers with as many axes, or a teacher layer after its pooling"
        )
    here, there = tuple(student.shape[2:]), tuple(teacher.shape[2:])
    size = there if here != there and (space or not there) else None
    widths = (student.shape[1], teacher.shape[1])
    mapped = widths if channels and widths[0] != widths[1] else None
    if size is None and mapped is None:
        return IdentityAdapter()
    channel_text = f"channels {widths[0]} to {widths[1]} by a linear map at every position" if mapped else ""
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    return Adapter(mapped, size, ", ".join(filter(None, [_space(here, size), channel_text])), dtype).to(student.device)


def _space(here: tuple[int, ...], there: tuple[int, ...] | None) -> str:
    if there is None:
        return ""
    if not there:
        return "averaged over all positions"
    hows = {"averaged" if a > b else "interpolated" for a, b in zip(here, there, strict=True) if a != b}
    return f"space {'x'.join(map(str, here))} to {'x'.join(map(str, there))} {' and '.join(sorted(hows))}"


def identity_adapters(pairs: Sequence[Pair]) -> nn.ModuleList:
    """Return identity adapters, the placeholders until the adapters are built."""
    return nn.ModuleList(IdentityAdapter() for _ in pairs)


def shown(x: Tensor) -> str:
    """Return a shape without the batch's size: ``[B, 32, 46]``."""
    return f"[{', '.join(['B', *map(str, x.shape[1:])])}]"


def adapters(
    pairs: Sequence[Pair],
    student: ModelOutput,
    teachers: Sequence[ModelOutput],
    tokens: Tokens = "none",
    *,
    channels: bool = True,
    space: bool = True,
    maps: bool = False,
) -> nn.ModuleList:
    """Return one adapter for each pair, built from example outputs.

    Args:
        pairs: pairs of layers.
        student: example output with features.
        teachers: example outputs with features.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.
        channels: whether to fit the channels.
        space: whether to fit the space.
        maps: whether the loss works on maps only, so that vectors ``[B, D]`` are refused.

    Raises:
        ValueError: a layer is missing, or a pair cannot match; names the pair.
    """
    modules = []
    for pair, (learning, teaching) in zip(pairs, paired(pairs, student, teachers, tokens), strict=True):
        if maps and min(learning.dim(), teaching.dim()) < 3:
            raise ValueError(
                f"features [{pair.student}, {pair.teacher}]: this loss compares maps [B, C, ...], "
                f"and these are {shown(learning)} and {shown(teaching)}; choose layers before the pooling"
            )
        try:
            modules.append(adapter(learning, teaching, channels=channels, space=space))
        except ValueError as e:
            raise ValueError(f"features [{pair.student}, {pair.teacher}]: {e}") from None
    return nn.ModuleList(modules)
