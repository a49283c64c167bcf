"""Settings of the commands that open a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from distill_cli.config.settings.build import build, merge
from distill_cli.config.settings.runtime import RuntimeSettings
from distill_cli.config.validation.run_commands import RUNTIMES, formats, parse_choices


@dataclass(frozen=True)
class RunCommandSettings:
    """What the commands share that score a finished run again.

    Attributes:
        seed: of what is drawn: rows to calibrate, samples to show.
        run: the folder, or a word that stands for one.
        dataset: keys of the run's data set that differ, or another data set; empty: the run's own.
        runtime: where and how it runs.
        resolved: the whole config.
    """

    seed: int
    run: str
    dataset: Mapping[str, Any]
    runtime: RuntimeSettings
    resolved: Mapping[str, Any]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the settings of a plain, resolved and checked config."""
        return build(cls, cls._parts(config))

    @classmethod
    def _parts(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        runtime = RuntimeSettings.from_config(config)
        return {**config, "dataset": config["dataset"] or {}, "runtime": runtime, "resolved": config}


@dataclass(frozen=True)
class EvalSettings(RunCommandSettings):
    """Settings of `eval`: `split` is scored, or all but train."""

    split: str = "all"

    def without_samples(self) -> EvalSettings:
        """Return the settings of a report that shows no single sample."""
        return self.from_config(merge(self.resolved, {"report": {"samples": False}}))


@dataclass(frozen=True)
class CardSettings:
    """What a model card says that no run can know."""

    title: str | None = None
    intended_use: str | None = None
    license: str | None = None
    data_license: str | None = None


@dataclass(frozen=True)
class ExportSettings(RunCommandSettings):
    """Settings of `export`.

    Attributes:
        model_name: which model of the run.
        format: the formats, each once.
        output: the new folder; None: inside the run folder of the command.
        calibrate: whether a temperature is fitted.
        max_f1_drop: of rounded weights, 0 to 1.
        calibration_rows: rows that ranges of activations are taken from.
        samples: rows on the web page.
        runtime_source: where the web page gets its runtime from: ``cdn`` or ``bundled``.
        runtime_path: folder of the runtime to bundle.
        card: words for the model card.
    """

    model_name: str = "student"
    format: tuple[str, ...] = ("safetensors",)
    output: str | None = None
    calibrate: bool = False
    max_f1_drop: float = 0.01
    calibration_rows: int = 1024
    samples: int = 50
    runtime_source: str = "cdn"
    runtime_path: str = "node_modules/onnxruntime-web/dist"
    card: CardSettings = CardSettings()

    @classmethod
    def _parts(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **super()._parts(config),
            "format": formats(config["format"]),
            "runtime_source": config["runtime"],
        }


@dataclass(frozen=True)
class BenchSettings(RunCommandSettings):
    """Settings of `bench`.

    Attributes:
        runtimes: ``torch``, ``onnx``, ``onnx-int8``.
        batches: batch sizes.
        seconds: each is timed for.
        calibration_rows: rows that ranges of activations are taken from.
    """

    runtimes: tuple[str, ...] = ("torch",)
    batches: tuple[int, ...] = (1,)
    seconds: float = 1.0
    calibration_rows: int = 1024

    @classmethod
    def _parts(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        runtimes = parse_choices(config["runtimes"], "runtimes", RUNTIMES)
        return {**super()._parts(config), "runtimes": runtimes}


@dataclass(frozen=True)
class PredictSettings:
    """Settings of `predict`.

    Attributes:
        run: the folder, or a word that stands for one.
        input: a table, an array or a record.
        runtime: where and how it runs.
        resolved: the whole config.
        output: the new file; None: beside where the command runs.
        model_name: which model of the run; None: the student, or the teacher of a run without one.
        onnx: an exported file that is run in place of the run's weights.
        on_bad_lines: ``fail`` or ``skip``.
        header: whether a table has one: ``auto``, True or False.
        delimiter: of a table; None: as the run's, or found.
        drop: columns of a table that are left out.
        peaks: of a record: ``auto``, ``annotated`` or ``detected``.
    """

    run: str
    input: str
    runtime: RuntimeSettings
    resolved: Mapping[str, Any]
    output: Path | None = None
    model_name: str | None = None
    onnx: str | None = None
    on_bad_lines: str = "fail"
    header: Any = "auto"
    delimiter: str | None = None
    drop: tuple[str, ...] = ()
    peaks: str = "auto"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PredictSettings:
        """Return the settings of a plain, resolved and checked config."""
        output = None if config["output"] is None else Path(config["output"])
        own = build(cls, {**config, "output": output, "runtime": RuntimeSettings.from_config(config), "resolved": config})
        return replace(own, drop=tuple(str(name) for name in own.drop))
