"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import array_fingerprint, from_source
from distill_cli.data.splits import stratified_rows
from distill_cli.types import Dataset


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[1797, 64]`` in 0..1 and classes ``[1797]``.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, test part (doi:10.24432/C50P49).
    """
    # Read from scikit-learn's folder without importing it: the import takes a second, the file 20 ms.
    spec = find_spec("sklearn")
    file = Path(str(spec.origin if spec else "")).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
        return table[:, :-1] / 16, table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32) / 16, y.astype(np.int64)


def digits(split_seed: int = 0, test_fraction: float = 0.25, val_fraction: float = 0.2) -> Dataset:
    """Load the 1,797 digits, samples of shape [64] in 0..1.

    The split is random and stratified.

    Args:
        split_seed: seed of the split, 0 or more.
        test_fraction: share of test in all rows, 0..1 exclusive.
        val_fraction: share of validation in the rows that are not test, 0..1 exclusive.
    """
    x, y = read_digits()
    return from_source(
        "digits",
        x,
        y,
        stratified_rows(y, test_fraction, val_fraction, split_seed),
        class_names=[str(c) for c in range(10)],
        source_fingerprint=array_fingerprint(x, y),
        display_shape=(1, 8, 8),
    )
