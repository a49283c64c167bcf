"""Latency of one model, measured in a process of its own.

The memory is then the model's alone, and torch is imported only where torch is timed.
"""

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
    """Description of one latency measurement.

    Attributes:
        runtime: ``torch`` or ``onnx``.
        source: path of the run folder, or of the ONNX file.
        name: name of the model in the run folder.
        input_shape: shape of one sample.
        batches: batch sizes, one measurement each.
        seconds: time of each measurement in seconds.
        threads: number of threads of the runtime.
    """

    runtime: str
    source: str
    name: str
    input_shape: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    threads: int


def benchmark_in_subprocess(case: BenchmarkCase) -> dict[str, Any]:
    """Measure one case in a fresh process.

    Returns:
        ``latency_ms.<batch>.{p50,p99,calls}``; ``rows_per_second.<batch>`` at the median; ``peak_memory_bytes.<batch>`` of the
        whole process after that batch size and all smaller ones; ``runtime_memory_bytes``: the same before the model was loaded.

    Raises:
        UserError: the process died.
    """
    fresh = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            return pool.submit(run_benchmark, case).result()
    except BrokenProcessPool:
        largest = max(case.batches)
        raise UserError(
            f"{case.name} ({case.runtime}): its process died, perhaps for want of memory; batches={largest} is too many"
        ) from None


def run_benchmark(case: BenchmarkCase) -> dict[str, Any]:
    """Measure a case in this process."""
    prepare = {"torch": _torch, "onnx": _onnx}[case.runtime]
    load = prepare(case)
    results: dict[str, Any] = {
        "runtime_memory_bytes": peak_memory_bytes(),
        "latency_ms": {},
        "rows_per_second": {},
        "peak_memory_bytes": {},
    }
    run = load()
    rows = numpy_generator(0, "bench")
    for batch in sorted(case.batches):
        x = rows.normal(size=(batch, *case.input_shape)).astype(np.float32)
        times = measure_latency(lambda x=x: run(x), case.seconds, MOST_CALLS, LEAST_CALLS)  # type: ignore[misc]
        results["latency_ms"][str(batch)] = times
        results["rows_per_second"][str(batch)] = 1000 * batch / times["p50"]
        results["peak_memory_bytes"][str(batch)] = peak_memory_bytes()
    return results


def _torch(case: BenchmarkCase) -> Callable[[], Callable[[np.ndarray], object]]:
    import torch

    from distill_cli.runs.checkpoint import load_model

    torch.set_num_threads(case.threads)

    def load() -> Callable[[np.ndarray], object]:
        model, _ = load_model(Path(case.source), case.name)

        def run(x: np.ndarray) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(x)).logits.numpy()

        return run

    return load


def _onnx(case: BenchmarkCase) -> Callable[[], Callable[[np.ndarray], object]]:
    import onnxruntime

    def load() -> Callable[[np.ndarray], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        session = onnxruntime.InferenceSession(case.source, options, providers=["CPUExecutionProvider"])
        input_name = session.get_inputs()[0].name
        return lambda x: session.run(None, {input_name: x})

    return load
