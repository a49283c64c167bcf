"""The context of a run: device, precision and output folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from distill_cli.config.resume_policy import parse_interval, should_resume
from distill_cli.config.settings.runtime import RuntimeSettings
from distill_cli.data.loader import SubsetLoader
from distill_cli.errors import UserError
from distill_cli.factory.loggers import LoggerCollection
from distill_cli.reports.progress import Progress
from distill_cli.runs.layout import RESUME_DIR
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.tasks.registry import find_task
from distill_cli.types import Dataset, EpochRecord, Pool
from distill_cli.utils import files
from distill_cli.utils.allocator import disable_malloc_trim
from distill_cli.utils.devices import choose_device

DEFAULT_BATCH_SIZE = 256  # rows scored at once, where neither a run nor a user says


@dataclass(frozen=True)
class Job:
    """How a run was started.

    Attributes:
        number: of the job in its sweep, None outside one.
        command_line: what to type to run it again, alone.
        sweep_command_line: what was typed for the whole sweep; None outside one.
    """

    number: int | None = None
    command_line: str = ""
    sweep_command_line: str | None = None


@dataclass(frozen=True)
class CheckpointPolicy:
    """Policy for training checkpoints.

    ``save_every`` says how often one is saved, ``resume`` whether an existing one is resumed.
    """

    every_steps: int | None = None
    every_seconds: float | None = None
    resume: bool = False


@dataclass
class RunContext:
    """The surroundings of a run.

    Attributes:
        run_dir: the run folder.
        output_dir: the folder of all runs, with the register of teachers.
        device: where models are trained.
        precision: ``32``, ``bf16`` or ``fp16``.
        max_device_gb: data up to this size lives on the device.
        workers: processes that decode samples of larger data.
        eval_batch_size: rows scored at once.
        bootstrap: ``resamples`` and ``seed``.
        progress: shows epochs as they end.
        job: how the run was started.
        started: seconds since the epoch.
        checkpoint_policy: how the states of trainings are kept.
        loggers: take every epoch.
    """

    run_dir: Path
    output_dir: Path
    device: torch.device
    precision: str
    max_device_gb: float
    eval_batch_size: int
    bootstrap: Mapping[str, int]
    progress: Progress
    job: Job
    started: float
    checkpoint_policy: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    workers: int = 0
    loggers: LoggerCollection = field(default_factory=lambda: LoggerCollection({}, print))

    def rows(self, pool: Pool, dataset: Dataset) -> SubsetLoader:
        """Return a pool on the device."""
        encode = find_task(dataset.task).encode_targets
        return SubsetLoader(pool, len(dataset.class_names), self.device, self.max_device_gb, self.workers, encode)

    def epoch(self, record: EpochRecord) -> None:
        """Hand an epoch that ended to the terminal and to the loggers."""
        self.progress.epoch(record)
        self.loggers.epoch(record)

    def checkpoint_manager(self, name: str, key: str) -> CheckpointManager:
        """Return the checkpoint manager of one model's training.

        Checkpoints lie below the run folder until the run is finished.
        """
        folder = self.run_dir / RESUME_DIR / files.safe_name(name)
        return CheckpointManager(
            folder, key, self.checkpoint_policy.every_steps, self.checkpoint_policy.every_seconds, self.checkpoint_policy.resume
        )


def make_context(settings: RuntimeSettings, out: Path, job: Job) -> RunContext:
    """Return the surroundings of a run.

    Args:
        settings: device, outputs, what is shown.
        out: the run folder.
        job: how the run was started; jobs of a sweep take turns on the GPUs.
    """
    disable_malloc_trim()
    if settings.device.threads is not None:
        torch.set_num_threads(settings.device.threads)
    device, precision = choose_device(settings.device.name, job.number), settings.device.precision
    if precision == "fp16" and device.type == "cpu":
        raise UserError("device.precision=fp16: not for the CPU; use bf16 or 32")
    return RunContext(
        run_dir=out,
        output_dir=settings.outputs,
        device=device,
        precision=precision,
        max_device_gb=settings.device.max_device_gb,
        workers=settings.device.workers,
        eval_batch_size=settings.eval_batch_size or DEFAULT_BATCH_SIZE,
        bootstrap=asdict(settings.bootstrap),
        progress=Progress(settings.verbosity, settings.log_every_seconds),
        job=job,
        started=time.time(),
        checkpoint_policy=CheckpointPolicy(
            *parse_interval(settings.save_every), should_resume(settings.resume, job.number is not None)
        ),
    )
