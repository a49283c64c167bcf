"""Summary of a network's modules, and suggestions of layers to pair.

Each module's output, parameters and MACs come from one forward pass.
"""

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
        path: module path relative to the network.
        kind: class name.
        parameters: number of parameters, those of modules inside included.
        container: whether the module only holds other modules.
        shape: shape of one sample's output, None where the output is not one tensor.
        output: class name of the output.
        calls: number of calls in a forward pass.
        macs: multiply-accumulates of convolutions and matrix products for one sample, those of modules inside included.
        depth: share of the network's MACs that are done when the module returns, 0..1.
        finished: position in the order in which modules return, from 1; 0 for a module that does not run.
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
        """Whether the module runs once and returns one tensor."""
        return self.calls == 1 and self.shape is not None

    @property
    def remark(self) -> str:
        """The reason why the module cannot be hooked, or an empty string."""
        if not self.calls:
            return "does not run"
        return f"runs {self.calls} times" if self.calls > 1 else "" if self.shape is not None else f"returns a {self.output}"


@dataclass
class _Count:
    counter: FlopCounterMode
    starts: dict[str, list[int]] = field(default_factory=dict)
    finished: int = 0

    def before(self, path: str, module: nn.Module, inputs: Any) -> None:
        self.starts.setdefault(path, []).append(self.counter.get_total_flops())

    def after(self, layer: Layer, module: nn.Module, inputs: Any, output: Any) -> None:
        done = self.counter.get_total_flops()
        self.finished += 1
        layer.calls += 1
        layer.macs += (done - self.starts[layer.path].pop()) // 2
        layer.depth, layer.finished = done / 2, self.finished
        layer.shape = tuple(output.shape[1:]) if isinstance(output, Tensor) and output.dim() else None
        layer.output = type(output).__name__


@torch.no_grad()
def inspect(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Return all modules of a model in the order of their names.

    Measured in one pass of a sample of zeros in eval mode.
    """
    model.eval()
    layers = {}
    with FlopCounterMode(display=False) as counter:
        count, hooks = _Count(counter), []
        for path, module in named_layers(model):
            container = type(module).forward is nn.Module.forward or isinstance(module, nn.Sequential)
            size = sum(p.numel() for p in module.parameters())
            layer = layers[path] = Layer(path, type(module).__name__, size, container)
            hooks.append(module.register_forward_pre_hook(partial(count.before, path)))
            hooks.append(module.register_forward_hook(partial(count.after, layer)))
        try:
            model(torch.zeros(1, *input_shape))
        finally:
            for hook in hooks:
                hook.remove()
        total = counter.get_total_flops() // 2
    for layer in layers.values():
        layer.depth = layer.depth / total if total else 0.0
    return list(layers.values())


def candidate_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers to pair in the order in which they run, without the last.

    Layers with parameters, blocks rather than their parts.
    """
    chosen: list[Layer] = []
    for layer in layers:
        inside = any(layer.path.startswith(f"{above.path}.") for above in chosen)
        if not inside and layer.can_be_hooked and not layer.container and layer.parameters:
            chosen.append(layer)
    return sorted(chosen, key=lambda layer: layer.finished)[:-1]


def suggest_pairs(student: Sequence[Layer], teacher: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Return suggested pairs of a student layer and a teacher layer.

    Each block of the student is paired with the teacher's block of as many axes that is nearest in space (octaves of the
    number of positions) and then in depth (share of MACs done). No teacher layer is used twice.

    Norm layers are skipped: a block before and after its norm would give two equivalent pairs.
    """
    pairs: list[tuple[Layer, Layer]] = []
    candidates = [layer for layer in candidate_layers(teacher) if "Norm" not in layer.kind]
    for learning in candidate_layers(student):
        if "Norm" in learning.kind:
            continue
        fitting = [t for t in candidates if len(t.shape or ()) == len(learning.shape or ()) and all(t is not p[1] for p in pairs)]
        if fitting:
            pairs.append((learning, min(fitting, key=lambda t: _distance(learning, t))))
    return pairs


def _distance(a: Layer, b: Layer) -> tuple[float, float]:
    octaves = abs(math.log2(math.prod((a.shape or ())[1:])) - math.log2(math.prod((b.shape or ())[1:])))
    return round(octaves), abs(a.depth - b.depth)
