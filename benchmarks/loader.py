"""The training loop's loader against a bare DataLoader, on the same files of one sample each.

    python benchmarks/loader.py [--samples N] [--turns T]

Both read every sample once a turn, in batches of 64 in the order of a pass, with 0, 1 and 2 worker processes. They take turns, in
alternating order. Ours over bare in neighbouring turns is one ratio of samples/s. The median is printed as `ratio W workers: X`.
Starting the workers is in both. Take figures on a quiet machine with more cores than workers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.npy_files import npy_files
from distill_cli.types import Pool

BATCH, SHAPE, CLASSES, WORKERS = 64, (3, 64, 64), 4, (0, 1, 2)


def write_files(root: Path, samples: int) -> None:
    """Write noise, one file a sample, in a folder for each class."""
    draw = np.random.default_rng(0)
    for row in range(samples):
        folder = root / str(row % CLASSES)
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{row:06}.npy", draw.random(SHAPE, dtype=np.float32))


class BareFiles(Dataset[tuple[torch.Tensor, int]]):
    """The same files as a data set of torch, one sample at a time."""

    def __init__(self, paths: list[Path], y: np.ndarray) -> None:
        self.paths = paths
        self.y = y

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        """Return a sample and its class."""
        return torch.from_numpy(np.load(self.paths[row])), int(self.y[row])


def samples_per_second(run: Callable[[], int]) -> float:
    """Return the rows that `run` reads over the seconds that it takes."""
    start = time.perf_counter()
    rows = run()
    return rows / (time.perf_counter() - start)


def ours(pool: Pool, workers: int) -> int:
    """Read a pass as the training loop does; return the rows."""
    rows = SubsetLoader(pool, CLASSES, torch.device("cpu"), 0.0, workers)
    sampler = EpochBatchSampler(pool.y, BATCH, seed=0)
    return sum(len(batch.index) for batch in rows.iter_batches(sampler.epoch(0)))


def bare(pool: Pool, paths: list[Path], workers: int) -> int:
    """Read a pass with DataLoader's own sampling and collation; return the rows."""
    context = "forkserver" if workers else None
    loader = DataLoader(
        BareFiles(paths, pool.y), BATCH, shuffle=True, num_workers=workers, multiprocessing_context=context, drop_last=False
    )
    return sum(len(y) for _, y in loader)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distill-loader-") as place:
        root = Path(place)
        write_files(root, options.samples)
        data = npy_files(place)
        names = getattr(data.train.source, "names")  # noqa: B009
        paths = [root / names[row] for row in data.train.rows]
        for workers in WORKERS:
            runs = {"ours": lambda w=workers: ours(data.train, w), "bare": lambda w=workers: bare(data.train, paths, w)}
            speeds: dict[str, list[float]] = {name: [] for name in runs}
            for turn in range(options.turns):
                for name in sorted(runs, reverse=bool(turn % 2)):
                    speeds[name].append(samples_per_second(runs[name]))
            ratios = [a / b for a, b in zip(speeds["ours"], speeds["bare"], strict=True)]
            ahead = ", ".join(f"{name} {statistics.median(values):,.0f} samples/s" for name, values in speeds.items())
            print(f"ratio {workers} workers: {statistics.median(ratios):.3f}   ({ahead})", flush=True)


if __name__ == "__main__":
    main()
