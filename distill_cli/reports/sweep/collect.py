"""The runs below a folder: finished, unfinished, failed, unreadable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.utils.files import read_text

SCHEMA_VERSION = 1
# Commands that train and score nothing new, so their reports are no rows of a table.
COMMANDS_WITHOUT_SCORES = ("export", "bench")
LARGEST_OVERRIDES = 1_000_000  # bytes


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: run folder.
        report: content of its report.json.
        overrides: typed overrides, from ``.hydra/overrides.yaml``; None where there is no such file.
        written: modification time of the report, seconds since the epoch.
    """

    folder: Path
    report: dict[str, Any]
    overrides: tuple[str, ...] | None
    written: float

    @property
    def seed(self) -> int | None:
        """Seed of the run."""
        return self.report.get("seed")


@dataclass
class RunCollection:
    """The runs below some folders.

    Attributes:
        finished: runs with a report.
        unfinished: run folders without a report.
        failed: run folders whose job ended with an error, each with its overrides and the error's line.
        unreadable: one line for each report that cannot be read.
    """

    finished: list[Run] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of run folders."""
        return len(self.finished) + len(self.unfinished) + len(self.failed) + len(self.unreadable)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run folder, finished or not."""
    return any((folder / name).exists() for name in ("report.json", "failed.json", ".hydra"))


def collect(folders: Sequence[str | Path]) -> RunCollection:
    """Return the runs that the folders are or hold, at any depth, each once.

    Raises:
        UserError: a folder does not exist, or neither is nor holds a run.
    """
    collection, seen = RunCollection(), set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name a run folder, or a folder that holds some")
        runs = run_folders(folder)
        if not runs:
            raise UserError(f"{folder}: not a run, and no run is below it; name a run folder, or a folder that holds some")
        if runs == [folder] and not (folder / "report.json").exists() and not (folder / "failed.json").exists():
            raise UserError(f"{folder}: run folder unfinished (it has no report.json); wait for it or run it again")
        for run in runs:
            if run.resolve() not in seen:
                seen.add(run.resolve())
                _add(collection, run)
    return collection


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders at or below a folder, sorted by path.

    A run folder is not searched for further runs.
    """
    if is_run(folder):
        return [folder]
    runs = []
    for place, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = [name for name in below if is_run(Path(place, name))]
        runs += [Path(place, name) for name in inside]
        below[:] = [name for name in below if name not in inside]
    return sorted(runs)


def _add(collection: RunCollection, folder: Path) -> None:
    if (folder / "report.json").exists():
        try:
            run = read_run(folder)
            if run.report.get("command") not in COMMANDS_WITHOUT_SCORES:
                collection.finished.append(run)
        except UserError as e:
            collection.unreadable.append(str(e))
    elif (folder / "failed.json").exists():
        line, typed = _failure(folder / "failed.json"), " ".join(_overrides(folder) or ())
        collection.failed.append((folder, line if typed in line else f"{typed}: {line}"))
    else:
        collection.unfinished.append(folder)


def read_run(folder: Path) -> Run:
    """Return a finished run.

    Raises:
        UserError: the report.json cannot be read, is no report, or has another schema version.
    """
    path = folder / "report.json"
    try:
        report = json.loads(read_text(path))
        written = path.stat().st_mtime
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path}: cannot be read ({_one_line(e)}); run the job again") from None
    if not isinstance(report, dict) or not isinstance(report.get("models"), dict):
        raise UserError(f"{path}: is not a report of distill (it has no models); run the job again")
    if (wrong := _no_mapping(report)) is not None:
        raise UserError(f"{path}: is not a report of distill ({wrong} holds no keys); run the job again")
    if report.get("schema_version") != SCHEMA_VERSION:
        version = report.get("schema_version")
        raise UserError(f"{path}: has schema version {version}, this distill reads {SCHEMA_VERSION}; run the job again")
    return Run(folder, report, _overrides(folder), written)


def _no_mapping(report: Mapping[str, Any]) -> str | None:
    """Return the first key of a report whose value should be a mapping and is not.

    Why: a report may come from anywhere.
    """
    places = {key: report.get(key) for key in ("data", "provenance", "config", "comparison")}
    for name, model in report["models"].items():
        places[f"models.{name}"] = model
        for split in ("val", "test") if isinstance(model, Mapping) else ():
            places[f"models.{name}.{split}"] = model.get(split)
    return next((place for place, value in places.items() if not isinstance(value, Mapping | None)), None)


def _overrides(folder: Path) -> tuple[str, ...] | None:
    import yaml

    try:
        typed = yaml.safe_load(read_text(folder / ".hydra" / "overrides.yaml", LARGEST_OVERRIDES)) or []
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    # Text alone: what else YAML can hold may be endless when it is written out.
    return tuple(typed) if isinstance(typed, list) and all(isinstance(o, str) for o in typed) else None


def _failure(path: Path) -> str:
    try:
        return _one_line(json.loads(read_text(path))["error"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "failed, and its failed.json cannot be read"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
