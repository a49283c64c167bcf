"""Provenance of a run: versions, machine, revision, command line."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill_cli import __version__

PACKAGES = ("torch", "hydra-core", "omegaconf", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "wfdb")
GIT_SECONDS = 5


def provenance(device: torch.device, precision: str, started: float, lines: Mapping[str, str]) -> dict[str, Any]:
    """Return the report's section `provenance`.

    Args:
        device: device of the training.
        precision: precision of the forward pass.
        started: start time, seconds since the epoch.
        lines: command lines that repeat the run, by key.
    """
    return {
        "distill": __version__,
        "git_revision": git_revision(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "device": device.type if device.type != "cuda" else torch.cuda.get_device_name(device),
        "precision": precision,
        **lines,
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": time.time() - started,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_revision() -> str | None:
    """Return the git revision of the tool's checkout, or None outside git.

    The revision ends with ``+changes`` if there are uncommitted changes.
    """
    here = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        ).stdout.strip()

    if not (here / ".git").exists():
        return None
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
