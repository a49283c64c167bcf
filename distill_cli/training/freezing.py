"""Which layers of a network are trained; the others stand still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from distill_cli.features.hooks import resolve_modules


def trainable_parameters(network: nn.Module, paths: Sequence[str] | None) -> list[nn.Parameter]:
    """Return the parameters of the modules at `paths` that require gradients; all that do where `paths` is None.

    Raises:
        ValueError: a path leads to no module, or to one without parameters.
    """
    if paths is None:
        return [p for p in network.parameters() if p.requires_grad]
    chosen: dict[int, nn.Parameter] = {}
    for path, module in resolve_modules(network, paths).items():
        found = {id(p): p for p in module.parameters() if p.requires_grad}
        if not found:
            raise ValueError(f"the module '{path}' has no parameters to train")
        chosen |= found
    return list(chosen.values())


def set_frozen_modules_to_eval(network: nn.Module, paths: Sequence[str] | None) -> None:
    """Put every module outside `paths` into eval mode: batch norm keeps its statistics there, dropout does nothing."""
    if paths is None:
        return
    chosen = resolve_modules(network, paths).values()
    inside = {id(module) for one in chosen for module in one.modules()}
    for module in network.modules():
        holds = any(id(part) in inside for part in module.modules())
        if not holds:
            module.training = False


@contextmanager
def freeze_all_but(network: nn.Module, paths: Sequence[str] | None) -> Iterator[None]:
    """Let nothing but the modules at `paths` require gradients inside the block, and give all back as they were."""
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
