"""What every part of a run needs to know: where it runs, how precisely, where it writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill_cli.config.resume_policy import read_every, takes_up
from distill_cli.data.loader import Rows
from distill_cli.errors import UserError
from distill_cli.factory.loggers import Loggers
from distill_cli.reports.progress import Progress
from distill_cli.runs.layout import STATES
from distill_cli.runs.training_checkpoint import States
from distill_cli.types import Dataset, EpochRecord, Pool
from distill_cli.utils import files
from distill_cli.utils.allocator import keep_freed_memory
from distill_cli.utils.devices import choose_device


@dataclass(frozen=True)
class Job:
    """How a run was started.

    Attributes:
        number: of the job in its sweep, None outside one.
        command_line: what to type to run it again.
    """

    number: int | None = None
    command_line: str = ""


@dataclass(frozen=True)
class Keeping:
    """When training states are written (``checkpoint.every``), and whether one that is there is gone on from (``resume``)."""

    every_steps: int | None = None
    every_seconds: float | None = None
    take_up: bool = False


@dataclass
class Context:
    """The surroundings of a run.

    Attributes:
        out: the run folder.
        outputs: the folder of all runs, with the register of teachers.
        seed: the run's seed.
        device: where models are trained.
        precision: ``32``, ``bf16`` or ``fp16``.
        resident_gb: data up to this size lives on the device.
        chunk: rows scored at once.
        bootstrap: ``resamples`` and ``seed``.
        progress: shows epochs as they end.
        command_line: what to type to run it again.
        started: seconds since the epoch.
        keeping: how the states of trainings are kept.
        loggers: take every epoch.
    """

    out: Path
    outputs: Path
    seed: int
    device: torch.device
    precision: str
    resident_gb: float
    chunk: int
    bootstrap: Mapping[str, int]
    progress: Progress
    command_line: str
    started: float
    keeping: Keeping = field(default_factory=Keeping)
    loggers: Loggers = field(default_factory=lambda: Loggers({}, print))

    def rows(self, pool: Pool, dataset: Dataset) -> Rows:
        """Return a pool on the device."""
        return Rows(pool, len(dataset.class_names), self.device, self.resident_gb)

    def epoch(self, record: EpochRecord) -> None:
        """Hand an epoch that ended to the terminal and to the loggers."""
        self.progress.epoch(record)
        self.loggers.epoch(record)

    def states(self, name: str, key: str) -> States:
        """Return where the states of one model's training lie: below the run folder, until the run is finished."""
        folder = self.out / STATES / files.safe_name(name)
        return States(folder, key, self.keeping.every_steps, self.keeping.every_seconds, self.keeping.take_up)


def make_context(cfg: Any, out: Path, job: Job) -> Context:
    """Read the surroundings from a config.

    Args:
        cfg: the composed config.
        out: the run folder.
        job: how the run was started; jobs of a sweep take turns on the GPUs.
    """
    keep_freed_memory()
    if cfg.device.threads is not None:
        torch.set_num_threads(cfg.device.threads)
    device = choose_device(cfg.device.name, job.number)
    precision = str(cfg.device.precision)
    if precision == "fp16" and device.type == "cpu":
        raise UserError("device.precision=fp16: not for the CPU; use bf16 or 32")
    return Context(
        out=out,
        outputs=Path(cfg.outputs),
        seed=cfg.seed,
        device=device,
        precision=precision,
        resident_gb=cfg.device.resident_gb,
        chunk=cfg.get("eval_batch_size", 256),
        bootstrap=dict(cfg.bootstrap),
        progress=Progress(cfg.progress.level, cfg.progress.every),
        command_line=job.command_line,
        started=time.time(),
        keeping=Keeping(*read_every(cfg.checkpoint.every), takes_up(cfg.resume, job.number is not None))
        if "checkpoint" in cfg
        else Keeping(),
    )
