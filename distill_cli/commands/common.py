"""Work that all commands share: the job's description, printing the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from distill_cli.config.command_line import job_line, typed_line
from distill_cli.factory.context import Job
from distill_cli.reports.terminal import console, print_line, print_report


def this_job(command: str) -> Job:
    """Return how this run was started."""
    config = HydraConfig.get()
    words = config.overrides.task
    if config.mode is not RunMode.MULTIRUN:
        return Job(None, typed_line(command, words))
    return Job(int(config.job.num), job_line(command, words), typed_line(command, words))


def show(report: dict[str, Any], out: Path) -> dict[str, Any]:
    """Print a report, write its page, and return the report.

    Why: the run is finished before, so that an error here loses only the page.
    """
    logging.getLogger(__name__).info(report["verdict"])
    print_report(report, out)
    settings = report["config"]["report"]
    if settings["html"]:
        from distill_cli.reports.html.run import page as run_page

        print_line(console(), f"report: {run_page.write(out, report, pictures=settings['plots'])}")
    return report
