"""Rows that must be decoded, read ahead batch by batch in worker processes.

Workers only read: which rows a batch holds, and every random draw on it, is decided in the main process, so that batches are the
same for any number of workers (docs/decisions/0009).
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from distill_cli.errors import UserError
from distill_cli.types import Source
from distill_cli.utils.signals import stop_requested

# Batches that each worker has ready or in work: memory does not grow with the data.
PREFETCHED_BATCHES = 2
# What a terminal sends to every process of a run: the main process alone acts on it.
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)


def is_decoded(source: Source) -> bool:
    """Return whether reading rows of a source is work that worker processes may do."""
    return bool(getattr(source, "decodes", False))


def read_rows(source: Source, rows: np.ndarray) -> Tensor:
    """Return the rows ``[B]`` of a source as float32 ``[B, *shape]`` on the CPU."""
    return torch.as_tensor(np.ascontiguousarray(source[rows]), dtype=torch.float32)


@dataclass(frozen=True)
class ReadFailure:
    """The message of a UserError in a worker.

    DataLoader would wrap the exception itself into a traceback's text.
    """

    line: str


class DecodedRows(Dataset[Any]):
    """The rows of a pool as DataLoader asks for them, a batch at once.

    Args:
        source: picklable, without open files.
        rows: ``[N]`` positions of the pool's rows in `source`.
    """

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.source = source
        self.rows = rows

    def __getitems__(self, positions: list[int]) -> Tensor | ReadFailure:
        """Return the inputs ``[B, *shape]`` of one batch.

        Where a file is wrong, returns the line that says so.
        """
        try:
            return read_rows(self.source, self.rows[positions])
        except UserError as e:
            return ReadFailure(str(e))


def read_batches(
    source: Source, rows: np.ndarray, plan: Sequence[Tensor], workers: int, *, pin_memory: bool = False
) -> Iterator[Tensor]:
    """Yield the inputs of each batch of a plan, in its order.

    The worker processes end with the generator.

    Args:
        source: picklable, without open files, where `workers` is above 0.
        rows: ``[N]`` positions of the pool's rows in `source`.
        plan: positions ``[B]`` in `rows` of each batch.
        workers: processes that read ahead; 0 reads in this one.
        pin_memory: whether batches lie in page-locked memory, from which a GPU copies faster.

    Yields:
        float32 ``[B, *shape]`` on the CPU.

    Raises:
        UserError: a file cannot be read, the source cannot be sent to a worker, or a worker died.
    """
    done = 0
    if workers and plan:
        batches: Iterator[Any] = iter(())
        try:  # the fork server may be gone before a worker starts
            batches = _start_workers(DecodedRows(source, rows), plan, min(workers, len(plan)), pin_memory=pin_memory)
            for inputs in batches:
                if isinstance(inputs, ReadFailure):
                    raise UserError(inputs.line)
                yield inputs
                done += 1
        except (RuntimeError, OSError, EOFError) as e:
            if not _is_end_of_worker(e):
                raise
            # A signal to all processes of a run ends the workers first; the main process still finishes its step and saves it.
            if stop_requested() is None:
                raise UserError(
                    f"device.workers={workers}: a worker process ended before its time (out of memory, or /dev/shm is full); "
                    "use fewer workers, or 0"
                ) from None
        finally:
            del batches  # ends the workers, also where a traceback keeps this frame
    for positions in plan[done:]:
        yield read_rows(source, rows[positions.numpy()])


def _is_end_of_worker(error: Exception) -> bool:
    """Return whether an error in the main process means that a worker died.

    False for an error that was raised in a worker.
    """
    if "in DataLoader worker process" in str(error):
        return False
    # Tensors wait in a worker until they are fetched: of a dead one the connection breaks before DataLoader misses it.
    return not isinstance(error, RuntimeError) or "exited unexpectedly" in str(error)


def _start_workers(dataset: DecodedRows, plan: Sequence[Tensor], workers: int, *, pin_memory: bool) -> Iterator[Any]:
    """Return DataLoader's iterator over the plan.

    Workers come from a fork server, not from a fork of this process: they share no lock, open file or CUDA context with it.
    DataLoader draws a seed for its workers; from a generator of its own, so that it moves no draw of the run.
    """
    try:
        ForkingPickler.dumps(dataset)
    except (pickle.PicklingError, TypeError, AttributeError) as e:
        raise UserError(f"device.workers={workers}: this data cannot be sent to a worker ({e}); set device.workers=0") from None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    loader = DataLoader(
        dataset, batch_sampler=[positions.tolist() for positions in plan], num_workers=workers, collate_fn=_as_it_is,
        prefetch_factor=PREFETCHED_BATCHES, pin_memory=pin_memory, multiprocessing_context=context, generator=torch.Generator(),
    )  # fmt: skip
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)  # processes inherit it
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _as_it_is(inputs: Any) -> Any:
    return inputs
