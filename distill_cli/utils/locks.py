"""Locks of files and folders that the system drops when a process dies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.utils.files import make_folder, read_text

LOCK_POLL_SECONDS = 0.2
OWNER = ".owner"  # lock file in a run folder, held by the process that runs there


class Owned(UserError):
    """Error of a folder in which another process is running.

    A process that does not own the folder changes nothing there.
    """

    def __init__(self, folder: Path, owner: Mapping[str, Any]) -> None:
        who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}" if owner else "another process"
        super().__init__(f"{folder}: {who} is running in this folder; wait for it, or choose another folder")


@contextlib.contextmanager
def try_lock(path: str | Path, about: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Try to lock `path` inside the block, with `about` written in the file.

    The file is removed at the end. The system drops the lock when the process dies.

    Yields:
        None where the lock is acquired; where another process holds it, that process's `about`.

    Raises:
        UserError: the file cannot be opened, or is a link.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    make_folder(path.parent)
    held = FileLock(path)
    try:
        # The timeout allows a second try, as the first may meet a file that its owner is removing.
        held.acquire(timeout=LOCK_POLL_SECONDS / 2)
        with contextlib.suppress(PermissionError):  # Windows allows no writing in a locked file
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
        with contextlib.suppress(OSError):  # Windows removes the file with the release
            path.unlink()
        held.release()


def _owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def refuse_owned(folder: Path) -> None:
    """Check that no process is running in a folder, without changing the folder.

    Raises:
        Owned: a process is running there.
    """
    owner = owner_of(folder / OWNER)
    if owner is not None:
        raise Owned(folder, owner)


def owner_of(path: str | Path) -> dict[str, Any] | None:
    """Return what the owner of a lock has written, or None without an owner.

    The file is not changed.
    """
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
    """Hold an exclusive lock on `path` inside the block.

    The system drops the lock when the process dies.

    The lock only avoids duplicate work: where the file cannot be locked (another user's, or a link), the block runs without.

    Args:
        path: path of the lock file, whose folder is created.
        waiting: function that is called once if another process holds the lock.
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
