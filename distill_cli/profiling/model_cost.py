"""Cost of a model: parameters, MACs, bytes, activations, latency."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distill_cli.utils.timing import measure_latency

LATENCY_BATCHES = (1, 256)


def parameter_count(model: nn.Module) -> int:
    """Return the number of the model's parameters, without buffers."""
    return sum(p.numel() for p in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers as stored."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of one sample, half of torch's FLOP count.

    Those of convolutions and matrix products.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *input_shape, device=device))
    return counter.get_total_flops() // 2


class _ActivationTracker(TorchDispatchMode):
    """Counter of the bytes of all living tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and track the storages that it returns."""
        result = function(*args, **(kwargs or {}))
        inputs = {id_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            # Integers are the positions of maxima, which a max pool returns only under a dispatch mode as here.
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and id_of(tensor) not in inputs:
                self.track(tensor)
        return result

    def track(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key = id_of(tensor)
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.release, key)

    def release(self, key: int) -> None:
        """Subtract a storage that was freed."""
        self.now -= self._known.pop(key, 0)


def id_of(tensor: Tensor) -> int:
    """Return an id of a tensor's storage, unique among living storages."""
    return int(tensor.untyped_storage()._cdata)


@torch.no_grad()
def peak_activation_bytes(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the peak bytes of one sample's input and intermediate results.

    Weights and work space are left out.
    """
    with _ActivationTracker() as alive:
        x = torch.zeros(1, *input_shape, device=next(model.parameters()).device)
        model(x)
    return alive.peak


@torch.no_grad()
def latency(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return milliseconds a call on the CPU, ``{batch: {p50, p99}}``.

    After a warm-up, on at most 200 calls.
    """
    table = {}
    for batch in LATENCY_BATCHES:
        x = torch.rand(batch, *input_shape)
        times = measure_latency(lambda x=x: model(x))  # type: ignore[misc]
        table[str(batch)] = {"p50": times["p50"], "p99": times["p99"]}
    return table


def profile_model(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return all of these costs under the names of the report.

    The model is left on the CPU, in eval mode.
    """
    model = model.cpu().eval()
    return {
        "parameters": parameter_count(model),
        "macs": macs(model, input_shape),
        "weight_bytes": weight_bytes(model),
        "latency_ms": latency(model, input_shape),
        "latency_threads": torch.get_num_threads(),
    }
