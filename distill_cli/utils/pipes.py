"""stdout and stderr whose readers may go away.

Output then stops, and the run continues.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET)


class _Raw(io.FileIO):
    """A file descriptor that becomes /dev/null once its reader has gone."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as e:
            if e.errno not in NOBODY_READS:
                raise
            _to_nowhere(self.fileno())
            return memoryview(data).nbytes


def guard() -> None:
    """Protect this process from closed readers of its stdout and stderr.

    Streams that a test or a library has installed stay.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed before the process started: the next opened file would get this descriptor
            _to_nowhere(number)
        elif stream is not getattr(sys, f"__{name}__") or isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Raw):
            continue
        else:
            stream.flush()
        new = io.TextIOWrapper(
            io.BufferedWriter(_Raw(number, "w", closefd=False)),
            encoding=getattr(stream, "encoding", "utf-8"),
            errors=getattr(stream, "errors", "backslashreplace"),
            line_buffering=name == "stderr" or os.isatty(number),
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _to_nowhere(number: int) -> None:
    """Redirect a file descriptor to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)
