"""How the process keeps memory between steps."""

from __future__ import annotations

import ctypes
import sys

# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_KEPT = 1 << 30


def disable_malloc_trim() -> bool:
    """Let glibc reuse the pages of large tensors instead of giving them back to the system after every step.

    A step of the heartbeat pair frees and asks for megabytes; by default each time the kernel maps and clears fresh pages,
    which took a quarter of the time (docs/decisions/0003-keep-freed-memory.md). Returns whether it could be done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, 2 * LARGEST_KEPT - 1), (M_TOP_PAD, LARGEST_KEPT >> 2))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
