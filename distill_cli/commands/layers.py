"""`distill layers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.pipeline.layers import layers
from distill_cli.reports.layers import show


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """List the modules of teacher and student; nothing is trained, written or reported."""
    show(layers(cfg))
    return {}
