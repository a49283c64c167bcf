"""Signals that end a run: a training that listens saves its state first; a second one, or one at any other time, ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    first: Callable[[], object] | None = None
    once = False
    ended = False


def heard() -> int | None:
    """Return the signal that has asked a listening training to stop, or None."""
    return _Bell.heard


def stop() -> None:
    """End the run if a signal has asked for it.

    Raises:
        Interrupted: one has.
    """
    if _Bell.heard is not None:
        signum, _Bell.heard, _Bell.ended = _Bell.heard, None, True
        raise Interrupted(signum)


def before_end(do: Callable[[], object] | None) -> None:
    """Call `do` at the first signal that nobody listens for, before it ends the run; a second one does not wait for it."""
    _Bell.first = do


def only_once() -> None:
    """Let a process that a terminal and its parent may both signal take note of the first signal alone."""
    _Bell.once = True


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
    """Handle these signals inside the block, where this is the main thread; elsewhere Python allows no handlers.

    SIGHUP stays ignored where it is, as under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Bell.heard, _Bell.ended = None, False
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {n: signal.signal(n, _ring) for n in SIGNALS if n != signal.SIGHUP or not ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ring(signum: int, frame: FrameType | None) -> None:
    if _Bell.listening and _Bell.heard is None:
        _Bell.heard = signum
        return
    if _Bell.once and (_Bell.heard is not None or _Bell.ended):
        return
    _Bell.ended = True
    do, _Bell.first = _Bell.first, None
    if do is not None:
        do()
    raise Interrupted(signum)
