"""The report.html of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill_cli.reports import formatting
from distill_cli.reports.html.components import Section
from distill_cli.reports.html.page import render
from distill_cli.reports.html.run import (
    confusion,
    curves,
    feature_maps,
    gallery,
    models,
    per_class,
    png,
    reliability,
    soft_targets,
    temperature,
    terms,
)
from distill_cli.reports.html.run.data import RunData, read_run_data
from distill_cli.reports.run import markdown, model_table, more_seeds
from distill_cli.reports.run.origin import origin
from distill_cli.utils.files import write_text

PAGE = "report.html"
REVISION = 12  # characters of a git revision
# Sections in page order; each function returns None where a run has nothing to draw.
PICTURES: tuple[Callable[[RunData], Section | None], ...] = (
    models.section, curves.section, confusion.section, per_class.section, reliability.section, temperature.section,
    soft_targets.section, gallery.section, terms.section, feature_maps.section,
)  # fmt: skip


def write(
    folder: Path, report: Mapping[str, Any], to: Path | None = None, *, samples: bool = True, pictures: bool = True
) -> Path:
    """Write report.html of a finished run, and return its path.

    Args:
        folder: run folder, from whose files the page is drawn.
        report: content of its report.json.
        to: another folder for the page; None: the run folder.
        samples: False leaves single samples out, whatever the run's config says.
        pictures: whether plots/*.png are drawn, too.

    Raises:
        UserError: a file is damaged, or the folder is not writable.
    """
    data = read_run_data(folder, report, samples=samples)
    written = write_text((to or folder) / PAGE, page(data))
    if pictures:
        png.write(to or folder, data)
    return written


def page(data: RunData) -> str:
    """Return the HTML text of a run's page."""
    report, provenance = data.report, data.report.get("provenance") or {}
    name = str(report.get("name") or report.get("command"))
    sections = [part for picture in PICTURES if (part := picture(data)) is not None]
    return render(
        "run.html",
        f"{name}, seed {report.get('seed')}",
        sections,
        kind=f"distill {report.get('command')}, seed {report.get('seed')}",
        name=name,
        verdict=str(report["verdict"]),
        cards=models.cards(data),
        notes=markdown.notes_of(report),
        facts=facts(report),
        command=provenance.get("command_line"),
        sweep_command=provenance.get("sweep_command_line"),
        more_seeds=more_seeds.command_line(report),
    )


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of each fact about a run: data, device, versions, time."""
    data, provenance = report.get("data") or {}, report.get("provenance") or {}
    sizes = ", ".join(f"{split} {formatting.count(n)}" for split, n in model_table.rows_of_splits(report).items())
    versions = provenance.get("versions") or {}
    revision = str(provenance.get("git_revision"))[:REVISION]
    entries = [
        ("scores of", origin(report)),
        ("data", data.get("name")),
        ("split", data.get("split") and f"{data['split']}, split seed {data.get('split_seed')}"),
        ("rows", sizes),
        ("teacher", report.get("teacher_source")),
        ("device", provenance.get("device")),
        ("versions", ", ".join(f"{name} {versions[name]}" for name in ("python", "torch") if name in versions)),
        ("left out in fp16", markdown.skipped_steps(report)),
        ("distill", provenance.get("distill") and f"{provenance['distill']}, revision {revision}"),
        ("started", provenance.get("started")),
        ("took", formatting.duration(provenance.get("seconds")) if provenance.get("seconds") is not None else None),
    ]
    return [(what, str(value)) for what, value in entries if value]
