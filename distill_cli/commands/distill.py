"""`distill distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.finished import show, this_job
from distill_cli.pipeline.run import distill


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job into the folder `out` and return its report."""
    return show(distill(cfg, out, this_job("distill")), out)
