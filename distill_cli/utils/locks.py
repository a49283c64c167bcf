"""Who may write: locks that the system drops when a process dies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.utils.files import make_folder, read_text

LOCK_POLL_SECONDS = 0.2
OWNER = ".owner"  # in a run folder: held by the process that runs there


class Owned(UserError):
    """Another process is running in a folder: who does not own it changes nothing there."""

    def __init__(self, folder: Path, owner: Mapping[str, Any]) -> None:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}" if owner else "another process"
        super().__init__(f"{folder}: {who} is running in this folder; wait for it, or choose another folder")


@contextlib.contextmanager
def try_lock(path: str | Path, about: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Hold `path` inside the block, with `about` in it, and remove it at the end; the system drops it when the process dies.

    Yields:
        None where it is held; where another process holds it, what that one has written there.

    Raises:
        UserError: it cannot be opened, or is a link.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    make_folder(path.parent)
    held = FileLock(path)
    try:
        # A second try, as the first may have met a file that its owner was removing.
        held.acquire(timeout=LOCK_POLL_SECONDS / 2)
        with contextlib.suppress(PermissionError):  # Windows lets nobody write in a locked file
            path.write_text(json.dumps(dict(about)), encoding="utf-8")
    except Timeout:
        yield _owner(path)
        return
    except OSError as e:
        held.release()
        raise UserError(f"{path}: cannot write ({e.strerror or e})") from None
    try:
        yield None
    finally:
        with contextlib.suppress(OSError):  # Windows removes it with the release
            path.unlink()
        held.release()


def _owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


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
    from filelock import FileLock, Timeout

    path = Path(path)
    if path.is_symlink() or not path.is_file():
        return None
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _owner(path)
    except OSError:
        return None
    lock.release()
    return None


@contextlib.contextmanager
def file_lock(path: str | Path, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path` inside the block; the system drops it when the process dies.

    It only saves doing a thing twice: where the file cannot be locked (another user's, or a link), the block runs without.

    Args:
        path: of the lock; its folder is made.
        waiting: called once if another process holds the lock.
    """
    from filelock import FileLock, Timeout

    make_folder(Path(path).parent)
    with contextlib.ExitStack() as stack:
        held = FileLock(path)
        with contextlib.suppress(OSError):
            try:
                stack.enter_context(held.acquire(blocking=False))
            except Timeout:
                if waiting is not None:
                    waiting()
                stack.enter_context(held.acquire(poll_interval=LOCK_POLL_SECONDS))
        yield
