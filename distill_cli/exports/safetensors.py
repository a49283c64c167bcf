"""Export as a checkpoint of this tool: safetensors weights and model.json."""

from __future__ import annotations

from pathlib import Path

from distill_cli.config.settings.run_commands import ExportSettings
from distill_cli.config.validation.check import targets_in
from distill_cli.exports.subject import Artifact, ExportSource, Outputs, runner_of
from distill_cli.profiling.model_cost import weight_bytes
from distill_cli.runs.checkpoint import Checkpoint, load_model
from distill_cli.runs.layout import MODELS, weights_file


def write(subject: ExportSource, folder: Path, settings: ExportSettings) -> list[Artifact]:
    """Write ``checkpoint/model.json`` and the weights.

    The artifact runs a model that is loaded from these files.
    """
    Checkpoint(folder, subject.class_names, subject.dataset.columns).add(subject.name, subject.model, subject.spec)
    model, _ = load_model(folder, subject.name, targets_in(subject.spec.to_json()))
    names = (str(weights_file(folder, subject.name).relative_to(folder)), MODELS)
    return [
        Artifact(
            "safetensors",
            names,
            weight_bytes(model),
            runner_of(Outputs(model, subject.temperature, subject.task)),
            difference=0.0,
        )
    ]
