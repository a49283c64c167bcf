"""Types of the keys that the tool owns; a plug-in's own keys stay open and are checked against its `_target_` (validate.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Bootstrap:
    """Draws behind the intervals of one run."""

    resamples: int = 1000
    seed: int = 0


@dataclass
class Device:
    """Where it runs. `precision` is 32, bf16 or fp16."""

    name: str = "auto"
    precision: Any = 32
    threads: int | None = None
    resident_gb: float = 8.0


@dataclass
class Select:
    """Which epoch's weights are kept, and when training stops early."""

    metric: str = "macro_f1"
    patience: int | None = None


@dataclass
class Gradients:
    """When the gradients of the loss terms are measured."""

    every: int | None = None
    batches: int = 1


@dataclass
class Cache:
    """Stored outputs of the teacher on the training rows."""

    use: str = "auto"
    folder: str = "${outputs}/cache"
    max_gb: float = 4.0
    views: int = 0


@dataclass
class Report:
    """What is drawn when a run ends."""

    html: bool = True
    plots: bool = True
    samples: bool = True


@dataclass
class Checkpoint:
    """When training states are written: a number of steps, a time such as 5min, or null."""

    every: Any = "1min"


@dataclass
class Progress:
    """How much is told while it runs."""

    level: str = "normal"
    every: float = 5.0


@dataclass
class Base:
    """What every command has."""

    seed: int = 0
    outputs: str = "outputs"
    sweep: str = "${sweep_key:}"
    require: Any = field(default_factory=dict)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    report: Report = field(default_factory=Report)
    device: Device = field(default_factory=Device)
    objective: str = MISSING
    progress: Progress = field(default_factory=Progress)


@dataclass
class Training(Base):
    """What `distill` and `train-teacher` share."""

    dataset: Any = None
    task: Any = None
    teacher: Any = None
    student: Any = None
    loss: Any = None
    terms: Any = field(default_factory=dict)
    stages: Any = None
    balance: str | None = None
    gradients: Gradients = field(default_factory=Gradients)
    optimizer: Any = None
    schedule: Any = None
    augment: Any = None
    mixup: Any = None
    sampling: Any = None
    epochs: int = 30
    batch_size: int = 64
    steps_per_epoch: int | None = None
    eval_batch_size: int = 256
    controls: Any = None
    trial: int | None = None
    search: str | None = None
    chain: Any = field(default_factory=list)
    select: Select = field(default_factory=Select)
    cache: Cache = field(default_factory=Cache)
    health: list[str] = field(default_factory=list)
    clip_grad_norm: float | None = None
    logger: Any = None
    resume: str | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)


@dataclass
class EvalBootstrap:
    """As Bootstrap; null: as the run was scored."""

    resamples: int | None = None
    seed: int | None = None


@dataclass
class Finished(Base):
    """What the commands share that open a finished run."""

    run: str = MISSING
    eval_batch_size: int | None = None
    bootstrap: EvalBootstrap = field(default_factory=EvalBootstrap)  # type: ignore[assignment]
    dataset: Any = field(default_factory=dict)


@dataclass
class Eval(Finished):
    """What `eval` adds."""

    split: str = "all"


@dataclass
class Card:
    """What a model card says that no run can know."""

    title: str | None = None
    intended_use: str | None = None
    license: str | None = None
    data_license: str | None = None


@dataclass
class Export(Finished):
    """What `export` adds."""

    checkpoint_model: str = "student"
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
    """What `bench` adds."""

    runtimes: Any = field(default_factory=lambda: ["torch", "onnx", "onnx-int8"])
    batches: Any = field(default_factory=lambda: [1, 4, 16, 64, 256, 1024])
    seconds: float = 1.0
    calibration_rows: int = 1024


@dataclass
class Predict(Base):
    """What `predict` adds."""

    run: str = MISSING
    input: str = MISSING
    output: str | None = None
    checkpoint_model: str | None = None
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
