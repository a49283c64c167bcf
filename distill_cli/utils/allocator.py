"""Reuse of freed memory between training steps."""

from __future__ import annotations

import ctypes
import sys

# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_REUSED = 1 << 30


def disable_malloc_trim() -> bool:
    """Make glibc reuse the pages of large tensors after every step.

    Returns whether the setting was accepted.

    A step of the heartbeat pair frees and allocates megabytes; by default the kernel maps and clears fresh pages each time,
    which took a quarter of the time (docs/decisions/0003-keep-freed-memory.md).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_REUSED), (M_TRIM_THRESHOLD, 2 * LARGEST_REUSED - 1), (M_TOP_PAD, LARGEST_REUSED >> 2))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
