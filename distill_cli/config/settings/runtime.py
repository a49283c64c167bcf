"""Where and how a command runs.

Nothing here changes what is learned, except the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from distill_cli.config.settings.build import build


@dataclass(frozen=True)
class DeviceSettings:
    """Hardware and arithmetic.

    Attributes:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``32``, ``bf16`` or ``fp16``.
        threads: of PyTorch; None: as many as it takes by itself.
        max_device_gb: data up to this size in GiB lives on the device.
        workers: processes that decode samples of larger data.
    """

    name: str = "auto"
    precision: str = "32"
    threads: int | None = None
    max_device_gb: float = 8.0
    workers: int = 0


@dataclass(frozen=True)
class BootstrapSettings:
    """Bootstrap draws behind the intervals of one run.

    None: as the run was scored.
    """

    resamples: int | None = 1000
    seed: int | None = 0


@dataclass(frozen=True)
class ReportSettings:
    """What is drawn when a run ends: a page, its plots, single samples on it."""

    html: bool = True
    plots: bool = True
    samples: bool = True


@dataclass(frozen=True)
class CacheSettings:
    """Stored outputs of the teacher on the training rows.

    Attributes:
        use: ``auto`` or ``never``.
        folder: of all caches.
        max_gb: largest size in GiB of one teacher's outputs.
        views: stored augmented or mixed copies of each row; 0: new ones every epoch.
    """

    use: str
    folder: Path
    max_gb: float
    views: int


@dataclass(frozen=True)
class RuntimeSettings:
    """Surroundings of a command.

    Attributes:
        outputs: folder of all runs, with the register of teachers.
        device: hardware and arithmetic.
        bootstrap: draws behind intervals.
        report: what is drawn in the end.
        eval_batch_size: rows scored at once; None: as the run was scored.
        save_every: between two training states: steps, a time such as ``5min``, or None.
        resume: ``auto``, ``never``, a folder, or None.
        verbosity: ``quiet``, ``normal`` or ``verbose``.
        log_every_seconds: between two lines off a terminal.
    """

    outputs: Path
    device: DeviceSettings
    bootstrap: BootstrapSettings
    report: ReportSettings
    eval_batch_size: int | None = None
    save_every: int | str | None = None
    resume: str | None = None
    verbosity: str = "normal"
    log_every_seconds: float = 5.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RuntimeSettings:
        """Return the settings of a command's config."""
        device = {**config["device"], "precision": str(config["device"]["precision"])}
        return build(cls, {**config, "device": device})


RUNTIME_KEYS = tuple(f.name for f in fields(RuntimeSettings))
