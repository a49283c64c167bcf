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


class _SignalState:
    """What the handlers and the loop both see."""

    heard: int | None = None
    listening = False
    first: Callable[[], object] | None = None
    once = False
    ended = False


def stop_requested() -> int | None:
    """Return the signal that has asked a listening training to stop, or None."""
    return _SignalState.heard


def raise_if_requested() -> None:
    """End the run if a signal has asked for it.

    Raises:
        Interrupted: one has.
    """
    if _SignalState.heard is not None:
        signum, _SignalState.heard, _SignalState.ended = _SignalState.heard, None, True
        raise Interrupted(signum)


def before_end(do: Callable[[], object] | None) -> None:
    """Call `do` at the first signal that nobody listens for, before it ends the run; a second one does not wait for it."""
    _SignalState.first = do


def only_once() -> None:
    """Let a process that a terminal and its parent may both signal take note of the first signal alone."""
    _SignalState.once = True


@contextmanager
def defer_signals() -> Iterator[None]:
    """Inside the block the first signal is only noted: whoever trains looks at `heard` after every step."""
    _SignalState.listening = True
    try:
        yield
        raise_if_requested()
    finally:
        _SignalState.listening = False


@contextmanager
def install_handlers() -> Iterator[None]:
    """Handle these signals inside the block, where this is the main thread; elsewhere Python allows no handlers.

    SIGHUP stays ignored where it is, as under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _SignalState.heard, _SignalState.ended = None, False
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {n: signal.signal(n, _on_signal) for n in SIGNALS if n != signal.SIGHUP or not ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _SignalState.listening and _SignalState.heard is None:
        _SignalState.heard = signum
        return
    if _SignalState.once and (_SignalState.heard is not None or _SignalState.ended):
        return
    _SignalState.ended = True
    do, _SignalState.first = _SignalState.first, None
    if do is not None:
        do()
    raise Interrupted(signum)
