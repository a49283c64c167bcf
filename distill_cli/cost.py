"""What a model costs: parameters, MACs, bytes, latency."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LATENCY_BATCHES = (1, 256)
WARM_UP = 5
SECONDS_EACH = 0.5
MOST_CALLS = 200


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers the model learns; buffers such as batch norm's means are not counted."""
    return sum(p.numel() for p in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers as stored."""
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


def macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return multiply-accumulates of one sample's convolutions and matrix products (half of torch's FLOP count)."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *input_shape, device=device))
    return counter.get_total_flops() // 2


@torch.no_grad()
def latency(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return milliseconds a call on the CPU, ``{batch: {p50, p99}}``, after a warm-up, on at most 200 calls."""
    table = {}
    for batch in LATENCY_BATCHES:
        x = torch.rand(batch, *input_shape)
        for _ in range(WARM_UP):
            model(x)
        times: list[float] = []
        end = time.perf_counter() + SECONDS_EACH
        while len(times) < MOST_CALLS and (time.perf_counter() < end or not times):
            start = time.perf_counter()
            model(x)
            times.append((time.perf_counter() - start) * 1e3)
        table[str(batch)] = {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}
    return table


def measure(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Return all of the above, under the names of the report. The model is left on the CPU, in eval mode."""
    model = model.cpu().eval()
    return {
        "parameters": parameter_count(model),
        "macs": macs(model, input_shape),
        "weight_bytes": weight_bytes(model),
        "latency_ms": latency(model, input_shape),
        "latency_threads": torch.get_num_threads(),
    }
