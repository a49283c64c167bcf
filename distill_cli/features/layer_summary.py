"""What is inside a network: each module's output, parameters and MACs, from one forward pass; which layers could be paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill_cli.features.hooks import named_layers


@dataclass
class Layer:
    """One module of a network.

    Attributes:
        path: relative to the network.
        kind: its class.
        parameters: numbers it learns, what is inside it included.
        shape: of one sample's output, None where there is no one tensor.
        output: what it returns where that is no tensor.
        calls: how often it runs in a forward pass.
        macs: multiply-accumulates of convolutions and matrix products for one sample, what is inside it included.
        depth: share of the network's MACs that are done when it returns.
        container: whether it only holds other modules.
    """

    path: str
    kind: str
    parameters: int
    container: bool
    shape: tuple[int, ...] | None = None
    output: str = ""
    calls: int = 0
    macs: int = 0
    depth: float = 0.0
    finished: int = 0

    @property
    def can_be_hooked(self) -> bool:
        """Whether it runs once and returns one tensor."""
        return self.calls == 1 and self.shape is not None

    @property
    def remark(self) -> str:
        """Why it cannot be tapped, or an empty string."""
        if not self.calls:
            return "does not run"
        return f"runs {self.calls} times" if self.calls > 1 else "" if self.shape is not None else f"returns a {self.output}"


@dataclass
class _Count:
    counter: FlopCounterMode
    starts: dict[str, list[int]] = field(default_factory=dict)
    finished: int = 0

    def before(self, path: str, module: nn.Module, given: Any) -> None:
        self.starts.setdefault(path, []).append(self.counter.get_total_flops())

    def after(self, layer: Layer, module: nn.Module, given: Any, output: Any) -> None:
        done = self.counter.get_total_flops()
        self.finished += 1
        layer.calls += 1
        layer.macs += (done - self.starts[layer.path].pop()) // 2
        layer.depth, layer.finished = done / 2, self.finished
        layer.shape = tuple(output.shape[1:]) if isinstance(output, Tensor) and output.dim() else None
        layer.output = type(output).__name__


@torch.no_grad()
def inspect(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Return all modules of a model in the order of their names, from one pass of a sample of zeros in eval mode."""
    model.eval()
    found = {}
    with FlopCounterMode(display=False) as counter:
        count, hooks = _Count(counter), []
        for path, module in named_layers(model):
            container = type(module).forward is nn.Module.forward or isinstance(module, nn.Sequential)
            size = sum(p.numel() for p in module.parameters())
            layer = found[path] = Layer(path, type(module).__name__, size, container)
            hooks.append(module.register_forward_pre_hook(partial(count.before, path)))
            hooks.append(module.register_forward_hook(partial(count.after, layer)))
        try:
            model(torch.zeros(1, *input_shape))
        finally:
            for hook in hooks:
                hook.remove()
        total = counter.get_total_flops() // 2
    for layer in found.values():
        layer.depth = layer.depth / total if total else 0.0
    return list(found.values())


def candidate_layers(found: Sequence[Layer]) -> list[Layer]:
    """Return the layers one would pair, in the order they run, less the last: whatever learns, blocks rather than their parts."""
    chosen: list[Layer] = []
    for layer in found:
        inside = any(layer.path.startswith(f"{above.path}.") for above in chosen)
        if not inside and layer.can_be_hooked and not layer.container and layer.parameters:
            chosen.append(layer)
    return sorted(chosen, key=lambda layer: layer.finished)[:-1]


def suggest_pairs(student: Sequence[Layer], teacher: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Return pairs of layers that could learn from each other: for each block of the student, the teacher's block of as many axes
    that is nearest in space (octaves of its number of positions) and then in depth (share of MACs done); no teacher layer twice.

    Norms are passed over: a block before its norm and after it would be two pairs of one thing.
    """
    pairs: list[tuple[Layer, Layer]] = []
    offered = [layer for layer in candidate_layers(teacher) if "Norm" not in layer.kind]
    for learning in candidate_layers(student):
        if "Norm" in learning.kind:
            continue
        fitting = [t for t in offered if len(t.shape or ()) == len(learning.shape or ()) and all(t is not p[1] for p in pairs)]
        if fitting:
            pairs.append((learning, min(fitting, key=lambda t: _distance(learning, t))))
    return pairs


def _distance(a: Layer, b: Layer) -> tuple[float, float]:
    octaves = abs(math.log2(math.prod((a.shape or ())[1:])) - math.log2(math.prod((b.shape or ())[1:])))
    return round(octaves), abs(a.depth - b.depth)
