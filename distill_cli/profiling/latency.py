"""One model timed in a process of its own, so that its memory is nobody else's; torch is imported where torch is timed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.rng import numpy_generator
from distill_cli.utils.timing import measure_latency, peak_memory_bytes

MOST_CALLS, LEAST_CALLS = 100_000, 20


@dataclass(frozen=True)
class BenchmarkCase:
    """What is timed.

    Attributes:
        runtime: ``torch`` or ``onnx``.
        source: the run folder, or the ONNX file.
        name: of the model in the run folder.
        input_shape: of one sample.
        batches: rows at once, one measurement each.
        seconds: of each measurement.
        threads: of the runtime.
    """

    runtime: str
    source: str
    name: str
    input_shape: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    threads: int


def benchmark_in_subprocess(one: BenchmarkCase) -> dict[str, Any]:
    """Time one contestant in a fresh process.

    Returns:
        ``latency_ms.<batch>.{p50,p99,calls}``; ``rows_per_second.<batch>`` at the median; ``peak_memory_bytes.<batch>`` of the
        whole process after that batch size and all smaller ones; ``runtime_memory_bytes``: the same before the model was loaded.

    Raises:
        UserError: the process died.
    """
    fresh = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            return pool.submit(run_benchmark, one).result()
    except BrokenProcessPool:
        largest = max(one.batches)
        raise UserError(
            f"{one.name} ({one.runtime}): its process died, perhaps for want of memory; batches={largest} is too many"
        ) from None


def run_benchmark(one: BenchmarkCase) -> dict[str, Any]:
    """Time a contestant in this process."""
    prepare = {"torch": _torch, "onnx": _onnx}[one.runtime]
    load = prepare(one)
    found: dict[str, Any] = {
        "runtime_memory_bytes": peak_memory_bytes(),
        "latency_ms": {},
        "rows_per_second": {},
        "peak_memory_bytes": {},
    }
    run = load()
    rows = numpy_generator(0, "bench")
    for batch in sorted(one.batches):
        x = rows.normal(size=(batch, *one.input_shape)).astype(np.float32)
        times = measure_latency(lambda x=x: run(x), one.seconds, MOST_CALLS, LEAST_CALLS)  # type: ignore[misc]
        found["latency_ms"][str(batch)] = times
        found["rows_per_second"][str(batch)] = 1000 * batch / times["p50"]
        found["peak_memory_bytes"][str(batch)] = peak_memory_bytes()
    return found


def _torch(one: BenchmarkCase) -> Callable[[], Callable[[np.ndarray], object]]:
    import torch

    from distill_cli.runs.checkpoint import load_model

    torch.set_num_threads(one.threads)

    def load() -> Callable[[np.ndarray], object]:
        model, _ = load_model(Path(one.source), one.name)

        def run(x: np.ndarray) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(x)).logits.numpy()

        return run

    return load


def _onnx(one: BenchmarkCase) -> Callable[[], Callable[[np.ndarray], object]]:
    import onnxruntime

    def load() -> Callable[[np.ndarray], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = one.threads
        session = onnxruntime.InferenceSession(one.source, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0].name
        return lambda x: session.run(None, {given: x})

    return load
