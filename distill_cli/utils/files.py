"""Atomic writing of files, hashes and safe names.

All files of the tool are written by this module.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from distill_cli.errors import UserError


def safe_name(text: str) -> str:
    """Return `text` as one file name of letters, digits and ``. _ -``.

    Never empty, ``.`` or ``..``.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", str(text)).strip(".")
    return name or "_"


def make_folder(path: str | Path) -> Path:
    """Create a folder with its parents.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder}: cannot make this folder ({e.strerror}); choose another") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: this folder is not writable; choose another")
    return folder


def remove(paths: Iterable[Path]) -> None:
    """Remove files, and folders with their content."""
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_atomic(path: str | Path, write: Callable[[IO[Any]], object], *, binary: bool = False, replace: bool = True) -> Path:
    """Write a file by `write(file)`, atomically.

    A temporary file next to `path` is filled and renamed: readers see all or nothing.

    Raises:
        UserError: the folder is not writable, the disk is full, or `path` exists and `replace` is false.
    """
    path = Path(path)
    new = _missing_parents(path)
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") if binary else open(temporary, "w", encoding="utf-8", newline="") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        if not replace and path.exists():
            raise FileExistsError(errno.EEXIST, "exists already, and is not overwritten")
        os.replace(temporary, path)
    except OSError as e:
        raise UserError(f"{path}: cannot write ({e.strerror or e})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_empty(new)
    return path


def _temporary(path: Path) -> Path:
    """Return a new temporary name next to `path` that names the writing process.

    Stale temporaries of `path` are removed.
    """
    remove_stale_temporaries(path)
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{secrets.token_hex(3)}.tmp")


def remove_stale_temporaries(path: Path) -> None:
    """Remove temporaries of `path` left by killed processes of this machine.

    Those of running processes stay.
    """
    prefix = f".{path.name}.{_machine()}."
    remove(
        left for left in path.parent.glob(f"{glob.escape(prefix)}*.tmp") if not _process_is_alive(left.name.removeprefix(prefix))
    )


@functools.cache
def _machine() -> str:
    return hash_bytes(socket.gethostname().encode())[:6]


def _process_is_alive(writer: str) -> bool:
    """Return whether the process in a temporary's name may be running."""
    number = writer.partition(".")[0]
    if os.name != "posix" or not number.isdecimal():  # elsewhere `kill` cannot test a process, but ends it
        return True
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        pass
    return True


def _missing_parents(path: Path) -> list[Path]:
    """Return the missing folders above a path, the nearest first."""
    return [folder for folder in path.parents if not os.path.exists(folder)]  # False also without permission to look


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of some new folders that stayed empty.

    They were created for a file whose writing failed.
    """
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def write_text(path: str | Path, text: str) -> Path:
    """Write text atomically."""
    return write_atomic(path, lambda f: f.write(text))


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write bytes atomically."""
    return write_atomic(path, lambda f: f.write(content), binary=True)


def write_json(path: str | Path, value: Any) -> Path:
    """Write JSON atomically.

    NaN and infinities become null, as JSON has neither.
    """
    return write_text(path, json.dumps(to_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrays(path: str | Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
    """Write named tensors or arrays as safetensors, atomically.

    Tensors that share memory (tied weights, views) are written twice.
    """
    import torch
    from safetensors.torch import save

    copies = {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in arrays.items()}
    tensors, memory = {}, set()
    for name, value in copies.items():
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in memory else tensor
        memory.add(place)
    data = save(tensors, metadata=dict(metadata or {}))
    return write_atomic(path, lambda f: f.write(data), binary=True)


def write_npy(path: str | Path, array: np.ndarray) -> Path:
    """Write one array as .npy, atomically.

    Such files can be memory-mapped.
    """
    return write_atomic(path, lambda f: np.save(f, array, allow_pickle=False), binary=True)


def open_npy(path: str | Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Return the memory-mapped array of an .npy file.

    Read-only, or copy-on-write (``c``).

    Raises:
        ValueError: the file is missing, truncated, damaged, of objects, or no plain .npy file.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError) as e:
        raise ValueError(f"{path}: not a plain .npy array") from e
    if not isinstance(array, np.ndarray):  # .npz
        raise ValueError(f"{path}: not a plain .npy array")
    return array


def write_tables(path: str | Path, rows: int, shapes: Mapping[str, Sequence[int]], parts: Iterable[Mapping[str, np.ndarray]],
                 manifest: Mapping[str, Any]) -> Path:  # fmt: skip
    """Write arrays of many rows as a folder, part by part.

    ``NAME.npy`` each, float32, and ``manifest.json``.

    The folder is filled under a temporary name and renamed, so that readers see all or nothing.

    Args:
        path: path of the folder, which must not exist.
        rows: number of rows of each array.
        shapes: shape of one row of each array, by file name.
        parts: consecutive rows ``[n, *shape]`` of all arrays, by the same names.
        manifest: JSON-able content of the manifest.

    Raises:
        UserError: the folder already exists or is not writable, or the disk is full.
    """
    with atomic_folder(path) as temporary:
        with contextlib.ExitStack() as stack:
            opened = {name: stack.enter_context(open(temporary / f"{name}.npy", "wb")) for name in shapes}
            for name, f in opened.items():
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, *shapes[name])}
                np.lib.format.write_array_header_1_0(f, header)
            for part in parts:
                for name, f in opened.items():
                    f.write(np.ascontiguousarray(part[name], dtype="<f4").data)
            for f in opened.values():
                f.flush()
                os.fsync(f.fileno())
        write_json(temporary / "manifest.json", manifest)
    return Path(path)


def ensure_absent(path: str | Path, option: str = "") -> None:
    """Check that nothing exists at `path`.

    Raises:
        UserError: something exists there; names `option`, the key of the path.
    """
    if Path(path).exists() or Path(path).is_symlink():
        typed = f"{option}={path}" if option else str(path)
        raise UserError(f"{typed}: is there already, and nothing is overwritten; choose another folder")


def ensure_no_symlinks(folder: Path, names: Iterable[str]) -> None:
    """Check that none of some names in a folder is or contains a symbolic link.

    Files written there then stay in the folder.

    Raises:
        UserError: names the first symbolic link.
    """
    for path in (folder / name for name in names):
        for entry in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            if entry.is_symlink():
                raise UserError(
                    f"{entry}: is a symbolic link, and a run writes through none; remove it, or choose another folder"
                )


def read_text(path: Path, most: int = 1 << 28) -> str:
    """Return the text of an untrusted file.

    Raises:
        OSError: the file is missing, unreadable, or no plain file: a pipe may block, and a device has no end.
        ValueError: the file is larger than `most` bytes, or not UTF-8.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    if about.st_size > most:
        raise ValueError(f"larger than {most} bytes")
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `path` after the block.

    Readers see all or nothing.

    Raises:
        UserError: `path` already exists, or the folder is not writable.
    """
    path = Path(path)
    ensure_absent(path)
    new = _missing_parents(path)
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        os.rename(temporary, path)
    except OSError as e:
        raise UserError(f"{path}: cannot write ({e.strerror or e})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(new)


def remove_all_temporaries(folder: str | Path, below: Iterable[str] = ()) -> None:
    """Remove all temporaries in a folder and in some folders below.

    No other process may be writing in them.
    """
    remove(Path(folder).glob(".*.tmp"))
    remove(path for name in below for path in (Path(folder) / name).rglob(".*.tmp"))


def to_jsonable(value: Any) -> Any:
    """Return `value` as JSON-able Python values.

    NumPy and torch scalars and arrays become Python ones, non-finite floats None.
    """
    if isinstance(value, Mapping):
        return {str(k): to_jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(v) for v in value]
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def copy_file(source: str | Path, target: str | Path) -> Path:
    """Copy a file atomically, as a hard link in the same file system.

    A sweep then stores one copy of its teacher's weights.
    """
    source, target = Path(source), Path(target)
    make_folder(target.parent)
    temporary = _temporary(target)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:
        return write_bytes(target, source.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)  # `replace` leaves the link where both were already the same file
    return target


def hash_bytes(*parts: bytes | memoryview) -> str:
    """Return a short sha256 (16 hex digits) of the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def hash_json(value: Any) -> str:
    """Return a short hash of a JSON-able value, independent of the order of keys."""
    return hash_bytes(json.dumps(to_jsonable(value), sort_keys=True, ensure_ascii=False).encode())


def hash_file(path: str | Path) -> str:
    """Return a short hash of a file's content."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()[:16]
