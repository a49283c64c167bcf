"""Work that all commands share: the job's description, printing the report."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from distill_cli.factory.context import Job
from distill_cli.reports.terminal import console, print_line, print_report


def this_job(command: str) -> Job:
    """Return how this run was started.

    In a sweep the command line is the one that runs this job alone.
    """
    config = HydraConfig.get()
    number = int(config.job.num) if config.mode is RunMode.MULTIRUN else None
    return Job(number, shlex.join(["distill", command, *config.overrides.task]))


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
