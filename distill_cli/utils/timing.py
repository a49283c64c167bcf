"""How long a call takes, and how much memory its process has taken. Without torch, so that other runtimes are measured alone."""

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
    """Return milliseconds a call, ``{p50, p99, calls}``, after a warm-up of five calls.

    Args:
        call: what is timed.
        seconds: calls begin as long as these last.
        most: calls, though seconds are left.
        least: calls, though the seconds are over.
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
    """Return the most bytes of memory that this process has held at once; 0 where the system does not tell, as Windows."""
    try:  # what getrusage tells on Linux begins with the parent's peak
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        found = None
    if found:
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
