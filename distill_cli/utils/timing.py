"""Latency of calls and memory of the process.

Without torch, so that other runtimes are measured alone.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UP = 5
SECONDS_EACH = 0.5
MOST_CALLS = 200


def measure_latency(
    call: Callable[[], object], seconds: float = SECONDS_EACH, most: int = MOST_CALLS, least: int = 1
) -> dict[str, float]:
    """Return milliseconds a call, ``{p50, p99, calls}``.

    Measured after a warm-up of five calls.

    Args:
        call: function to time.
        seconds: time in seconds after which no further call starts.
        most: largest number of calls, even if time is left.
        least: smallest number of calls, even if the time is over.
    """
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < most and (time.perf_counter() < end or len(times) < least):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99)), "calls": len(times)}


def peak_memory_bytes() -> int:
    """Return the peak memory of this process in bytes.

    0 where the system does not report it, as Windows.
    """
    try:  # on Linux getrusage starts from the parent's peak
        match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        match = None
    if match:
        return 1024 * int(match[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
