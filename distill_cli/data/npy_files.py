"""Data sets of one .npy file a sample, in a folder for each class.

Files are decoded while a model trains, by worker processes too.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import class_order, from_source
from distill_cli.data.splits import stratified_rows
from distill_cli.errors import UserError
from distill_cli.types import Dataset
from distill_cli.utils.files import hash_bytes

OPTION = "dataset.root"
FEWEST_FILES = 3  # of a class: one for each split
BROKEN = (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, tokenize.TokenError)


class NpyFiles:
    """Samples in .npy files as one source ``[M, *shape]``.

    A file is open only while it is read.

    Args:
        root: the folder that the names are relative to.
        names: M files in row order.
        shape: of one sample.
    """

    decodes = True

    def __init__(self, root: Path, names: Sequence[str], shape: tuple[int, ...]) -> None:
        self.root = root
        self.names = tuple(names)
        self.shape = (len(self.names), *shape)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows at these positions ``[B]``, float32 ``[B, *shape]``.

        Raises:
            UserError: a file is gone, damaged, or has another shape than when the run started.
        """
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        for at, row in enumerate(rows):
            path = self.root / self.names[row]
            sample = decode_sample(read_content(path), path)
            if sample.shape != self.shape[1:]:
                raise UserError(
                    f"{path}: an array of shape {sample.shape} now, {self.shape[1:]} when the run started; start it again"
                )
            out[at] = sample
        return out


def read_content(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot read this file ({e.strerror or e}); put it back, or take it out of {OPTION}") from None


def decode_sample(content: bytes, path: Path) -> np.ndarray:
    """Return the numbers in an .npy file's content, float32.

    Args:
        content: of the file.
        path: for messages.

    Raises:
        UserError: damaged, or no plain array of real, finite numbers.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except BROKEN:
        array = None
    if not isinstance(array, np.ndarray):  # .npz
        raise UserError(f"{path}: not a plain .npy array, or damaged; write it again with numpy.save, or take it out")
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: holds {array.dtype}; real numbers are expected")
    with np.errstate(over="ignore"):
        sample = array.astype(np.float32)
    if not np.isfinite(sample).all():
        raise UserError(f"{path}: holds NaN or an infinite value; fill it, or take the file out")
    return sample


def npy_files(root: str, split_seed: int = 0, test_fraction: float = 0.2, val_fraction: float = 0.15) -> Dataset:
    """Load a folder ``ROOT/CLASS/*.npy`` of one sample a file.

    The split is random and stratified, and classes are named by their folders.

    Every file is read once at the start: its bytes make the fingerprint, and one that does not fit is named at once.

    Args:
        root: folder of the classes' folders.
        split_seed: moves the split; 0 or more.
        test_fraction: share of all files.
        val_fraction: share of the files that are not test.

    Raises:
        UserError: no such folder, fewer than two classes, a class of fewer than three files, or a file that is damaged or has
            another shape than the first.
    """
    folder = Path(root).absolute()
    class_names, names, y = list_files(folder)
    shape, fingerprint = scan_files(folder, names)
    return from_source(
        "npy_files",
        NpyFiles(folder, names, shape),
        y,
        stratified_rows(y, test_fraction, val_fraction, split_seed),
        class_names=class_names,
        source_fingerprint=hash_bytes(fingerprint.encode(), y.tobytes()),
    )


def list_files(root: Path) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """Return class names, file names and the class ``[M]`` of each file.

    File names are relative to `root`, in row order.

    Hidden files and folders are left out.

    Raises:
        UserError: no such folder, fewer than two classes, or a class of fewer than three files.
    """
    if not root.is_dir():
        raise UserError(f"{OPTION}={root}: no such folder; name the folder that holds one folder for each class")
    folders = [name for name in list_names(root) if (root / name).is_dir()]
    if len(folders) < 2:
        only = f"one class only ('{folders[0]}')" if folders else "no folders"
        raise UserError(f"{OPTION}={root}: {only}; a classifier needs at least two classes, each a folder of .npy files")
    class_names = class_order(folders)
    names, y = list[str](), list[int]()
    for number, name in enumerate(class_names):
        files = sorted(file for file in list_names(root / name) if file.endswith(".npy"))
        if len(files) < FEWEST_FILES:
            count = f"{len(files)} .npy file{'' if len(files) == 1 else 's'}" if files else "no .npy files"
            raise UserError(
                f"{root / name}: {count}; a class needs {FEWEST_FILES}, for train, val and test; add some, or remove the folder"
            )
        names += [f"{name}/{file}" for file in files]
        y += [number] * len(files)
    return class_names, names, np.array(y, dtype=np.int64)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as e:
        raise UserError(f"{folder}: cannot read this folder ({e.strerror or e})") from None


def scan_files(root: Path, names: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """Return the shape that all samples have and a hash of all bytes.

    Every file is read once, one at a time, in row order.

    Raises:
        UserError: a file is damaged or has another shape than the first; names it.
    """
    shape, hashes = None, list[bytes]()
    for name in names:
        path = root / name
        content = read_content(path)
        sample = decode_sample(content, path)
        if shape is None:
            shape = sample.shape
        if not sample.size or not sample.ndim:
            raise UserError(f"{path}: an array of shape {sample.shape}; a sample has one axis or more, and holds numbers")
        if sample.shape != shape:
            raise UserError(
                f"{path}: an array of shape {sample.shape}, {root / names[0]} has {shape}; all samples need one shape"
            )
        hashes.append(hash_bytes(content).encode())
    assert shape is not None
    return shape, hash_bytes(*hashes)
