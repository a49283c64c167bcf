"""Rows of a .npy array of any size, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill_cli.errors import UserError
from distill_cli.inference.batching import ROW, RowBlock, skip_or_raise
from distill_cli.utils.files import open_npy

CHUNK_VALUES = 1 << 20


class NpyRows:
    """The rows of a .npy file, a `Stream`.

    The array holds floats ``[N, *shape]``, or ``[N, F]`` with the F values of a sample.

    Args:
        path: the file.
        shape: shape of one sample.
        skip: whether bad rows are skipped.

    Raises:
        UserError: the file holds no such array, or no rows.
    """

    columns: tuple[str, ...] = (ROW,)

    def __init__(self, path: Path, shape: tuple[int, ...], skip: bool = False) -> None:
        self.path, self.shape, self.skip = path, shape, skip
        self.width = int(np.prod(shape, dtype=np.int64))
        x = self._mapped()
        if x.shape[1:] not in (shape, (self.width,)):
            expected = f"[rows, {', '.join(map(str, shape))}]" + (f" or [rows, {self.width}]" if len(shape) > 1 else "")
            raise UserError(f"{path}: an array of shape {list(x.shape)}; this model takes {expected}")
        if x.dtype.kind != "f":
            raise UserError(f"{path}: holds {x.dtype}; floats are expected, scaled as the run's data set scales its own")
        if not len(x):
            raise UserError(f"{path}: holds no rows")
        self.total = len(x)
        self.notes: list[str] = []

    def _mapped(self) -> np.ndarray:
        try:
            return open_npy(self.path)
        except ValueError:
            raise UserError(f"{self.path}: not a plain .npy array") from None

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the rows in order.

        Raises:
            UserError: a row holds NaN or an infinite value, and bad rows are not skipped.
        """
        size = max(1, CHUNK_VALUES // self.width)
        for start in range(0, self.total, size):
            # mapped anew for each chunk, because pages that were read count as memory until the mapping is closed
            with np.errstate(over="ignore"):
                x = self._mapped()[start : start + size].astype(np.float32).reshape(-1, self.width)
            sound = np.isfinite(x).all(axis=1)
            faults = [skip_or_raise(self._fault(start + row, x[row]), skip=self.skip) for row in np.flatnonzero(~sound).tolist()]
            read = start + len(x)
            yield RowBlock(x[sound].reshape(-1, *self.shape), {ROW: start + np.flatnonzero(sound)}, read, read, faults)

    def _fault(self, row: int, values: np.ndarray) -> str:
        column = int(np.flatnonzero(~np.isfinite(values))[0])
        problem = "NaN" if np.isnan(values[column]) else "infinite in 32-bit numbers"
        return f"{self.path}: row {row}, column {column} (both counted from 0): {problem}; fill it or leave the row out"
