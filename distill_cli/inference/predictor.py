"""A model of a finished run for predictions, from a checkpoint or ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_cli.config.settings.run_commands import PredictSettings
from distill_cli.config.trust import load_config
from distill_cli.errors import UserError
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import load_model, read_checkpoint
from distill_cli.runs.find_run import find_run, named
from distill_cli.tasks.registry import CLASSIFICATION, find_task
from distill_cli.tasks.task import Task
from distill_cli.types import STUDENT, TEACHER
from distill_cli.utils.devices import choose_device

# x [B, *shape] float32 -> probabilities [B, C]
Probabilities = Callable[[np.ndarray], np.ndarray]
USUAL_CHUNK = 256


@dataclass
class Predictor:
    """A model, and what is known of its inputs.

    Attributes:
        origin: text that names model and run.
        config: the run's resolved config, which may come from an untrusted source.
        class_names: C names in class order.
        features, metadata: column names of the training table's features, and of its label and group; empty for other data.
        shape: shape of one sample.
        probabilities: function from ``[B, *shape]`` float32 to probabilities ``[B, C]``.
        task: what it has learned.
    """

    origin: str
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    features: list[str]
    metadata: list[str]
    shape: tuple[int, ...]
    probabilities: Probabilities
    task: Task

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Config of the run's data set."""
        node = self.config.get("dataset")
        return node if isinstance(node, Mapping) else {}

    @property
    def batch_size(self) -> int:
        """Batch size with which the run was scored."""
        chunk = self.config.get("eval_batch_size")
        return chunk if type(chunk) is int and chunk >= 1 else USUAL_CHUNK


def open_predictor(settings: PredictSettings) -> Predictor:
    """Open ``model_name`` of the run ``run``, or ``onnx`` in its place.

    Raises:
        UserError: run, model or file does not exist, is damaged, is not trusted, or belongs to another run.
    """
    folder = find_run(settings.run, "run")
    checkpoint = read_checkpoint(folder)
    name = settings.model_name if settings.model_name is not None else STUDENT if STUDENT in checkpoint["models"] else TEACHER
    names = tuple(checkpoint["class_names"])
    columns = checkpoint.get("columns") or {"features": [], "beside": []}
    spec = checkpoint["models"].get(name)
    task = find_task(CLASSIFICATION if spec is None else spec.task)
    if settings.onnx is not None:
        if spec is None:
            raise UserError(f"{folder}: holds no model '{name}' (it has: {', '.join(sorted(checkpoint['models']))})")
        probabilities = open_onnx(Path(settings.onnx), names, spec.input_shape, name, task)
    else:
        model, spec = load_model(folder, name)
        probabilities = _from_model(model.to(device := choose_device(settings.runtime.device.name, None)), device, task)
    config = load_config(folder / layout.CONFIG)
    origin = f"{name} of run {named(folder)}, seed {layout.read_json(folder / layout.REPORT).get('seed')}"
    return Predictor(origin, config, names, columns["features"], columns["beside"], spec.input_shape, probabilities, task)


def _from_model(model: torch.nn.Module, device: torch.device, task: Task) -> Probabilities:
    @torch.no_grad()
    def probabilities(x: np.ndarray) -> np.ndarray:
        logits = task.forward(model, torch.from_numpy(x).to(device)).logits.float().cpu().numpy()
        return task.shown(logits)

    return probabilities


def open_onnx(path: Path, class_names: tuple[str, ...], shape: tuple[int, ...], model: str, task: Task) -> Probabilities:
    """Return the model of an ONNX file, run on the CPU.

    The model takes raw samples. Its output ``probabilities`` is used, or else ``logits``.

    Args:
        path: the file; ``class_names`` (a JSON list) and ``model`` in its metadata must equal those of the run and `model`.
        class_names: C class names of the run.
        shape: shape of one sample.
        model: name of the model in its run.
        task: turns logits into probabilities.

    Raises:
        UserError: onnxruntime is missing, the file cannot be read, or it has other classes, samples or another model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnx=: needs the package onnxruntime: pip install 'distill-cli[export]'") from None
    if not path.is_file():
        raise UserError(f"onnx={path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
        stored_names = json.loads(about.get("class_names", "null"))
    except Exception as e:  # onnxruntime raises errors of many kinds
        raise UserError(f"onnx={path}: not a readable ONNX file ({str(e).splitlines()[0]})") from None
    if stored_names is not None and stored_names != list(class_names):
        raise UserError(f"onnx={path}: its classes are {stored_names}, those of the run {list(class_names)}; give its run")
    if about.get("model", model) != model:
        raise UserError(f"onnx={path}: holds the run's '{about['model']}', not '{model}'; use model_name={about['model']}")
    first, outputs = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    if list(first.shape[1:]) != list(shape):
        raise UserError(f"onnx={path}: takes samples of shape {list(first.shape[1:])}, the run has {list(shape)}")
    output_name = next((name for name in ("probabilities", "logits") if name in outputs), outputs[0])

    def probabilities(x: np.ndarray) -> np.ndarray:
        (values,) = session.run([output_name], {first.name: x})
        return values if output_name == "probabilities" else task.shown(values)

    return probabilities
