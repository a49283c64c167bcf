"""Signals that end a run.

A training defers the first signal and saves its state. A second signal, or a signal at any other time, ends the run at once.
"""

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
        signum: number of the signal; the exit code is 128 more, as in shells.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class _SignalState:
    """State that the signal handlers and the training loop share."""

    requested: int | None = None
    listening = False
    first: Callable[[], object] | None = None
    once = False
    ended = False


def stop_requested() -> int | None:
    """Return the signal that asked the training to stop, or None."""
    return _SignalState.requested


def raise_if_requested() -> None:
    """End the run if a signal has asked for that.

    Raises:
        Interrupted: a signal has asked for it.
    """
    if _SignalState.requested is not None:
        signum, _SignalState.requested, _SignalState.ended = _SignalState.requested, None, True
        raise Interrupted(signum)


def before_end(do: Callable[[], object] | None) -> None:
    """Set a function that is called at the first undeferred signal.

    The call precedes the end of the run. A second signal does not wait for the function.
    """
    _SignalState.first = do


def only_once() -> None:
    """Ignore signals after the first.

    For a process that both the terminal and its parent may signal.
    """
    _SignalState.once = True


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer the first signal inside the block.

    The training loop asks `stop_requested` after every step.
    """
    _SignalState.listening = True
    try:
        yield
        raise_if_requested()
    finally:
        _SignalState.listening = False


@contextmanager
def install_handlers() -> Iterator[None]:
    """Handle these signals inside the block, if this is the main thread.

    In other threads Python allows no handlers.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _SignalState.requested, _SignalState.ended = None, False
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {n: signal.signal(n, _on_signal) for n in SIGNALS if n != signal.SIGHUP or not ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _SignalState.listening and _SignalState.requested is None:
        _SignalState.requested = signum
        return
    if _SignalState.once and (_SignalState.requested is not None or _SignalState.ended):
        return
    _SignalState.ended = True
    do, _SignalState.first = _SignalState.first, None
    if do is not None:
        do()
    raise Interrupted(signum)
