"""Outputs of modules inside a network, by module path, heard during one forward pass.

Hooks exist inside `listening` alone, so that nothing of a tap is left in a model that is saved, copied or scored.
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
    """Yield path and module of everything inside a network, parents before children, a shared module under each of its names.

    A module that says by ``shell_of = "NAME"`` that it is nothing but a shell around one of its children (input preparation,
    class order) takes no part in the paths: its child's stand in its place.
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
        ValueError: there is none at a path; names the path and the nearest that exists.
    """
    known = dict(named_layers(network))
    wanted = list(dict.fromkeys(map(str, paths)))
    for path in wanted:
        if path not in known:
            raise ValueError(f"no module '{path}' in this network{did_you_mean(path, known)} ({SEE})")
    return {path: known[path] for path in wanted}


@contextmanager
def capture_outputs(tapped: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Fill the yielded dictionary with each tapped module's output while the network runs inside the block.

    Outputs are copies: a later layer may work in place (``ReLU(inplace=True)``) and would overwrite them. Gradients pass through.

    Raises:
        ValueError: a module ran more than once, or not at all, or returned no tensor.
    """
    captured: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(partial(_hear, path, captured)) for path, module in tapped.items()]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
    for path in tapped:
        if path not in captured:
            raise ValueError(f"module '{path}' does not run in a forward pass, so it has no output to tap ({SEE} that do)")


def _hear(path: str, heard: dict[str, Tensor], module: nn.Module, given: Any, output: Any) -> None:
    if path in heard:
        raise ValueError(
            f"module '{path}' runs more than once in a forward pass, so it has no one output; tap one that runs once"
        )
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(f"module '{path}' returns a {kind}, not a tensor; tap a module inside it, or the one after it ({SEE})")
    heard[path] = output.clone()
