"""`distill predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.pipeline.predict import predict


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Predict a file; what comes out lies where the user asked, and no run is left behind."""
    predict(cfg)
    return {}
