"""`distill eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.finished import job_number, show
from distill_cli.pipeline.evaluate import evaluate


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job into the folder `out` and return its report."""
    return show(evaluate(cfg, out, job_number()), out)
