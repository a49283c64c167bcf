"""Conversion of nested values with tensors to named tensors and JSON.

The form of a training state on disk, without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TENSOR, ITEMS, TUPLE = "tensor", "items", "tuple"
PLAIN = (bool, int, float, str, type(None))


def flatten_state(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a value as JSON, and the tensors that the JSON refers to.

    Accepts dicts (keys: text, whole numbers, or tuples of them), lists, tuples, tensors, numbers, text and None. Tensors are
    copied, so that further training does not change them.

    Raises:
        TypeError: the value holds something else.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, tensors), tensors


def unflatten_state(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `flatten_state` converted.

    Raises:
        ValueError: a reference names no tensor, or has another form than those of `flatten_state`.
    """
    if isinstance(packed, list):
        return [unflatten_state(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    (kind, content), *more = packed.items() or [("nothing", None)]
    if kind == TENSOR and isinstance(content, str) and content in tensors and not more:
        return tensors[content]
    if kind == ITEMS and isinstance(content, list) and not more:
        return {unflatten_state(key, tensors): unflatten_state(item, tensors) for key, item in content}
    if kind == TUPLE and isinstance(content, list) and not more:
        return tuple(unflatten_state(item, tensors) for item in content)
    raise ValueError(f"no such place as {str(packed)[:60]}")


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        return {ITEMS: [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {TUPLE: [_pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_pack(item, tensors) for item in value]
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    raise TypeError(f"cannot keep a {type(value).__name__} in a training state")
