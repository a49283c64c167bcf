"""Batches of a pool on a device, in an order that depends on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from distill_cli.data.workers import is_decoded, read_batches, read_rows
from distill_cli.rng import torch_generator
from distill_cli.tasks.classification.targets import targets
from distill_cli.types import Batch, Pool

GIGABYTE = 1 << 30


class SubsetLoader:
    """The rows of a pool, prepared for slicing into batches.

    Data up to `max_device_gb` is stored on the device as tensors. Larger data stays where it is (a memory-mapped file, a folder
    of files) and is read batch by batch, ahead and in `workers` processes where its source must be decoded.

    Args:
        pool: rows to load.
        num_classes: number of classes C.
        device: device of the batches.
        resident_gb: limit in GiB, >= 0.
        workers: processes that decode samples; 0 decodes in this one.
        encode: the task's targets of a pool's `y` and C, ``[N, ...]``.
    """

    def __init__(
        self,
        pool: Pool,
        num_classes: int,
        device: torch.device,
        resident_gb: float = 8.0,
        workers: int = 0,
        encode: Callable[[np.ndarray, int], Tensor] = targets,
    ) -> None:
        self.pool = pool
        self.device = device
        size = len(pool) * int(np.prod(pool.source.shape[1:], dtype=np.int64)) * 4
        self.resident = size <= resident_gb * GIGABYTE
        self.workers = workers if is_decoded(pool.source) and not self.resident else 0
        self.x = torch.as_tensor(pool.x, dtype=torch.float32, device=device) if self.resident else None
        self.target = encode(pool.y, num_classes).to(device)
        self.index = torch.as_tensor(pool.index, device=device)
        self.labeled = torch.as_tensor(pool.labeled, dtype=torch.float32, device=device)
        self.all_labeled = bool(pool.labeled.all())
        self.group = None
        if pool.group is not None:
            self.group = torch.as_tensor(np.unique(pool.group, return_inverse=True)[1], device=device)

    def __len__(self) -> int:
        return len(self.pool)

    def batch_at(self, positions: Tensor, inputs: Tensor | None = None) -> Batch:
        """Return the batch of the rows at `positions` ``[B]``.

        Positions are int64 on the CPU; `inputs` may have been read ahead.
        """
        here = positions if self.device.type == "cpu" else positions.to(self.device, non_blocking=True)
        return Batch(
            inputs=self.inputs_at(positions, here) if inputs is None else inputs.to(self.device, non_blocking=True),
            target=self.target.index_select(0, here),
            index=self.index.index_select(0, here),
            labeled=self.labeled[: len(positions)] if self.all_labeled else self.labeled.index_select(0, here),
            group=None if self.group is None else self.group.index_select(0, here),
            position=here,
        )

    def inputs_at(self, positions: Tensor, here: Tensor | None = None) -> Tensor:
        """Return the inputs ``[B, *shape]`` of the rows at `positions`."""
        if self.x is not None:
            # index_select copies row by row; plain indexing, element by element, takes several times as long
            return self.x.index_select(0, positions if here is None else here)
        return read_rows(self.pool.source, self.pool.rows[positions.numpy()]).to(self.device)

    def iter_batches(self, plan: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield the batch of each of the positions ``[B]`` in `plan`, in order.

        Equals `batch_at`, with inputs read ahead.
        """
        if not self.workers:
            yield from map(self.batch_at, plan)
            return
        plan = list(plan)
        for positions, inputs in zip(plan, self.read_ahead(plan), strict=True):
            yield self.batch_at(positions, inputs)

    def read_ahead(self, plan: list[Tensor]) -> Iterator[Tensor]:
        """Yield the inputs ``[B, *shape]`` of each of the positions in `plan`.

        They are on the CPU, decoded in worker processes.
        """
        pin = self.device.type == "cuda"
        return read_batches(self.pool.source, self.pool.rows, plan, self.workers, pin_memory=pin)

    def iter_inputs(self, size: int) -> Iterator[Tensor]:
        """Yield inputs in order, `size` rows at a time."""
        if self.x is not None:
            yield from self.x.split(size)
            return
        for inputs in self.read_ahead(list(torch.arange(len(self)).split(size))):
            yield inputs.to(self.device, non_blocking=True)


class EpochBatchSampler:
    """Order of the training rows in each epoch.

    A function of (seed, epoch), the same for a student and its controls.

    Args:
        y: ``[N]`` classes, or other strata from 0, of the rows to draw from.
        batch_size: batch size B >= 1; the last batch of a pass may be smaller. A last batch of a single row is dropped, as batch
            norm cannot train on it.
        seed: seed of the run.
        power: 0 visits every row once a pass; p > 0 draws with replacement, P(row) ~ count(class)^-p.
        steps_per_epoch: steps of one epoch; None: the steps of a pass over the N rows. A longer epoch continues with the next
            pass.
    """

    def __init__(self, y: np.ndarray, batch_size: int, seed: int, power: float = 0.0, steps_per_epoch: int | None = None) -> None:
        self.rows = len(y)
        self.batch_size = min(batch_size, self.rows)
        self.seed = seed
        self.probability = None
        if power > 0:
            counts = np.bincount(y)
            self.probability = torch.as_tensor(counts[y].astype(np.float64) ** -power)
        whole, rest = divmod(self.rows, self.batch_size)
        self.steps_per_pass = whole + (rest > 1)
        self.steps_per_epoch = steps_per_epoch or self.steps_per_pass

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """Yield the positions ``[B]`` of each step of an epoch, counted from 0."""
        first = epoch * self.steps_per_epoch
        done = first
        while done < first + self.steps_per_epoch:
            pass_index, within = divmod(done, self.steps_per_pass)
            order = self.permutation(pass_index)
            stop = min(self.steps_per_pass, within + first + self.steps_per_epoch - done)
            for step in range(within, stop):
                yield order[step * self.batch_size : (step + 1) * self.batch_size]
            done += stop - within

    def permutation(self, pass_index: int) -> Tensor:
        """Return the order ``[N]`` of one pass over the rows."""
        generator = torch_generator(self.seed, "order", pass_index)
        if self.probability is None:
            return torch.randperm(self.rows, generator=generator)
        return torch.multinomial(self.probability, self.rows, replacement=True, generator=generator)
