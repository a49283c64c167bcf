"""Models from config entries, and the checkpoint of a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.ownership import is_own
from distill_cli.config.settings.build import Component
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
# Checks of the keys of a model's record in model.json, which may come from an untrusted source.
SPEC_CHECKS: dict[str, Callable[[Any], bool]] = {
    "model": lambda v: isinstance(v, dict) and "_target_" in v,
    "preprocessing": lambda v: isinstance(v, str),
    "num_classes": lambda v: _is_size(v),
    "input_shape": lambda v: isinstance(v, list) and len(v) > 0 and all(_is_size(n) for n in v),
}


def _is_order(value: Any, classes: int) -> bool:
    return value is None or (
        isinstance(value, list) and all(type(v) is int for v in value) and sorted(value) == list(range(classes))
    )


def _is_offset(value: Any, classes: int) -> bool:
    numbers = isinstance(value, list) and all(type(v) in (int, float) and math.isfinite(v) for v in value)
    return value is None or (numbers and len(value) == classes)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


@dataclass(frozen=True)
class ModelSpec:
    """All that it takes to build a model again.

    Attributes:
        model: class and arguments of the network.
        preprocessing: of its inputs.
        num_classes: C.
        input_shape: of one sample.
        class_order: C numbers of the network's outputs in the order of the data's classes; None: in that order already.
        logit_offset: C numbers that are added to its logits; None: none.
        members: of an ensemble.
        task: name of the task that it learned.
    """

    model: Component
    preprocessing: str
    num_classes: int
    input_shape: tuple[int, ...]
    class_order: tuple[int, ...] | None = None
    logit_offset: tuple[float, ...] | None = None
    members: tuple[ModelSpec, ...] = ()
    task: str = CLASSIFICATION

    @classmethod
    def of_data(cls, model: Component, preprocessing: str | None, dataset: Dataset) -> ModelSpec:
        """Return the specification of a network for a data set.

        It has the data set's preprocessing where it has none of its own.
        """
        return cls(
            dict(model),
            preprocessing or dataset.default_preprocessing,
            len(dataset.class_names),
            tuple(dataset.input_shape),
            task=dataset.task,
        )

    @classmethod
    def from_json(cls, record: Any, path: str) -> ModelSpec:
        """Read a model's record in model.json, which anyone may have written.

        Args:
            record: what stands there.
            path: where it stands, for messages: ``run/model.json: student``.

        Raises:
            UserError: it lacks a key, or holds something else under one.
        """
        lacking = [key for key, sound in SPEC_CHECKS.items() if not isinstance(record, dict) or not sound(record.get(key))]
        if lacking:
            raise UserError(f"{path} has no usable '{lacking[0]}'; the file is damaged")
        classes, order, offset, members = record["num_classes"], *(record.get(key) for key in ("order", "offset", "members"))
        if not _is_order(order, classes):
            raise UserError(f"{path} has an order that is none of {classes} classes; the file is damaged")
        if not _is_offset(offset, classes):
            raise UserError(f"{path} has an offset that is no list of {classes} numbers; the file is damaged")
        if not isinstance(members, list | None):
            raise UserError(f"{path} has no usable 'members'; the file is damaged")
        task = CLASSIFICATION if record.get("task") is None else str(record["task"])
        find_task(task)
        return cls(
            record["model"],
            record["preprocessing"],
            classes,
            tuple(record["input_shape"]),
            None if order is None else tuple(order),
            None if offset is None else tuple(offset),
            tuple(cls.from_json(member, f"{path}.members.{n}") for n, member in enumerate(members or ())),
            task,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record in model.json."""
        record: dict[str, Any] = {
            "model": dict(self.model),
            "preprocessing": self.preprocessing,
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape),
            "task": self.task,
        }
        if self.class_order is not None:
            record["order"] = list(self.class_order)
        if self.logit_offset is not None:
            record["offset"] = list(self.logit_offset)
        if self.members:
            record["members"] = [member.to_json() for member in self.members]
        return record


def build_model(spec: ModelSpec, where: str, seed: int = 0) -> Classifier:
    """Build a model with fresh weights, and try it on zeros.

    Args:
        spec: what to build.
        where: the config path of its network, for messages.
        seed: of the weights.

    Raises:
        UserError: the network cannot be built, cannot take the data's samples, has the wrong number of outputs, or holds
            state that a file of weights cannot.
    """
    facts = zip(FACTS, (spec.num_classes, spec.input_shape), strict=True)
    passed: dict[str, Any] = {key: value for key, value in facts if spec.model.get(key) is None}
    if spec.members:
        passed["members"] = [build_model(member, f"{where}.members.{n}", seed) for n, member in enumerate(spec.members)]
    component = {key: value for key, value in spec.model.items() if key not in passed}
    with seeded(seed, "init"):
        model = _build(component, where, passed, spec)
        _dry_run(model, spec, where)  # in the stream: lazy layers draw their weights at the first batch
    _check_state(model, where)
    return model


def _build(component: Component, where: str, passed: Mapping[str, Any], spec: ModelSpec) -> Classifier:
    try:
        network = instantiate_component(component, where, **passed)
    except UserError as e:
        raise UserError(f"{e}{channels_last(spec.input_shape)}") from None
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{where}._target_={component.get('_target_')}: returned {type(network).__name__}, expected a torch.nn.Module"
        )
    if spec.class_order is not None:
        network = ReorderClasses(network, spec.class_order)
    if spec.logit_offset is not None:
        network = LogitOffset(network, spec.logit_offset)
    try:
        return Classifier(network, spec.preprocessing, spec.input_shape)
    except ValueError as e:
        raise UserError(f"{where.removesuffix('.model')}.{e}") from None


@torch.no_grad()
def _dry_run(model: Classifier, spec: ModelSpec, where: str) -> None:
    shape, classes, task = spec.input_shape, spec.num_classes, find_task(spec.task)
    model.eval()
    try:
        problem = task.check_model(model, shape, classes)
    except Exception as e:  # user code may raise anything
        why = (str(e).splitlines() or [""])[0] or type(e).__name__
        raise UserError(
            f"{where}: this network cannot take the data's samples of shape {shape}: {why}{channels_last(shape)}"
        ) from None
    if problem:
        raise UserError(
            f"{where}: {problem}, the data has {classes} {task.parts}; leave {where}.num_classes out to follow the data"
        )


def channels_last(shape: Sequence[int]) -> str:
    """Return a hint for messages where samples look like ``[H, W, C]``, else ""."""
    if not has_channels_last(shape):
        return ""
    return f"; channels last? images are [channels, height, width], here {[shape[2], shape[0], shape[1]]}"


def _check_state(model: Classifier, where: str) -> None:
    """Check that a file of weights can hold the whole state of a model.

    Why: the check runs before the training does.

    Raises:
        UserError: names the value that a file of weights cannot hold.
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


def architecture_section(spec: ModelSpec) -> dict[str, Any]:
    """Return the report's `architecture`: class and arguments, also of members."""
    arguments = {key: value for key, value in spec.model.items() if not key.startswith("_")}
    about = {"target": spec.model.get("_target_"), "arguments": arguments}
    return about | ({"members": [architecture_section(member) for member in spec.members]} if spec.members else {})


class Checkpoint:
    """The models of a run folder: weights as safetensors, the rest in model.json.

    Args:
        folder: run folder.
        class_names: C names in class order.
        columns: column names of the training table; None: it has none.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...], columns: Columns | None = None) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {"schema_version": 1, "class_names": list(class_names), "models": {}}
        if columns is not None:
            self.content["columns"] = {"features": list(columns.features), "beside": list(columns.metadata)}

    def add(self, name: str, model: nn.Module, spec: ModelSpec) -> None:
        """Write one model's weights, then model.json with all models so far."""
        layout.save_model(self.folder, name, model)
        file = layout.weights_file(self.folder, name)
        self.content["models"][name] = {**spec.to_json(), "file": file.name}
        write_json(self.folder / layout.MODELS, self.content)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the content of a run folder's model.json, checked.

    The classes that an entry names are checked by `load_model`.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / layout.MODELS
    content = layout.read_json(path)
    models = content.get("models")
    if not isinstance(models, dict) or not all(isinstance(record, dict) for record in models.values()):
        raise UserError(f"{path}: holds no models; the file is damaged")
    names = content.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: class_names is no list of names; the file is damaged")
    columns = content.get("columns")
    if columns is not None and not _are_columns(columns):
        raise UserError(f"{path}: columns holds no lists of names; the file is damaged")
    content["models"] = {name: ModelSpec.from_json(record, f"{path}: {name}") for name, record in models.items()}
    for name, spec in content["models"].items():
        if spec.logit_offset is not None and len(spec.logit_offset) != len(names):
            raise UserError(f"{path}: {name} has an offset that is no list of {len(names)} numbers; the file is damaged")
    return content


def columns_of(checkpoint: Mapping[str, Any]) -> Columns | None:
    """Return the column names in a checked model.json, or None."""
    columns = checkpoint.get("columns")
    return None if columns is None else Columns(tuple(columns["features"]), tuple(columns["beside"]))


def _are_columns(value: Any) -> bool:
    parts = [value.get(key) for key in ("features", "beside")] if isinstance(value, dict) else [None]
    return all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts)


def load_model(folder: Path, name: str, also: Collection[str] = ()) -> tuple[Classifier, ModelSpec]:
    """Return a run folder's model with its weights, in eval mode, and its entry.

    Args:
        folder: run folder.
        name: name of the model.
        also: classes that may be built in addition to the trusted ones.

    Raises:
        UserError: the model does not exist, is untrusted or damaged, or its weights have another architecture.
    """
    models = read_checkpoint(folder)["models"]
    if name not in models:
        raise UserError(f"{folder}: holds no model '{name}' (it has: {', '.join(sorted(models)) or 'none'})")
    spec, where, file = models[name], f"{folder / layout.MODELS}: {name}.model", layout.weights_file(folder, name)
    check_trusted(spec.to_json(), f"{folder / layout.MODELS}: {name}", also, own=is_own(folder))
    tensors = layout.read_tensors(file)
    if (sketch := _build_on_meta(spec, where)) is not None:
        layout.check_weights(sketch, tensors, str(file))
    try:
        model = build_model(spec, where)
    except (RuntimeError, MemoryError, OverflowError) as e:
        raise UserError(
            f"{folder / layout.MODELS}: {name} cannot be built ({str(e).splitlines()[0]}); the file is damaged"
        ) from None
    layout.load_weights(model, tensors, str(file))
    return model.eval(), spec


def _build_on_meta(spec: ModelSpec, where: str) -> Classifier | None:
    """Build a model on the meta device.

    Why: a model larger than its weights is refused without using memory.

    Why: an entry that asks for more memory than its weights hold is rejected before any is allocated. Errors in it are
    reported when the model is built.
    """
    try:
        with torch.device("meta"):
            return build_model(spec, where)
    except Exception:
        return None
