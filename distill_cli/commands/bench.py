"""`distill bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.finished import this_job
from distill_cli.pipeline.bench import bench
from distill_cli.reports.bench import show


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job, print its table and return the report."""
    report = bench(cfg, out, this_job("bench"))
    show(report, out)
    return report
