"""Which settings each command takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.config.settings.run import RunSettings, TeacherRunSettings
from distill_cli.config.settings.run_commands import BenchSettings, EvalSettings, ExportSettings, PredictSettings

Settings = TeacherRunSettings | EvalSettings | ExportSettings | BenchSettings | PredictSettings
SETTINGS: dict[str, type[Settings]] = {
    "distill": RunSettings,
    "layers": RunSettings,
    "train-teacher": TeacherRunSettings,
    "eval": EvalSettings,
    "export": ExportSettings,
    "bench": BenchSettings,
    "predict": PredictSettings,
}


def settings_of(command: str, config: Mapping[str, Any]) -> Settings:
    """Return the settings of a command from its plain, resolved and checked config."""
    return SETTINGS[command].from_config(config)
