"""`distill export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from distill_cli.commands.finished import this_job
from distill_cli.errors import UserErrors
from distill_cli.exports.card import show
from distill_cli.pipeline.export import export


def run(cfg: DictConfig, out: Path) -> dict[str, Any]:
    """Run one job, print what was written and how it was checked, and return the report.

    Raises:
        UserErrors: some of several formats were refused; the others are kept.
    """
    report = export(cfg, out, this_job("export"))
    show(report, out)
    if refused := report["export"]["refused"]:
        kept = ", ".join(report["export"]["formats"])
        raise UserErrors([line.replace("nothing was written", f"kept: {kept}") for line in refused.values()])
    return report
