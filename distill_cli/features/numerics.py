"""Numerically safe arithmetic of features, with zero gradient at zero norms."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

import torch
from torch import Tensor

# A vector with a smaller norm counts as zero.
SHORTEST = 1e-12
# Lower bound of `largest`: the gradient of a division by a smaller number leaves the range of float32.
SMALLEST = 2.0**-100


def sum_losses(losses: Iterable[Tensor]) -> Tensor:
    """Return the sum of a loss's values over the pairs."""
    return functools.reduce(operator.add, losses)


def l2_normalize(x: Tensor, dim: int = -1) -> Tensor:
    """Return x divided by its L2 norm along `dim`.

    A zero vector stays zero, with zero gradient.
    """
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    short = norm < SHORTEST
    return x * torch.where(short, 0.0, 1 / norm.masked_fill(short, 1.0))


def largest(x: Tensor, start: int = 1) -> Tensor:
    """Return the largest absolute value over the axes from `start` on.

    A constant without gradient, at least 2^-100; the reduced axes have size 1.
    """
    return x.detach().abs().amax(dim=tuple(range(start, x.dim())), keepdim=True).clamp(min=SMALLEST)


def scaled(x: Tensor, start: int = 1) -> Tensor:
    """Return x times a power of two that brings `largest` to between 1/2 and 1.

    Squares then stay in the range of float32, and no digit changes.
    """
    size = largest(x, start)
    return x * torch.ldexp(torch.ones_like(size), -torch.frexp(size).exponent)


def l2_norm(x: Tensor, dim: int = -1) -> Tensor:
    """Return the L2 norm along `dim`.

    The gradient at zero is zero.
    """
    return torch.linalg.vector_norm(x, dim=dim)


def distances(x: Tensor) -> Tensor:
    """Return the L2 distances ``[B, B]`` of rows ``[B, D]``.

    Without the cancellation of x^2 - 2xy + y^2. The gradient at distance zero is zero.
    """
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


ROUNDING = 16  # units in the last place by which a constant may seem to vary


SMALLEST = 2.0**-100  # largest value of a vector below which it counts as zero: its gradient leaves the range of float32


def to_float32(x: Tensor) -> Tensor:
    """Return half-precision values as float32 and others unchanged.

    Sums of exponentials need the digits.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit_deviations(x: Tensor, dim: int = -1) -> Tensor:
    """Return ``(x - mean) / ||x - mean||_2`` along `dim`.

    Where x is constant, 0 with zero gradient.

    Constant means up to rounding errors, which would otherwise be scaled to length 1. Numbers below 1e-30 are constant, too.
    """
    # Scaling does not change the direction. A power of two changes no digit, and keeps squares in range: a class that no row of
    # a batch predicts has a column of probabilities of about 1e-20, whose squares float32 cannot represent.
    largest = x.detach().abs().amax(dim=dim, keepdim=True)
    x = x * torch.ldexp(torch.ones_like(largest), -torch.frexp(largest.clamp(min=SMALLEST)).exponent)
    deviations = x - x.mean(dim=dim, keepdim=True)
    norm = torch.linalg.vector_norm(deviations, dim=dim, keepdim=True)
    constant = norm <= ROUNDING * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    constant = constant | (largest < SMALLEST)
    return deviations * torch.where(constant, 0.0, 1 / norm.masked_fill(constant, 1.0))
