"""Gradient statistics of the loss terms: norms, shares and cosines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distill_cli.types import GradientStats


def gradient_gram_matrix(parts: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the Gram matrix ``[K, K]`` float64 of the gradients of K scalars.

    That is their inner products, with respect to `parameters`.

    A scalar that does not depend on a parameter has a gradient of zero there. `.grad` is neither read nor written.
    """
    rows: list[list[Tensor | None]] = []
    for k, part in enumerate(parts):
        if part.requires_grad:
            rows.append(list(torch.autograd.grad(part, parameters, retain_graph=k < len(parts) - 1, allow_unused=True)))
        else:
            rows.append([None] * len(parameters))
    result = torch.zeros(len(parts), len(parts), dtype=torch.float64)
    for i, j in itertools.combinations_with_replacement(range(len(parts)), 2):
        pairs = [(a, b) for a, b in zip(rows[i], rows[j], strict=True) if a is not None and b is not None]
        result[i, j] = result[j, i] = float(sum(torch.sum(a.double() * b.double()) for a, b in pairs))
    return result


def any_gradient_reaches(parts: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether any of the scalars depends on any of the parameters."""
    live = [part for part in parts if part.requires_grad]
    if not live or not parameters:
        return False
    gradients = torch.autograd.grad(torch.stack(live).sum(), parameters, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


def gradient_stats(names: Sequence[str], grams: Sequence[Tensor]) -> GradientStats:
    """Return norms, shares and cosines of the terms from their Gram matrices.

    One matrix for each batch.

    Norms are means over the batches; a share is a norm over the sum of all terms' norms; a cosine is the mean over the
    batches in which both norms are above zero, None where there are no such batches.
    """
    norms = torch.stack([g.diagonal().clamp(min=0).sqrt() for g in grams]).mean(dim=0).tolist()
    total = sum(norms)
    cosines: dict[tuple[str, str], float | None] = {}
    for i, j in itertools.combinations(range(len(names)), 2):
        lengths = [float((g[i, i] * g[j, j]).clamp(min=0).sqrt()) for g in grams]
        known = [float(g[i, j]) / length for g, length in zip(grams, lengths, strict=True) if length > 0]
        cosines[names[i], names[j]] = max(-1.0, min(1.0, sum(known) / len(known))) if known else None
    shares = {name: norm / total if total > 0 else None for name, norm in zip(names, norms, strict=True)}
    return GradientStats(dict(zip(names, norms, strict=True)), shares, cosines)


def balancing_factors(measured: GradientStats) -> dict[str, float]:
    """Return factors that give all terms' gradients the same norm.

    The sum of the norms does not change.

    Raises:
        ValueError: a term has no gradient; names it.
    """
    mean = sum(measured.norms.values()) / len(measured.norms)
    for name, norm in measured.norms.items():
        if not norm > 0:
            raise ValueError(f"term '{name}' has no gradient at the start of the stage, so no factor makes it count")
    return {name: mean / norm for name, norm in measured.norms.items()}


@contextmanager
def preserve_buffers(*modules: nn.Module) -> Iterator[None]:
    """Restore the modules' buffers after the block.

    Forward passes in train mode then leave no trace in batch norm's statistics.
    """
    before = [(buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
