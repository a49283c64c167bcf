"""The model alone, as this tool loads it: weights in safetensors, and beside them what it takes to build it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_cli.config.validation.check import targets_in
from distill_cli.exports.subject import Artifact, ExportSource, Outputs, runner_of
from distill_cli.profiling.model_cost import weight_bytes
from distill_cli.runs.checkpoint import Checkpoint, load_model
from distill_cli.runs.layout import MODELS, weights_file


def write(subject: ExportSource, folder: Path, settings: Any) -> list[Artifact]:
    """Write ``checkpoint/model.json`` and the weights; what is checked is the model that is built from them again."""
    entry = {key: value for key, value in subject.entry.items() if key != "file"}
    entry["file"] = weights_file(folder, subject.name).name
    Checkpoint(folder, subject.class_names, subject.dataset.columns).add(subject.name, subject.model, entry)
    model, _ = load_model(folder, subject.name, targets_in(subject.entry))
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
