"""Freezing of layers: only some modules of a network are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from distill_cli.features.hooks import resolve_modules


def trainable_parameters(network: nn.Module, paths: Sequence[str] | None) -> list[nn.Parameter]:
    """Return the parameters at `paths` that require gradients.

    Those of the whole network where `paths` is None.

    Raises:
        ValueError: a path leads to no module, or to one without parameters.
    """
    if paths is None:
        return [p for p in network.parameters() if p.requires_grad]
    chosen: dict[int, nn.Parameter] = {}
    for path, module in resolve_modules(network, paths).items():
        parameters = {id(p): p for p in module.parameters() if p.requires_grad}
        if not parameters:
            raise ValueError(f"the module '{path}' has no parameters to train")
        chosen |= parameters
    return list(chosen.values())


def set_frozen_modules_to_eval(network: nn.Module, paths: Sequence[str] | None) -> None:
    """Set every module outside `paths` to eval mode.

    There batch norm keeps its statistics, and dropout does nothing.
    """
    if paths is None:
        return
    chosen = resolve_modules(network, paths).values()
    inside = {id(module) for chosen_module in chosen for module in chosen_module.modules()}
    for module in network.modules():
        holds = any(id(part) in inside for part in module.modules())
        if not holds:
            module.training = False


@contextmanager
def freeze_all_but(network: nn.Module, paths: Sequence[str] | None) -> Iterator[None]:
    """Freeze all modules but those at `paths` inside the block.

    Afterwards the parameters require gradients as before.
    """
    trained = {id(p) for p in trainable_parameters(network, paths)}
    frozen = [p for p in network.parameters() if p.requires_grad and id(p) not in trained]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
            parameter.grad = None
