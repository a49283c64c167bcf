"""Work that all commands share: the job's description, printing the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from distill_cli.config.settings.runtime import ReportSettings
from distill_cli.reports.terminal import console, print_line, print_report


def show(report: dict[str, Any], out: Path, settings: ReportSettings) -> dict[str, Any]:
    """Print a report, draw its page, and hand it on.

    Why: the run is finished before, so that an error here loses only the page.
    """
    logging.getLogger(__name__).info(report["verdict"])
    print_report(report, out)
    if settings.html:
        from distill_cli.reports.html.run import page as run_page

        print_line(console(), f"report: {run_page.write(out, report, pictures=settings.plots)}")
    return report
