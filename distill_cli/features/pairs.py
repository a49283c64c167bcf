"""Pairs of a student layer and the teacher layer that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor

from distill_cli.features.numerics import to_float32
from distill_cli.types import ModelOutput

# The models whose features of three axes are tokens [B, N, D], not signals [B, C, L].
Tokens = Literal["none", "student", "teacher", "both"]


class Pair(NamedTuple):
    """Two module paths, relative to the network: `student` learns from `teacher`."""

    student: str
    teacher: str


def read_pairs(features: Any, least: int = 1) -> tuple[Pair, ...]:
    """Return the layer pairs of a config value.

    Args:
        features: ``[student_path, teacher_path]``, or a list of such pairs.
        least: smallest number of pairs that the loss works with.

    Raises:
        ValueError: the value holds no such pairs, or too few; names the value and the expected form.

    >>> read_pairs(["conv1", "blocks.0"])
    (Pair(student='conv1', teacher='blocks.0'),)
    """
    entries = [features] if _is_pair(features) else features
    if not isinstance(entries, list | tuple) or not entries or not all(_is_pair(pair) for pair in entries):
        raise ValueError(
            f"features={features}: expected [STUDENT_LAYER, TEACHER_LAYER] or a list of such pairs, "
            "named by module path, such as [[conv1, blocks.0], [conv2, blocks.1]]"
        )
    if len(entries) < least:
        raise ValueError(f"features={features}: expected at least {least} pairs, got {len(entries)}")
    return tuple(Pair(*(path.strip() for path in pair)) for pair in entries)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(path, str) and path.strip() for path in value)


def paired(
    pairs: Sequence[Pair], student: ModelOutput, teachers: Sequence[ModelOutput], tokens: Tokens = "none"
) -> list[tuple[Tensor, Tensor]]:
    """Return the features of each pair, channels on axis 1.

    The teacher's are detached; half precision is converted to float32.

    Each teacher layer is looked up in the first teacher that has it.

    Args:
        pairs: pairs of layers.
        student: the student's output with features.
        teachers: the teachers' outputs with features.
        tokens: models whose features of three axes are tokens ``[B, N, D]``, returned as ``[B, D, N]``.

    Raises:
        ValueError: the features of a layer are missing; names the layer and those that exist.
    """
    features = []
    for pair in pairs:
        learning = _lookup(pair.student, [student], "student")
        teaching = _lookup(pair.teacher, teachers, "teacher").detach()
        if tokens in ("student", "both"):
            learning = _channels_first(learning)
        if tokens in ("teacher", "both"):
            teaching = _channels_first(teaching)
        features.append((to_float32(learning), to_float32(teaching)))
    return features


def _lookup(path: str, outputs: Sequence[ModelOutput], whose: str) -> Tensor:
    for output in outputs:
        if path in output.features:
            return output.features[path]
    there = sorted({name for output in outputs for name in output.features})
    raise ValueError(f"features: the {whose} has no layer '{path}' among its outputs; there is {', '.join(there) or 'none'}")


def _channels_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2) if x.dim() == 3 else x
