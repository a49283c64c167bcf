"""Who may write: locks that the system drops when a process dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.files import make_folder

LOCK_POLL_SECONDS = 0.2


@contextlib.contextmanager
def owned(path: str | Path, about: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Hold `path` inside the block, with `about` in it, and remove it at the end; the system drops it when the process dies.

    Yields:
        None where it is held; where another process holds it, what that one has written there.

    Raises:
        UserError: it cannot be opened, or is a link.
    """
    make_folder(Path(path).parent)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
                f = stack.enter_context(open(number, "r+", encoding="utf-8"))
            except OSError as e:
                raise UserError(f"{path}: cannot write ({e.strerror or e})") from None
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                try:
                    owner = json.loads(f.read())
                except ValueError:
                    owner = {}
                yield owner if isinstance(owner, dict) else {}
                return
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.stat(path)):
                    break
            f.close()  # its owner has removed it since it was opened: a lock on it would keep nobody out
        f.truncate(0)
        f.write(json.dumps(dict(about)))
        f.flush()
        try:
            yield None
        finally:
            Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: str | Path, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path` inside the block; the system drops it when the process dies.

    `waiting` is called once if another process holds the lock.
    """
    make_folder(Path(path).parent)
    with open(path, "a") as f:
        told = False
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and waiting is not None:
                    waiting()
                told = True
                time.sleep(LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(f, fcntl.LOCK_UN)
