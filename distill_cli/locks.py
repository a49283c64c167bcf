"""Who may write: locks that the system drops when a process dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from distill_cli.errors import UserError
from distill_cli.files import make_folder

LOCK_POLL_SECONDS = 0.2
OWNER = ".owner"  # in a run folder: held by the process that runs there


class Owned(UserError):
    """Another process is running in a folder: who does not own it changes nothing there."""

    def __init__(self, folder: Path, owner: Mapping[str, Any]) -> None:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}" if owner else "another process"
        super().__init__(f"{folder}: {who} is running in this folder; wait for it, or choose another folder")


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
                yield _read(f)
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


def refuse_owned(folder: Path) -> None:
    """See that no process is running in a folder, and touch nothing there.

    Raises:
        Owned: one is.
    """
    owner = owner_of(folder / OWNER)
    if owner is not None:
        raise Owned(folder, owner)


def owner_of(path: str | Path) -> dict[str, Any] | None:
    """Return what the process that holds `path` by `owned` has written there, or None where nobody does; touch nothing."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(number, encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(f)
    return None


def _read(file: IO[str]) -> dict[str, Any]:
    """Return what an owner has written, empty where it has not yet."""
    try:
        owner = json.loads(file.read())
    except ValueError:
        owner = {}
    return owner if isinstance(owner, dict) else {}


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
