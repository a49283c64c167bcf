"""MNIST, or any data set in its format, from the four idx files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from distill_cli.data.arrays import array_fingerprint, from_source
from distill_cli.data.splits import cut_validation
from distill_cli.errors import UserError
from distill_cli.types import Dataset

IMAGES, LABELS = 2051, 2049
CHUNK = 1 << 20
# Images of handwriting are compressed to a fifth by gzip, a file of zeros alone to a thousandth.
MOST_COMPRESSED, UNQUESTIONED = 100, 1 << 26


def _read_all(f: BinaryIO | gzip.GzipFile, path: Path, expected: int) -> bytearray:
    """Read the rest of a file in pieces.

    Memory then follows the content, not what a header promises.
    """
    data = bytearray()
    while len(data) <= expected and (chunk := f.read(CHUNK)):
        data += chunk
    if len(data) != expected:
        size = "more" if len(data) > expected else f"{len(data):,}"
        raise UserError(f"{path}: the header promises {expected:,} bytes of data, the file holds {size}; get the file again")
    return data


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or not.

    Args:
        path: path of the file.
        magic: first number of the file: 2051 for images ``[N, rows, columns]``, 2049 for labels ``[N]``.

    Raises:
        UserError: not such a file, or shorter or longer than its header promises.
    """
    dimensions = magic & 0xFF
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as f:
            header = f.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or int.from_bytes(header[:4], "big") != magic:
                raise UserError(
                    f"{path}: not an idx file of {'images' if magic == IMAGES else 'labels'} (it should begin with {magic})"
                )
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            expected = 1
            for n in shape:
                expected *= n
            size = path.stat().st_size
            if path.suffix == ".gz" and expected > max(UNQUESTIONED, MOST_COMPRESSED * size):
                raise UserError(
                    f"{path}: the header promises {expected:,} bytes of data, and the file has {size:,}: "
                    "more than images can be compressed; get the file again, or unpack it with gunzip if it is sound"
                )
            return np.frombuffer(_read_all(f, path, expected), np.uint8).reshape(shape)
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{path}: cannot read this file ({e}); get it again") from None


def _find(root: Path, name: str) -> Path:
    """Return the path of the file `name`, gzipped or not."""
    for path in (root / f"{name}.gz", root / name):
        if path.is_file():
            return path
    raise UserError(f"{root}: no {name}.gz here; put the four MNIST files (train-images-idx3-ubyte.gz, ...) there")


def _read_part(root: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _find(root, f"{part}-images-idx3-ubyte"), _find(root, f"{part}-labels-idx1-ubyte")
    x, y = read_idx(images, IMAGES), read_idx(labels, LABELS)
    if len(x) != len(y):
        raise UserError(f"{labels}: {len(y)} labels for the {len(x)} images of {images.name}")
    if len(y) and y.max() > 9:
        raise UserError(f"{labels}: label {y.max()} at position {int(y.argmax())}; labels are 0 to 9")
    return x, y


def mnist(root: str, split_seed: int = 0, val_fraction: float = 1 / 6) -> Dataset:
    """Load MNIST, samples of shape [1, 28, 28] in 0..1.

    Validation is cut from the 60,000 training images, test is the 10,000.

    Args:
        root: folder of the four idx files, gzipped or not.
        split_seed: seed of the split into train and validation, 0 or more.
        val_fraction: share of validation in the training file, 0..1 exclusive; 1/6 is 10,000 images.

    Raises:
        UserError: a file is missing, not idx, or not of the size its header promises.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder; set dataset.root to the folder of the four MNIST files")
    (x_train, y_train), (x_test, y_test) = _read_part(folder, "train"), _read_part(folder, "t10k")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise UserError(f"{root}: training images are {x_train.shape[1:]}, test images {x_test.shape[1:]}")
    x = np.concatenate([x_train, x_test])[:, None]
    y = np.concatenate([y_train, y_test]).astype(np.int64)
    rows = cut_validation(y, np.arange(len(y_train)), val_fraction, split_seed)
    return from_source(
        "mnist",
        x.astype(np.float32) / np.float32(255),
        y,
        {**rows, "test": np.arange(len(y_train), len(y))},
        class_names=[str(c) for c in range(10)],
        source_fingerprint=array_fingerprint(x, y),
    )
