"""Lowering of a PyTorch classifier to operations that C is written for."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from distill_cli.errors import UserError
from distill_cli.exports.folding import fold_scales, with_outputs
from distill_cli.exports.operations import Operation, Plan, Shape
from distill_cli.models.classifier import Classifier, LogitOffset, ReorderClasses, Standardise

NOTHING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity, nn.Flatten)
CONVOLUTIONS, NORMS = (nn.Conv1d, nn.Conv2d), (nn.BatchNorm1d, nn.BatchNorm2d)
MAX_POOLS, MEAN_POOLS = (nn.MaxPool1d, nn.MaxPool2d), (nn.AvgPool1d, nn.AvgPool2d)
GLOBAL = {
    nn.AdaptiveMaxPool1d: "max_pool", nn.AdaptiveMaxPool2d: "max_pool",
    nn.AdaptiveAvgPool1d: "mean_pool", nn.AdaptiveAvgPool2d: "mean_pool",
}  # fmt: skip
LEAVES = (*NOTHING, *CONVOLUTIONS, *NORMS, *MAX_POOLS, *MEAN_POOLS, *GLOBAL, nn.Linear, nn.ReLU)
RELUS, ADDS = {F.relu, torch.relu, "relu"}, {operator.add, operator.iadd, torch.add, "add"}
GLOBAL_CALLS = {torch.amax: "max_pool", "amax": "max_pool", torch.mean: "mean_pool", "mean": "mean_pool"}
FLATTENS = {torch.flatten, "flatten"}
INSTEAD = "format=onnx may take it"


class UnsupportedLayer(Exception):
    """A layer without an operation, with the reason as its message."""


def plan_of(model: Classifier, input_shape: tuple[int, ...]) -> Plan:
    """Return the operations of a classifier.

    Input preparation comes first, batch norms are folded into the layer before them, the logits come last.

    Args:
        model: classifier on the CPU, in eval mode.
        input_shape: shape of one sample.

    Raises:
        UserError: a layer has no operation; the message names the layer.
    """
    network, order, offset = _unwrapped(model)
    if isinstance(network, LEAVES):
        network = nn.Sequential(network)  # otherwise torch.fx traces into the layer
    try:
        sample_shape = _shape(input_shape)
    except UnsupportedLayer as e:
        raise UserError(f"format=c: the input {e}; {INSTEAD}") from None
    try:
        traced = fx.symbolic_trace(network)
        ShapeProp(traced).propagate(torch.zeros(1, *input_shape))
    except Exception as e:  # user code may raise anything when it is traced
        why = " ".join(str(e).split()).split(".")[0]
        raise UserError(f"format=c: {type(network).__name__} cannot be followed layer by layer ({why}); {INSTEAD}") from None
    walk = _Lowering(traced, sample_shape)
    if isinstance(model.preprocessing, Standardise):
        walk.prepare(model.preprocessing)
    for node in traced.graph.nodes:
        try:
            walk.visit(node)
        except UnsupportedLayer as e:
            raise UserError(f"format=c: layer '{_name(node)}' ({_kind(node, traced)}): {e}; {INSTEAD}") from None
    return with_outputs(fold_scales(Plan(tuple(walk.operations), walk.input_shape)), order, offset)


def _unwrapped(model: Classifier) -> tuple[nn.Module, list[int] | None, np.ndarray | None]:
    """Return the inner network, the class order and the logit offset.

    Order and offset belong to the wrappers `ReorderClasses` and `LogitOffset`, None without one.
    """
    network, order, offset = model.network, None, None
    if isinstance(network, LogitOffset):
        offset = network.offset.detach().numpy()
        network = network.network
    if isinstance(network, ReorderClasses):
        order = [int(n) for n in network.order]
        network = network.network
    return network, order, offset


def _shape(of_one: tuple[int, ...]) -> Shape:
    """Return channels, height and width of a vector, a signal or an image."""
    if len(of_one) == 1:
        return of_one[0], 1, 1
    if len(of_one) == 2:
        return of_one[0], 1, of_one[1]
    if len(of_one) == 3:
        return of_one[0], of_one[1], of_one[2]
    raise UnsupportedLayer(f"has {len(of_one)} axes a sample; C is written for up to three (channels, height, width)")


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op in ("call_module", "call_method", "get_attr") else node.name


def _kind(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))).__name__
    return getattr(node.target, "__name__", str(node.target))


class _Lowering:
    """Translator of a traced network's nodes, in order, to operations.

    Args:
        traced: traced network with shapes in its nodes.
        input_shape: shape of one sample.
    """

    def __init__(self, traced: fx.GraphModule, input_shape: Shape) -> None:
        self.traced = traced
        self.input_shape = input_shape
        self.operations: list[Operation] = []
        self.values: dict[fx.Node, int] = {}
        self.shapes: dict[int, Shape] = {0: input_shape}
        self.start = 0

    def prepare(self, standardise: Standardise) -> None:
        """Add the input preparation as the first operation."""
        arrays = {"mean": standardise.mean.numpy().ravel(), "std": standardise.std.numpy().ravel()}
        self.start = self.add("standardise", "prepare", (0,), self.input_shape, arrays=arrays)

    def add(self, kind: str, layer: str, inputs: tuple[int, ...], shape: Shape, **rest: Any) -> int:
        """Append an operation and return the number of its output value."""
        number = len(self.shapes)
        self.shapes[number] = shape
        self.operations.append(Operation(kind, layer, inputs, number, shape, **rest))
        return number

    def visit(self, node: fx.Node) -> None:
        """Translate one node.

        Raises:
            UnsupportedLayer: the node has no operation.
        """
        if node.op == "placeholder":
            self.values[node] = self.start
        elif node.op == "output":
            self.finish(node)
        elif node.op == "call_module":
            self.values[node] = self.module(node, self.traced.get_submodule(str(node.target)))
        elif node.op in ("call_function", "call_method"):
            self.values[node] = self.call(node, node.target)
        else:
            raise UnsupportedLayer("numbers that a network uses directly have no C; put them into a layer")

    def finish(self, node: fx.Node) -> None:
        """Check that the network returns the output of the last operation."""
        value = self.input(node)
        if not self.operations or value != self.operations[-1].output:
            raise UnsupportedLayer("what the network returns is not the output of its last layer")

    def input(self, node: fx.Node) -> int:
        """Return the number of the value that a node reads."""
        source = node.args[0]
        if not isinstance(source, fx.Node):
            raise UnsupportedLayer("takes something else than one tensor")
        return self.values[source]

    def shape(self, node: fx.Node) -> Shape:
        """Return the shape of a node's output."""
        output = node.meta.get("tensor_meta")
        if output is None or not hasattr(output, "shape"):
            raise UnsupportedLayer("makes something else than one tensor")
        return _shape(tuple(output.shape[1:]))

    def module(self, node: fx.Node, module: nn.Module) -> int:
        """Translate a layer, and return the number of its output value."""
        layer, source, shape = str(node.target), self.input(node), self.shape(node)
        if getattr(module, "inplace", False) and len(node.all_input_nodes[0].users) > 1:
            raise UnsupportedLayer("overwrites its input, which another layer reads")
        if isinstance(module, nn.Flatten) and module.start_dim != 1:
            raise UnsupportedLayer("flattens something else than one sample")
        if isinstance(module, NOTHING):
            return self.reshaped(source, shape)
        if isinstance(module, nn.ReLU):
            return self.add("relu", layer, (source,), shape)
        if isinstance(module, CONVOLUTIONS):
            return self.add("conv", layer, (source,), shape, **_conv(module))
        if isinstance(module, nn.Linear):
            if self.shapes[source][1:] != (1, 1):
                raise UnsupportedLayer("takes more than one vector a sample; flatten it first")
            return self.add("linear", layer, (source,), shape, **_weights(module))
        if isinstance(module, NORMS):
            return self.add("scale", layer, (source,), shape, arrays=_norm(module))
        if isinstance(module, MAX_POOLS + MEAN_POOLS):
            kind = "max_pool" if isinstance(module, MAX_POOLS) else "mean_pool"
            return self.add(kind, layer, (source,), shape, settings=_pool(module))
        if type(module) in GLOBAL:
            if shape[1:] != (1, 1):
                raise UnsupportedLayer("only an adaptive pool to one number a channel has C")
            return self.whole(GLOBAL[type(module)], layer, source)
        raise UnsupportedLayer("there is no C for layers of this type")

    def call(self, node: fx.Node, target: Any) -> int:
        """Translate a call of a function or method, and return its output's number."""
        if target in ADDS:
            return self.sum(node)
        if target in RELUS:
            return self.add("relu", node.name, (self.input(node),), self.shape(node))
        if target in FLATTENS:
            if (node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)) != 1:
                raise UnsupportedLayer("flattens something else than one sample; flatten(1) has C")
            return self.reshaped(self.input(node), self.shape(node))
        if target in GLOBAL_CALLS:
            source = node.args[0]
            axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            rank = len(source.meta["tensor_meta"].shape) if isinstance(source, fx.Node) else 0
            reduced_axes = [axes] if isinstance(axes, int) else list(axes or ())  # type: ignore[arg-type]
            if rank < 3 or sorted(a % rank for a in reduced_axes if isinstance(a, int)) != list(range(2, rank)):
                raise UnsupportedLayer("only the maximum or mean of a whole channel has C")
            return self.whole(GLOBAL_CALLS[target], node.name, self.input(node))
        raise UnsupportedLayer("there is no C for this call")

    def sum(self, node: fx.Node) -> int:
        """Translate a + b of two values of one shape."""
        pair = [self.values[a] for a in node.args if isinstance(a, fx.Node)]
        if len(pair) != 2 or len({self.shapes[p] for p in pair}) != 1 or node.kwargs:
            raise UnsupportedLayer("only the sum of two tensors of one shape has C")
        return self.add("add", node.name, tuple(pair), self.shape(node))

    def whole(self, kind: str, layer: str, source: int) -> int:
        """Add a global pool over each channel, and return its output's number."""
        channels, height, width = self.shapes[source]
        settings = _window((height, width), (1, 1), (0, 0))
        return self.add(kind, layer, (source,), (channels, 1, 1), settings=settings)

    def reshaped(self, source: int, shape: Shape) -> int:
        """Return the value under another shape, with its memory unchanged."""
        if shape == self.shapes[source]:
            return source
        return self.add("reshape", "", (source,), shape)


def _weights(module: Any) -> dict[str, Any]:
    bias = np.zeros(len(module.weight), np.float32) if module.bias is None else module.bias.detach().numpy()
    return {"weight": module.weight.detach().numpy(), "arrays": {"bias": bias}}


def _conv(module: Any) -> dict[str, Any]:
    if module.padding_mode != "zeros":
        raise UnsupportedLayer(f"padding with {module.padding_mode} has no C, padding with zeros has")
    if module.transposed:
        raise UnsupportedLayer("there is no C for transposed convolutions")
    flat = isinstance(module, nn.Conv1d)
    kernel, stride, dilation = (_sides(v, flat, 1) for v in (module.kernel_size, module.stride, module.dilation))
    padding = _padding(module, kernel, dilation, flat)
    weights = _weights(module)
    weights["weight"] = weights["weight"].reshape(len(weights["weight"]), -1, *kernel)
    settings = {
        **_window(kernel, stride, padding),
        "dilation_height": dilation[0],
        "dilation_width": dilation[1],
        "groups": module.groups,
    }
    return {**weights, "settings": settings}


def _padding(module: Any, kernel: tuple[int, int], dilation: tuple[int, int], flat: bool) -> tuple[int, int]:
    if module.padding == "valid":
        return 0, 0
    if module.padding != "same":
        return _sides(module.padding, flat, 0)
    span = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(s % 2 for s in span):
        raise UnsupportedLayer("padding='same' of an even kernel is not the same on both sides, which has no C")
    return span[0] // 2, span[1] // 2


def _sides(value: Any, flat: bool, across: int) -> tuple[int, int]:
    """Return height and width of a layer's setting.

    Args:
        value: one number, or one for each axis.
        flat: whether the layer takes signals, which have no height.
        across: height to return for a signal.
    """
    values = [value] if isinstance(value, int) else [int(v) for v in value]
    return (across, values[-1]) if flat else (values[0], values[-1])


def _window(kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> dict[str, int]:
    named = {"kernel": kernel, "stride": stride, "padding": padding}
    return {f"{name}_{side}": pair[i] for name, pair in named.items() for i, side in enumerate(("height", "width"))}


def _pool(module: Any) -> dict[str, int]:
    flat = isinstance(module, (nn.MaxPool1d, nn.AvgPool1d))
    if module.ceil_mode or getattr(module, "return_indices", False) or getattr(module, "divisor_override", None):
        raise UnsupportedLayer("pools with ceil_mode, indices or a divisor of their own have no C")
    if _sides(getattr(module, "dilation", 1), flat, 1) != (1, 1):
        raise UnsupportedLayer("pools with holes have no C")
    kernel, stride, padding = (_sides(v, flat, a) for v, a in ((module.kernel_size, 1), (module.stride, 1), (module.padding, 0)))
    if padding != (0, 0) and not getattr(module, "count_include_pad", True):
        raise UnsupportedLayer("a mean over what is not padding has no C")
    return _window(kernel, stride, padding)


def _norm(module: Any) -> dict[str, np.ndarray]:
    """Return a batch norm as factor and bias of each channel.

    The layer equals ``factor * x + bias``, computed here in float64.
    """
    if module.running_mean is None:
        raise UnsupportedLayer("a batch norm without running statistics has no C")
    mean, variance = module.running_mean.double(), module.running_var.double()
    factor = 1 / torch.sqrt(variance + module.eps)
    factor = factor if module.weight is None else factor * module.weight.detach().double()
    bias = -mean * factor if module.bias is None else module.bias.detach().double() - mean * factor
    return {"factor": factor.numpy(), "bias": bias.numpy()}
