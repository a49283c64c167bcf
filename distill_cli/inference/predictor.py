"""What predicts: a model of a finished run, from its checkpoint or from an exported ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
    """A model and what is known of its inputs.

    Attributes:
        origin: in words, which model of which run it is.
        config: the run's resolved config, as a stranger may have written it.
        class_names: C names in class order.
        features, beside: names of the columns of the table that it was trained on, and of its label and group; or none.
        shape: of one sample.
        probabilities: the model.
        task: what it has learned.
    """

    origin: str
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    features: list[str]
    beside: list[str]
    shape: tuple[int, ...]
    probabilities: Probabilities
    task: Task

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The run's data set, as its config names it."""
        node = self.config.get("dataset")
        return node if isinstance(node, Mapping) else {}

    @property
    def batch_size(self) -> int:
        """Rows at once when the run was scored."""
        chunk = self.config.get("eval_batch_size")
        return chunk if type(chunk) is int and chunk >= 1 else USUAL_CHUNK


def open_predictor(cfg: Any) -> Predictor:
    """Open ``cfg.checkpoint_model`` of the run ``cfg.run``, or ``cfg.onnx`` in its place.

    Raises:
        UserError: no such run, model or file; one that is damaged, not trusted, or of another run.
    """
    folder = find_run(cfg.run, "run")
    checkpoint = read_checkpoint(folder)
    name = cfg.checkpoint_model if cfg.checkpoint_model is not None else STUDENT if STUDENT in checkpoint["models"] else TEACHER
    names = tuple(checkpoint["class_names"])
    columns = checkpoint.get("columns") or {"features": [], "beside": []}
    task = find_task(checkpoint["models"].get(name, {}).get("task", CLASSIFICATION))
    if cfg.onnx is not None:
        entry = checkpoint["models"].get(name)
        if entry is None:
            raise UserError(f"{folder}: holds no model '{name}' (it has: {', '.join(sorted(checkpoint['models']))})")
        probabilities = open_onnx(Path(cfg.onnx), names, tuple(entry["input_shape"]), name, task)
    else:
        model, entry = load_model(folder, name)
        probabilities = _from_model(model.to(device := choose_device(cfg.device.name, None)), device, task)
    config = load_config(folder / layout.CONFIG)
    origin = f"{name} of run {named(folder)}, seed {layout.read_json(folder / layout.REPORT).get('seed')}"
    return Predictor(
        origin, config, names, columns["features"], columns["beside"], tuple(entry["input_shape"]), probabilities, task
    )


def _from_model(model: torch.nn.Module, device: torch.device, task: Task) -> Probabilities:
    @torch.no_grad()
    def probabilities(x: np.ndarray) -> np.ndarray:
        logits = task.forward(model, torch.from_numpy(x).to(device)).logits.float().cpu().numpy()
        return task.shown(logits)

    return probabilities


def open_onnx(path: Path, class_names: tuple[str, ...], shape: tuple[int, ...], model: str, task: Task) -> Probabilities:
    """Return the model of an ONNX file on the CPU, which takes raw samples; its output ``probabilities`` is used, or ``logits``.

    Args:
        path: the file; ``class_names`` (a JSON list) and ``model`` in its metadata are held against the run and `model`.
        class_names: of the run.
        shape: of one sample.
        model: the name of the model in its run.
        task: turns logits into probabilities.

    Raises:
        UserError: onnxruntime is missing, the file cannot be read, or it is of other classes, samples or of another model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnx=: needs the package onnxruntime: pip install 'distill-cli[export]'") from None
    if not path.is_file():
        raise UserError(f"onnx={path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
        told = json.loads(about.get("class_names", "null"))
    except Exception as e:  # onnxruntime raises errors of many kinds
        raise UserError(f"onnx={path}: not a readable ONNX file ({str(e).splitlines()[0]})") from None
    if told is not None and told != list(class_names):
        raise UserError(f"onnx={path}: its classes are {told}, those of the run {list(class_names)}; give its run")
    if about.get("model", model) != model:
        raise UserError(f"onnx={path}: holds the run's '{about['model']}', not '{model}'; use checkpoint_model={about['model']}")
    first, outputs = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    if list(first.shape[1:]) != list(shape):
        raise UserError(f"onnx={path}: takes samples of shape {list(first.shape[1:])}, the run has {list(shape)}")
    wanted = next((name for name in ("probabilities", "logits") if name in outputs), outputs[0])

    def probabilities(x: np.ndarray) -> np.ndarray:
        (values,) = session.run([wanted], {first.name: x})
        return values if wanted == "probabilities" else task.shown(values)

    return probabilities
