"""`distill bench`: what is measured is there, in one table, and wrong keys are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from distill_cli.utils.timing import measure_latency, peak_memory_bytes

Distill = Callable[..., Ran]


@pytest.mark.slow
def test_the_contestants_stand_side_by_side(run: Path, distill: Distill) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    ran = distill("bench", f"run={run}", "runtimes=[torch,onnx]", "batches=[8,1]", "seconds=0.02", "device.threads=1")
    assert ran.code == 0, ran.err
    found = ran.report["bench"]
    assert list(found["results"]) == ["teacher", "student", "student onnx"]
    assert (found["warm_up_calls"], found["threads"], found["seconds"]) == (5, 1, 0.02)
    told = json.loads((run / "report.json").read_text())["models"]
    for name in ("teacher", "student"):
        assert found["results"][name]["weight_bytes"] == told[name]["weight_bytes"]
        assert found["results"][name]["parameters"] == told[name]["parameters"]
    for one in found["results"].values():
        assert list(one["latency_ms"]) == list(one["rows_per_second"]) == list(one["peak_memory_bytes"]) == ["1", "8"]
        for batch, times in one["latency_ms"].items():
            assert 0 < times["p50"] <= times["p99"]
            assert times["calls"] >= 20
            assert one["rows_per_second"][batch] == pytest.approx(1000 * int(batch) / times["p50"])
        assert 0 < one["runtime_memory_bytes"] <= one["peak_memory_bytes"]["1"] <= one["peak_memory_bytes"]["8"]
    # the ONNX runtime is measured without torch in its process
    assert found["results"]["student onnx"]["runtime_memory_bytes"] < 0.7 * found["results"]["student"]["runtime_memory_bytes"]
    assert "batch 8, p99" in ran.out
    assert "1 thread; a process each; 5 calls of warm-up" in ran.out
    assert "| batch 8, p99 |" in (ran.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["runtimes=[torch,onx]"],
            "runtimes=onx: there is no such runtime; did you mean 'onnx'? (there are: torch, onnx, onnx-int8)",
        ),
        (["batches=[0]"], "batches=[0]: expected a list of numbers from 1 to 65536, such as [1,64]"),
        (["batches=[]"], "batches=[]: expected a list"),
        (["batches=8"], "batches=8: expected a list"),
        (["seconds=0"], "seconds=0.0: must be above 0 and at most 60"),
        (["device=cuda"], "device.name=cuda: expected cpu or auto"),
        (["run=nowhere"], "run=nowhere: no such folder"),
    ],
)
def test_wrong_input_is_one_line(run: Path, distill: Distill, words: list[str], said: str) -> None:
    ran = distill("bench", f"run={run}", *words)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert said in ran.err
    assert not list(Path("outputs").glob("bench/*"))


def test_as_many_calls_are_timed_as_are_wanted() -> None:
    calls: list[int] = []
    assert measure_latency(lambda: calls.append(1), seconds=1e-9, least=7)["calls"] == 7
    assert len(calls) == 12
    assert measure_latency(lambda: None, seconds=5.0, most=30)["calls"] == 30


def test_peak_memory_never_falls() -> None:
    before = peak_memory_bytes()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
    assert peak_memory_bytes() >= max(before, 64 << 20)
