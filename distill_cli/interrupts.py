"""SIGINT and SIGTERM: a training that listens saves its state first; a second signal, or one at any other time, ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the run.

    Attributes:
        signum: of the signal; the exit code is 128 more, as shells have it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _Bell:
    """What the handlers and the loop both see."""

    heard: int | None = None
    listening = False


def heard() -> int | None:
    """Return the signal that has asked a listening training to stop, or None."""
    return _Bell.heard


def stop() -> None:
    """End the run if a signal has asked for it.

    Raises:
        Interrupted: one has.
    """
    if _Bell.heard is not None:
        signum, _Bell.heard = _Bell.heard, None
        raise Interrupted(signum)


@contextmanager
def listening() -> Iterator[None]:
    """Inside the block the first signal is only noted: whoever trains looks at `heard` after every step."""
    _Bell.listening = True
    try:
        yield
        stop()
    finally:
        _Bell.listening = False


@contextmanager
def handled() -> Iterator[None]:
    """Handle both signals inside the block, where this is the main thread; elsewhere Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Bell.heard = None
    before = {number: signal.signal(number, _ring) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ring(signum: int, frame: FrameType | None) -> None:
    if _Bell.listening and _Bell.heard is None:
        _Bell.heard = signum
        return
    raise Interrupted(signum)
