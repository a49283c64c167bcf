"""Config -> models, and models <-> a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.ownership import is_own
from distill_cli.config.validation.check import check_trusted
from distill_cli.errors import UserError
from distill_cli.models.classifier import Classifier, LogitOffset, ReorderClasses
from distill_cli.rng import seeded
from distill_cli.runs import layout
from distill_cli.tasks.registry import CLASSIFICATION, find_task
from distill_cli.types import Columns, Dataset, has_channels_last
from distill_cli.utils.files import write_json

FACTS = ("num_classes", "input_shape")
LARGEST = 1 << 24
# What an entry of model.json must hold, as a stranger may have written it.
SPEC_CHECKS: dict[str, Callable[[Any], bool]] = {
    "model": lambda v: isinstance(v, dict) and "_target_" in v,
    "prepare": lambda v: isinstance(v, str),
    "num_classes": lambda v: _is_size(v),
    "input_shape": lambda v: isinstance(v, list) and len(v) > 0 and all(_is_size(n) for n in v),
}


def _is_order(value: Any, classes: int) -> bool:
    return value is None or (
        isinstance(value, list) and all(type(v) is int for v in value) and sorted(value) == list(range(classes))
    )


def _is_offset(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(type(v) in (int, float) and math.isfinite(v) for v in value))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def model_spec(node: Mapping[str, Any], prepare: str | None, dataset: Dataset) -> dict[str, Any]:
    """Return all that it takes to build a model again: the body of its entry in model.json."""
    return {
        "model": OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else dict(node),
        "prepare": prepare or dataset.default_preprocessing,
        "num_classes": len(dataset.class_names),
        "input_shape": list(dataset.input_shape),
        "task": dataset.task,
    }


def build_model(entry: Mapping[str, Any], where: str, seed: int = 0) -> Classifier:
    """Build a model with fresh weights from stream ``init`` of the seed, and try it on zeros.

    Args:
        entry: what `architecture` returned; of an ensemble, with such an entry for each of its `members`.
        where: the config path of its network, for messages.
        seed: of the weights.

    Raises:
        UserError: the network cannot be built, cannot take the data's samples, has the wrong number of outputs, or keeps what
            a file of weights cannot hold.
    """
    shape, classes = tuple(entry["input_shape"]), int(entry["num_classes"])
    node = dict(entry["model"])
    given: dict[str, Any] = {k: v for k, v in zip(FACTS, (classes, shape), strict=True) if node.get(k) is None}
    if entry.get("members"):
        given["members"] = [build_model(member, f"{where}.members.{n}", seed) for n, member in enumerate(entry["members"])]
    node = {k: v for k, v in node.items() if k not in given}
    with seeded(seed, "init"):
        model = _build(node, where, given, entry)
        _dry_run(model, entry, where)  # in the stream: lazy layers draw their weights at the first batch
    _check_state(model, where)
    return model


def _build(node: Mapping[str, Any], where: str, given: Mapping[str, Any], entry: Mapping[str, Any]) -> Classifier:
    try:
        network = instantiate_component(node, where, **given)
    except UserError as e:
        raise UserError(f"{e}{channels_last(entry['input_shape'])}") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"{where}._target_={node.get('_target_')}: returned {type(network).__name__}, expected a torch.nn.Module")
    if entry.get("order") is not None:
        network = ReorderClasses(network, entry["order"])
    if entry.get("offset") is not None:
        network = LogitOffset(network, entry["offset"])
    try:
        return Classifier(network, entry["prepare"], tuple(entry["input_shape"]))
    except ValueError as e:
        raise UserError(f"{where.removesuffix('.model')}.{e}") from None


@torch.no_grad()
def _dry_run(model: Classifier, entry: Mapping[str, Any], where: str) -> None:
    shape, classes, task = tuple(entry["input_shape"]), int(entry["num_classes"]), find_task(entry.get("task", CLASSIFICATION))
    model.eval()
    try:
        problem = task.check_model(model, shape, classes)
    except Exception as e:  # whatever a network of somebody else's raises
        why = (str(e).splitlines() or [""])[0] or type(e).__name__
        raise UserError(
            f"{where}: this network cannot take the data's samples of shape {shape}: {why}{channels_last(shape)}"
        ) from None
    if problem:
        raise UserError(
            f"{where}: {problem}, the data has {classes} {task.parts}; leave {where}.num_classes out to follow the data"
        )


def channels_last(shape: Sequence[int]) -> str:
    """Return a question to end a message with where samples look like images ``[H, W, C]``; else nothing."""
    if not has_channels_last(shape):
        return ""
    return f"; channels last? images are [channels, height, width], here {[shape[2], shape[0], shape[1]]}"


def _check_state(model: Classifier, where: str) -> None:
    """See that a file of weights can hold all that a model is: before hours go into its training.

    Raises:
        UserError: names what it cannot hold.
    """
    for name, value in model.state_dict(keep_vars=True).items():
        short = name.removeprefix("network.")
        if not isinstance(value, Tensor):
            raise UserError(
                f"{where}: '{short}' is a {type(value).__name__} (get_extra_state), and a file of weights holds tensors alone; "
                "make it an argument of the network, or a buffer"
            )
        if is_lazy(value):
            raise UserError(f"{where}: '{short}' is of a lazy layer that the network never calls; take the layer out")
        if value.layout != torch.strided or value.is_quantized:
            raise UserError(
                f"{where}: '{short}' is no dense tensor, and a file of weights holds dense ones alone; use a dense one"
            )
        if not value.is_leaf:
            raise UserError(
                f"{where}: '{short}' is computed from parameters when the network is built, so that training would leave it "
                "behind; compute it in forward()"
            )


def architecture_section(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report's `architecture`: class and arguments, and those of an ensemble's members."""
    node = entry["model"]
    about = {"target": node.get("_target_"), "arguments": {k: v for k, v in node.items() if not k.startswith("_")}}
    return about | ({"members": [architecture_section(member) for member in entry["members"]]} if entry.get("members") else {})


class Checkpoint:
    """The models of a run folder: weights as safetensors, everything else in model.json.

    Args:
        folder: the run folder.
        class_names: in class order.
        columns: of the table that the models are trained on, where they have names.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...], columns: Columns | None = None) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {"schema_version": 1, "class_names": list(class_names), "models": {}}
        if columns is not None:
            self.content["columns"] = {"features": list(columns.features), "beside": list(columns.metadata)}

    def add(self, name: str, model: nn.Module, entry: Mapping[str, Any]) -> None:
        """Write one model's weights, then model.json with all models so far."""
        layout.save_model(self.folder, name, model)
        file = layout.weights_file(self.folder, name)
        self.content["models"][name] = {**entry, "file": file.name}
        write_json(self.folder / layout.MODELS, self.content)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a run folder's model.json and see that it is sound; `load_model` checks what the model that it builds names."""
    path = folder / layout.MODELS
    content = layout.read_json(path)
    models = content.get("models")
    if not isinstance(models, dict) or not all(isinstance(entry, dict) for entry in models.values()):
        raise UserError(f"{path}: holds no models; the file is damaged")
    names = content.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: class_names is no list of names; the file is damaged")
    columns = content.get("columns")
    if columns is not None and not _are_columns(columns):
        raise UserError(f"{path}: columns holds no lists of names; the file is damaged")
    for name, entry in models.items():
        _check_sound(entry, f"{path}: {name}")
        if not _is_offset(entry.get("offset")) or len(entry.get("offset") or names) != len(names):
            raise UserError(f"{path}: {name} has an offset that is no list of {len(names)} numbers; the file is damaged")
    return content


def columns_of(checkpoint: Mapping[str, Any]) -> Columns | None:
    """Return the names of the columns that the models of a checked model.json were trained on; None where there are none."""
    columns = checkpoint.get("columns")
    return None if columns is None else Columns(tuple(columns["features"]), tuple(columns["beside"]))


def _are_columns(value: Any) -> bool:
    parts = [value.get(key) for key in ("features", "beside")] if isinstance(value, dict) else [None]
    return all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts)


def _check_sound(entry: Any, where: str) -> None:
    if not isinstance(entry, dict) or (lacking := [key for key, sound in SPEC_CHECKS.items() if not sound(entry.get(key))]):
        raise UserError(f"{where} has no usable '{lacking[0] if isinstance(entry, dict) else 'model'}'; the file is damaged")
    if (task := entry.get("task")) is not None:
        find_task(str(task))
    if not _is_order(entry.get("order"), entry["num_classes"]):
        raise UserError(f"{where} has an order that is none of {entry['num_classes']} classes; the file is damaged")
    members = entry.get("members", [])
    if not isinstance(members, list):
        raise UserError(f"{where} has no usable 'members'; the file is damaged")
    for n, member in enumerate(members):
        _check_sound(member, f"{where}.members.{n}")


def load_model(folder: Path, name: str, also: Collection[str] = ()) -> tuple[Classifier, dict[str, Any]]:
    """Build a run folder's model again, with its weights.

    Args:
        folder: the run's.
        name: of the model.
        also: classes that may be built beside the trusted ones.

    Raises:
        UserError: no such model there, untrusted, damaged, or weights of another architecture.
    """
    models = read_checkpoint(folder)["models"]
    if name not in models:
        raise UserError(f"{folder}: holds no model '{name}' (it has: {', '.join(sorted(models)) or 'none'})")
    entry, where, file = models[name], f"{folder / layout.MODELS}: {name}.model", layout.weights_file(folder, name)
    check_trusted(entry, f"{folder / layout.MODELS}: {name}", also, own=is_own(folder))
    tensors = layout.read_tensors(file)
    if (sketch := _build_on_meta(entry, where)) is not None:
        layout.check_weights(sketch, tensors, str(file))
    try:
        model = build_model(entry, where)
    except (RuntimeError, MemoryError, OverflowError) as e:
        raise UserError(
            f"{folder / layout.MODELS}: {name} cannot be built ({str(e).splitlines()[0]}); the file is damaged"
        ) from None
    layout.load_weights(model, tensors, str(file))
    return model.eval(), entry


def _build_on_meta(entry: Mapping[str, Any], where: str) -> Classifier | None:
    """Build a model without its memory: an entry that asks for more than its weights hold is then refused at no cost.

    None where that cannot be done; what is wrong with the entry is said when it is built.
    """
    try:
        with torch.device("meta"):
            return build_model(entry, where)
    except Exception:
        return None
