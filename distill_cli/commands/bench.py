"""The command `distill bench`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.run_commands import BenchSettings
from distill_cli.config.trust import dump_config
from distill_cli.exports import onnx, onnx_int8
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.factory.context import Job
from distill_cli.factory.data import data_section
from distill_cli.pipeline.load_run import LoadedRun, load_run
from distill_cli.pipeline.report_sections import Report, provenance_of
from distill_cli.profiling.latency import LEAST_CALLS, BenchmarkCase, benchmark_in_subprocess
from distill_cli.profiling.model_cost import macs, parameter_count, peak_activation_bytes, weight_bytes
from distill_cli.reports.run.benchmark_table import markdown, show
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import load_model
from distill_cli.runs.find_run import named
from distill_cli.types import STUDENT, TEACHER
from distill_cli.utils import files
from distill_cli.utils.timing import WARM_UP


def run(settings: BenchSettings, out: Path, job: Job) -> dict[str, Any]:
    """Run one job, print its table, and return the report."""
    report = bench(settings, out, job)
    show(report, out)
    return report


FILES: dict[str, Callable[[ExportSource, Path, Any], list[Artifact]]] = {"onnx": onnx.write, "onnx-int8": onnx_int8.write}


def bench(settings: BenchSettings, out: Path, job: Job) -> Report:
    """Time the models of a finished run, each in a process of its own.

    Args:
        settings: settings of the command.
        out: run folder.
        job: how the job was started.

    Raises:
        UserError: the run cannot be loaded, a runtime is not installed, or a batch is too large.
    """
    opened, runtimes = load_run(settings, out, job), settings.runtimes
    names = [name for name in (TEACHER, STUDENT) if name in opened.checkpoint["models"]]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="distill-bench-") as place:
        for name in names if "torch" in runtimes else ():
            results[name] = _of_torch(settings, opened, name)
        for runtime in runtimes:
            if runtime in FILES:
                results[f"{names[-1]} {runtime}"] = _of_file(settings, opened, names[-1], runtime, Path(place))
    report = {
        "schema_version": 1,
        "command": "bench",
        "recipe_version": RECIPE_VERSION,
        "task": "classification",
        "name": opened.report.get("name"),
        "seed": opened.report.get("seed"),
        "data": data_section(opened.dataset, opened.dataset_settings) | {"run_fingerprint": opened.run_fingerprint},
        "models": {},
        "source_run": named(opened.folder),
        "bench": {
            "results": results,
            "warm_up_calls": WARM_UP,
            "seconds": settings.seconds,
            "least_calls": LEAST_CALLS,
            "threads": torch.get_num_threads(),
            "inputs": "normal deviates, the same for all",
        },
        "provenance": provenance_of(opened.context),
        "config": settings.resolved,
    }
    files.write_text(out / layout.CONFIG, dump_config(settings.resolved))
    files.write_text(out / "report.md", markdown(files.to_jsonable(report)))
    files.write_json(out / layout.REPORT, report)
    return layout.read_json(out / layout.REPORT)


def _of_torch(settings: BenchSettings, opened: LoadedRun, name: str) -> dict[str, Any]:
    model, _ = load_model(opened.folder, name)
    shape, file = opened.dataset.input_shape, layout.weights_file(opened.folder, name)
    size: dict[str, Any] = {
        "parameters": parameter_count(model),
        "macs": macs(model, shape),
        "peak_activation_bytes": peak_activation_bytes(model, shape),
        "weight_bytes": weight_bytes(model),
        "file_bytes": file.stat().st_size,
    }
    return size | _timed(settings, opened, "torch", str(opened.folder), name)


def _of_file(settings: BenchSettings, opened: LoadedRun, name: str, runtime: str, place: Path) -> dict[str, Any]:
    model, spec = load_model(opened.folder, name)
    (written,) = FILES[runtime](ExportSource(name, model, spec, opened.dataset), place, settings)
    file = place / written.files[0]
    size: dict[str, Any] = {
        "parameters": parameter_count(model),
        "weight_bytes": written.weight_bytes,
        "file_bytes": file.stat().st_size,
    }
    return size | _timed(settings, opened, "onnx", str(file), f"{name} {runtime}")


def _timed(settings: BenchSettings, opened: LoadedRun, runtime: str, source: str, name: str) -> dict[str, Any]:
    opened.context.progress.say(f"{name}: timing {len(settings.batches)} batch sizes")
    case = BenchmarkCase(
        runtime, source, name, opened.dataset.input_shape, settings.batches, settings.seconds, torch.get_num_threads()
    )
    return benchmark_in_subprocess(case)
