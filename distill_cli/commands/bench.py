"""The command `distill bench`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from distill_cli import RECIPE_VERSION
from distill_cli.commands.common import this_job
from distill_cli.config.validation.run_commands import parse_choices
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


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job, print its table, and return the report."""
    report = bench(cfg, out, this_job("bench"))
    show(report, out)
    return report


FILES: dict[str, Callable[[ExportSource, Path, Any], list[Artifact]]] = {"onnx": onnx.write, "onnx-int8": onnx_int8.write}


def bench(cfg: Any, out: Path, job: Job) -> Report:
    """Time the models of the run ``cfg.run``, each in a process of its own.

    Args:
        cfg: composed config of the command.
        out: run folder.
        job: how the job was started.

    Raises:
        UserError: the run cannot be loaded, a runtime is not installed, or a batch is too large.
    """
    opened = load_run(cfg, out, job, "bench")
    runtimes = parse_choices(OmegaConf.to_container(OmegaConf.create([cfg.runtimes]))[0], "runtimes", ("torch", *FILES))  # type: ignore[index]
    names = [name for name in (TEACHER, STUDENT) if name in opened.checkpoint["models"]]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="distill-bench-") as place:
        for name in names if "torch" in runtimes else ():
            results[name] = _of_torch(cfg, opened, name)
        for runtime in runtimes:
            if runtime in FILES:
                results[f"{names[-1]} {runtime}"] = _of_file(cfg, opened, names[-1], runtime, Path(place))
    report = {
        "schema_version": 1,
        "command": "bench",
        "recipe_version": RECIPE_VERSION,
        "task": "classification",
        "name": opened.report.get("name"),
        "seed": opened.report.get("seed"),
        "data": data_section(opened.dataset, opened.dataset_config) | {"run_fingerprint": opened.run_fingerprint},
        "models": {},
        "source_run": named(opened.folder),
        "bench": {
            "results": results,
            "warm_up_calls": WARM_UP,
            "seconds": cfg.seconds,
            "least_calls": LEAST_CALLS,
            "threads": torch.get_num_threads(),
            "inputs": "normal deviates, the same for all",
        },
        "provenance": provenance_of(opened.context),
        "config": OmegaConf.to_container(cfg, resolve=True),
    }
    files.write_text(out / layout.CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    files.write_text(out / "report.md", markdown(files.to_jsonable(report)))
    files.write_json(out / layout.REPORT, report)
    return layout.read_json(out / layout.REPORT)


def _of_torch(cfg: Any, opened: LoadedRun, name: str) -> dict[str, Any]:
    model, _ = load_model(opened.folder, name)
    shape, file = opened.dataset.input_shape, layout.weights_file(opened.folder, name)
    size: dict[str, Any] = {
        "parameters": parameter_count(model),
        "macs": macs(model, shape),
        "peak_activation_bytes": peak_activation_bytes(model, shape),
        "weight_bytes": weight_bytes(model),
        "file_bytes": file.stat().st_size,
    }
    return size | _timed(cfg, opened, "torch", str(opened.folder), name)


def _of_file(cfg: Any, opened: LoadedRun, name: str, runtime: str, place: Path) -> dict[str, Any]:
    model, entry = load_model(opened.folder, name)
    (written,) = FILES[runtime](ExportSource(name, model, entry, opened.dataset), place, cfg)
    file = place / written.files[0]
    size: dict[str, Any] = {
        "parameters": parameter_count(model),
        "weight_bytes": written.weight_bytes,
        "file_bytes": file.stat().st_size,
    }
    return size | _timed(cfg, opened, "onnx", str(file), f"{name} {runtime}")


def _timed(cfg: Any, opened: LoadedRun, runtime: str, source: str, name: str) -> dict[str, Any]:
    opened.context.progress.say(f"{name}: timing {len(cfg.batches)} batch sizes")
    case = BenchmarkCase(
        runtime, source, name, opened.dataset.input_shape, tuple(cfg.batches), cfg.seconds, torch.get_num_threads()
    )
    return benchmark_in_subprocess(case)
