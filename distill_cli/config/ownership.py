"""Signatures of run folders, which tell a user's own runs from those of others.

The signing key lies in the user's state folder.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path

from distill_cli.utils import files

SIGNATURE = "checkpoint/signature.json"
SIGNED = ("config.yaml", "checkpoint/model.json")
KEY_BYTES = 32
LARGEST_SIGNED = 1 << 28


def sign(folder: Path) -> None:
    """Write a run folder's signature over the files that may name code.

    Nothing is written without a key, or a place for one.
    """
    with contextlib.suppress(OSError, ValueError):
        if key := read_key() or make_key():
            files.write_json(folder / SIGNATURE, {"hmac": digest(folder, key)})


def is_own(folder: Path) -> bool:
    """Return whether a run folder was made by this user and is unchanged.

    Only the signed files are checked.
    """
    try:
        key = read_key()
        content = json.loads(files.read_text(folder / SIGNATURE, 1000))
        return key is not None and hmac.compare_digest(str(content["hmac"]), digest(folder, key))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digest(folder: Path, key: bytes) -> str:
    """Return the signature of a folder's files with a key."""
    texts = [files.read_text(folder / name, LARGEST_SIGNED) if (folder / name).exists() else None for name in SIGNED]
    return hmac.new(key, json.dumps(texts).encode(), "sha256").hexdigest()


def key_file() -> Path | None:
    """Return the path of the key, or None without a state folder and a home.

    The key lies below XDG_STATE_HOME, else ~/.local/state.
    """
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", "")
    if not os.path.isabs(state):  # as the XDG specification has it
        if not os.path.isabs(home):
            return None
        state = os.path.join(home, ".local", "state")
    return Path(state) / "distill" / "run.key"


def read_key() -> bytes | None:
    """Return the key, or None if there is none that only this user can read."""
    if (path := key_file()) is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        about = os.fstat(handle)
        private = stat.S_ISREG(about.st_mode) and (
            os.name != "posix" or (about.st_uid == os.getuid() and not about.st_mode & 0o077)
        )
        key = os.read(handle, KEY_BYTES + 1) if private else b""
        return key if len(key) == KEY_BYTES else None
    finally:
        os.close(handle)


def make_key() -> bytes | None:
    """Create the key atomically, and return it.

    Another process may have created it first.
    """
    if (path := key_file()) is None or path.exists():
        return None
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.close(handle)
        part.unlink()
    return read_key()
