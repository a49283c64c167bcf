"""Learning rate schedules, functions of the share of steps done.

`optimizer.lr` is the highest rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def _with_warmup(optimizer: Optimizer, total_steps: int, warmup: float, factor: Callable[[float], float]) -> LRScheduler:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")
    climb = round(warmup * total_steps)

    def rate(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        return factor((step - climb) / max(1, total_steps - climb))

    return LambdaLR(optimizer, rate)


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LRScheduler:
    """Keep the rate at ``optimizer.lr`` after the warm-up."""
    return _with_warmup(optimizer, total_steps, warmup, lambda done: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    """Decay the rate along half a cosine to ``final x optimizer.lr``.

    Loshchilov and Hutter 2017, arXiv:1608.03983.
    """
    if not 0 <= final <= 1:
        raise ValueError(f"final must be in [0, 1], got {final}")
    return _with_warmup(optimizer, total_steps, warmup, lambda done: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def step(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.0, milestones: Sequence[float] = (0.5,), gamma: float = 0.1
) -> LRScheduler:
    """Multiply the rate by `gamma` at each of `milestones`.

    Milestones are shares of all steps in (0, 1).
    """
    if any(not 0 < m < 1 for m in milestones):
        raise ValueError(f"milestones must be shares of all steps in (0, 1), got {list(milestones)}")
    return _with_warmup(optimizer, total_steps, warmup, lambda done: gamma ** sum(done >= m for m in milestones))


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    peak_at: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> LRScheduler:
    """Raise the rate to ``optimizer.lr``, then decay it far below the first rate.

    Momentum changes in the opposite direction (Smith and Topin 2018, arXiv:1708.07120, as torch's OneCycleLR).
    """
    if not 0 < peak_at < 1:
        raise ValueError(f"peak_at must be in (0, 1), got {peak_at}")
    if not (div_factor > 0 and final_div_factor > 0):
        raise ValueError(f"div_factor and final_div_factor must be > 0, got {div_factor} and {final_div_factor}")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        # a run of a few steps has no room for both phases
        total_steps=max(total_steps, math.ceil(2 / min(peak_at, 1 - peak_at))),
        pct_start=peak_at,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum="momentum" in optimizer.defaults or "betas" in optimizer.defaults,
    )
