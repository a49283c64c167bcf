"""`distill predict` over a CSV file larger than memory may hold: peak resident memory and rows a second.

    python benchmarks/predict.py run=RUN [gigabytes=2] [threads=2]

Writes a CSV of that size with random rows of the run's shape into a temporary folder (TMPDIR chooses where), lets
`distill predict` read it in a process of its own, and prints the most memory that this process held, its time and speed.
The file is removed at the end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from distill_cli.runs import layout

GIGABYTE = 10**9
DISTINCT = 4096  # rows that are drawn; the file repeats them


def write_rows(path: Path, values: int, size: int) -> int:
    """Write rows of `values` random numbers in 0..1 until the file has `size` bytes; return the rows."""
    draw = np.random.default_rng(0)
    lines = [",".join(f"{v:.6f}" for v in row) + "\n" for row in draw.random((DISTINCT, values))]
    block = "".join(lines).encode()
    rows = written = 0
    with open(path, "wb") as f:
        while written < size:
            written += f.write(block)
            rows += DISTINCT
    return rows


def measured(words: list[str]) -> tuple[float, int]:
    """Run a command in a process of its own; return its seconds and its peak resident memory in bytes."""
    began = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "distill_cli", *words])
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"distill ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss * 1024


def main() -> None:
    settings = {"gigabytes": "2", "threads": "2", **dict(word.split("=", 1) for word in sys.argv[1:])}
    run = layout.resolve_run(settings["run"], "run")
    models = json.loads((run / layout.MODELS).read_text())["models"]
    entry = models.get("student", models.get("teacher"))
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "rows.csv", Path(folder) / "predictions.csv"
        rows = write_rows(source, int(np.prod(entry["input_shape"])), int(float(settings["gigabytes"]) * GIGABYTE))
        print(f"{source.stat().st_size:,} bytes, {rows:,} rows of {int(np.prod(entry['input_shape']))} values", flush=True)
        words = [
            "predict",
            f"run={run}",
            f"input={source}",
            f"output={output}",
            "device=cpu",
            f"device.threads={settings['threads']}",
        ]
        seconds, peak = measured(words)
        with open(output, "rb") as f:
            written = sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b"")) - 1
        assert written == rows, (written, rows)
        print(f"{seconds:.0f} s, {rows / seconds:,.0f} rows/s, {source.stat().st_size / seconds / 1e6:.1f} MB/s")
        print(f"peak resident memory {peak / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
