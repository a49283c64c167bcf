"""Outputs of modules inside a network, by module path, captured by hooks.

Hooks exist inside `capture_outputs` alone, so that a model that is saved, copied or scored has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from distill_cli.errors import did_you_mean

SEE = "distill layers lists them"


def named_layers(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield path and module of everything inside a network.

    Parents come before children, and a shared module under each of its names.

    A module with ``shell_of = "NAME"`` is a mere wrapper of one of its children (input preparation, class order) and takes no
    part in the paths: the child's paths replace it.
    """
    while (inside := getattr(network, "shell_of", None)) in network._modules:
        network = network.get_submodule(str(inside))
    for name, child in network._modules.items():
        if child is not None:
            path = f"{prefix}{name}"
            yield path, child
            yield from named_layers(child, f"{path}.")


def resolve_modules(network: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules at `paths`, each once.

    Raises:
        ValueError: there is no module at a path; names the path and the nearest that exists.
    """
    known = dict(named_layers(network))
    unique_paths = list(dict.fromkeys(map(str, paths)))
    for path in unique_paths:
        if path not in known:
            raise ValueError(f"no module '{path}' in this network{did_you_mean(path, known)} ({SEE})")
    return {path: known[path] for path in unique_paths}


@contextmanager
def capture_outputs(tapped: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Capture each hooked module's output while the network runs inside the block.

    The yielded dictionary holds the outputs by path.

    Outputs are copies: a later layer may work in place (``ReLU(inplace=True)``) and would overwrite them. Gradients pass through.

    Raises:
        ValueError: a module ran more than once, or not at all, or returned no tensor.
    """
    captured: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(partial(_capture, path, captured)) for path, module in tapped.items()]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
    for path in tapped:
        if path not in captured:
            raise ValueError(f"module '{path}' does not run in a forward pass, so it has no output to tap ({SEE} that do)")


def _capture(path: str, captured: dict[str, Tensor], module: nn.Module, _inputs: Any, output: Any) -> None:
    if path in captured:
        raise ValueError(
            f"module '{path}' runs more than once in a forward pass, so it has no one output; tap one that runs once"
        )
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(f"module '{path}' returns a {kind}, not a tensor; tap a module inside it, or the one after it ({SEE})")
    captured[path] = output.clone()
