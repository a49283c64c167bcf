"""Types of the tool's own config keys.

A plug-in's keys stay open and are checked against its `_target_` (validation/components.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Bootstrap:
    """Bootstrap resampling for the intervals of one run."""

    resamples: int = 1000
    seed: int = 0


@dataclass
class Device:
    """Device and precision of the computation: 32, bf16 or fp16."""

    name: str = "auto"
    precision: Any = 32
    threads: int | None = None
    max_device_gb: float = 8.0
    workers: int = 0


@dataclass
class EarlyStopping:
    """Epochs without progress of the monitored metric, after which training stops."""

    patience: int | None = None


@dataclass
class LogGradients:
    """Schedule of gradient measurements of the loss terms."""

    every: int | None = None
    batches: int = 1


@dataclass
class Cache:
    """Cache of the teacher's outputs on the training rows."""

    use: str = "auto"
    folder: str = "${outputs}/cache"
    max_gb: float = 4.0
    views: int = 0


@dataclass
class Report:
    """Settings of the report's page, plots and samples."""

    html: bool = True
    plots: bool = True
    samples: bool = True


@dataclass
class Base:
    """Keys of every command."""

    seed: int = 0
    outputs: str = "outputs"
    sweep: str = "${sweep_key:}"
    require: Any = field(default_factory=dict)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    report: Report = field(default_factory=Report)
    device: Device = field(default_factory=Device)
    optimized_metric: str = MISSING
    verbosity: str = "normal"
    log_every_seconds: float = 5.0


@dataclass
class Training(Base):
    """Keys of `distill`, `train-teacher` and `layers`."""

    dataset: Any = None
    task: Any = None
    teacher: Any = None
    student: Any = None
    loss: Any = None
    terms: Any = field(default_factory=dict)
    stages: Any = None
    balance_gradients: str | None = None
    log_gradients: LogGradients = field(default_factory=LogGradients)
    optimizer: Any = None
    lr_scheduler: Any = None
    augment: Any = None
    mixup: Any = None
    sampling: Any = None
    epochs: int = 30
    batch_size: int = 64
    steps_per_epoch: int | None = None
    eval_batch_size: int = 256
    controls: Any = None
    trial: int | None = None
    tuned_from: str | None = None
    generations: Any = field(default_factory=list)
    monitor: str = "macro_f1"
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    cache: Cache = field(default_factory=Cache)
    health: list[str] = field(default_factory=list)
    clip_grad_norm: float | None = None
    logger: Any = None
    resume: str | None = None
    save_every: Any = "1min"


@dataclass
class EvalBootstrap:
    """Bootstrap resampling of a finished run, where null means the run's own value."""

    resamples: int | None = None
    seed: int | None = None


@dataclass
class Finished(Base):
    """Keys of the commands that open a finished run."""

    run: str = MISSING
    eval_batch_size: int | None = None
    bootstrap: EvalBootstrap = field(default_factory=EvalBootstrap)  # type: ignore[assignment]
    dataset: Any = field(default_factory=dict)


@dataclass
class Eval(Finished):
    """Keys of `eval`."""

    split: str = "all"


@dataclass
class Card:
    """Texts of a model card that a run cannot know."""

    title: str | None = None
    intended_use: str | None = None
    license: str | None = None
    data_license: str | None = None


@dataclass
class Export(Finished):
    """Keys of `export`."""

    model_name: str = "student"
    format: Any = "safetensors"
    output: str | None = None
    calibrate: bool = False
    max_f1_drop: float = 0.01
    calibration_rows: int = 1024
    samples: int = 50
    runtime: str = "cdn"
    runtime_path: str = "node_modules/onnxruntime-web/dist"
    card: Card = field(default_factory=Card)


@dataclass
class Bench(Finished):
    """Keys of `bench`."""

    runtimes: Any = field(default_factory=lambda: ["torch", "onnx", "onnx-int8"])
    batches: Any = field(default_factory=lambda: [1, 4, 16, 64, 256, 1024])
    seconds: float = 1.0
    calibration_rows: int = 1024


@dataclass
class Predict(Base):
    """Keys of `predict`."""

    run: str = MISSING
    input: str = MISSING
    output: str | None = None
    model_name: str | None = None
    onnx: str | None = None
    on_bad_lines: str = "fail"
    eval_batch_size: int | None = None
    header: Any = "auto"
    delimiter: str | None = None
    drop: list[str] = field(default_factory=list)
    peaks: str = "auto"


COMMANDS: dict[str, type[Base]] = {
    "distill": Training, "train-teacher": Training, "layers": Training,
    "eval": Eval, "export": Export, "bench": Bench, "predict": Predict,
}  # fmt: skip
for _command, _node in COMMANDS.items():
    ConfigStore.instance().store(name=f"schema-{_command}", node=_node)
