"""What every command does around its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from distill_cli.reports.terminal import print_report


def job_number() -> int | None:
    """Return the number of this job in its sweep, None outside one."""
    config = HydraConfig.get()
    return int(config.job.num) if config.mode.name == "MULTIRUN" else None


def show(report: dict[str, Any], out: Path) -> dict[str, Any]:
    """Print a report and hand it on."""
    print_report(report, out)
    return report
