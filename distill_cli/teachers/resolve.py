"""Where a run's teacher comes from: one that is trained, found or loaded, or several of them as an ensemble."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from distill_cli.config.validation.check import targets_in
from distill_cli.data.leakage import find_overlap, merge_records
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.metrics.classification import majority_problem
from distill_cli.models.classifier import PER_ELEMENT, Classifier
from distill_cli.models.ensemble import Ensemble
from distill_cli.runs.checkpoint import build_model, columns_of, model_spec, read_checkpoint
from distill_cli.runs.find_run import find_run
from distill_cli.tasks.registry import find_task
from distill_cli.teachers import external
from distill_cli.teachers.train import ResolvedTeacher, find_or_train, load_from_run
from distill_cli.types import Columns, Dataset
from distill_cli.utils import files

ENSEMBLE = f"{Ensemble.__module__}.{Ensemble.__name__}"
SUMMED = ("train_seconds", "steps")
PREPARED = {
    "none": "as they are (teacher.prepare=none)",
    "standardise": "less mean, over deviation of each channel or feature of the training rows here (teacher.prepare=standardise)",
    PER_ELEMENT: f"less mean, over deviation of each element of the training rows here (teacher.prepare={PER_ELEMENT})",
}


class TrainRun(Protocol):
    """Trains the teacher of a config into a run folder of its own, and returns the folder."""

    def __call__(self, cfg: Any, dataset: Dataset, context: RunContext, out: Path) -> Path:
        """Train into `out`."""
        ...


def resolve_teacher(cfg: Any, dataset: Dataset, context: RunContext, train_run: TrainRun) -> ResolvedTeacher:
    """Return the teacher that the config asks for, and refuse one that has seen the student's scored rows.

    Args:
        cfg: the composed config.
        dataset: the student's.
        context: of the student's run.
        train_run: trains a teacher into a run folder of its own.
    """
    node = cfg.teacher
    if not find_task(dataset.task).has_classes and "probabilities" in (node.average, node.outputs_kind):
        key = "average" if node.average == "probabilities" else "outputs_kind"
        raise UserError(f"teacher.{key}=probabilities: is for exclusive classes, and the task is {dataset.task}; use logits")
    if node.weights is not None:
        model, entry, reading = external.load_weights(node, dataset)
        members = [ResolvedTeacher(f"weights {node.weights}{reading}", model, entry)]
    elif node.outputs is not None:
        table = external.load_outputs(node, dataset, more_rows=cfg.dataset.get("unlabeled") is not None)
        members = [ResolvedTeacher(f"outputs {node.outputs}", None, {}, outputs=table)]
    elif node.checkpoint is not None:
        members = load_from_runs(node, targets_in(OmegaConf.to_container(cfg, resolve=True)))
    else:
        members = [find_or_train(member_config(cfg, k), dataset, context, train_run) for k in range(node.members)]
    for member in members:
        check_compatible(member, dataset)
        if member.train_record is not None and (met := find_overlap(member.train_record, dataset)):
            raise UserError(f"teacher ({member.origin}): {met}; train one on this split, or choose the split it was trained on")
    if node.weights is not None or node.outputs is not None:
        introduce(members[0], dataset, context)
    if len(members) == 1:
        return members[0]
    weights = None if node.member_weights is None else [float(w) for w in node.member_weights]
    return build_ensemble(members, node.average, weights, dataset)


def introduce(taught: ResolvedTeacher, dataset: Dataset, context: RunContext) -> None:
    """Print what is known of a teacher that came as weights or outputs, with its scores on validation."""
    prepared = f"; inputs: {PREPARED[taught.spec['prepare']]}" if taught.model is not None else ""
    context.progress.say(f"teacher: {taught.origin}{prepared}")
    logits = taught.logits(dataset.val, dataset, context)
    if logits is None:
        context.progress.say("warning: the teacher has no outputs for some rows of validation, so nobody knows how good it is")
        return
    task = find_task(dataset.task)
    scores = task.epoch_scores(logits, dataset.val, dataset)
    said = ", ".join(f"{metric.title} {scores[metric.name]:.3f}" for metric in task.metrics[:2])
    context.progress.say(f"teacher: {said} on validation")
    if task.has_classes and (problem := majority_problem(logits, dataset.val.y, len(dataset.class_names))):
        context.progress.say(f"warning: the teacher knows nothing of this data: on validation {problem}")


def load_from_runs(node: Any, also: Collection[str] = ()) -> list[ResolvedTeacher]:
    """Return the models of ``teacher.checkpoint``: one run folder, or a list of them; classes of `also` may be built.

    Raises:
        UserError: a folder that is no run, a model listed twice, or one whose training rows nobody knows in a list.
    """
    several = not isinstance(node.checkpoint, str)
    folders = list(node.checkpoint) if several else [node.checkpoint]
    names = [node.checkpoint_model] * len(folders) if isinstance(node.checkpoint_model, str) else list(node.checkpoint_model)
    found: list[tuple[Path, str]] = []
    members = []
    for n, (folder, name) in enumerate(zip(folders, names, strict=True)):
        option = f"teacher.checkpoint.{n}" if several else "teacher.checkpoint"
        place = find_run(folder, option)
        if (place.resolve(), name) in found:
            raise UserError(f"{option}={folder}: its {name} is a member already; let it count more by teacher.member_weights")
        found.append((place.resolve(), name))
        members.append(load_from_run(place, name, "checkpoint", also))
        if several and members[-1].train_record is None:
            raise UserError(
                f"{option}={folder}: its {name} came from foreign weights or outputs, whose training rows nobody knows; "
                "an ensemble is made of models that this tool trained"
            )
    return members


def teacher_columns(node: Any) -> Columns | None:
    """Return the names of the columns that the first model of ``teacher.checkpoint`` was trained on; None without one."""
    if node.checkpoint is None:
        return None
    several = not isinstance(node.checkpoint, str)
    folder, option = (node.checkpoint[0], "teacher.checkpoint.0") if several else (node.checkpoint, "teacher.checkpoint")
    return columns_of(read_checkpoint(find_run(folder, option)))


def member_config(cfg: Any, k: int) -> Any:
    """Return the config of the k-th member: one teacher, its seed k more, so that smaller and larger ensembles share members."""
    if cfg.teacher.members == 1:
        return cfg
    own = copy.deepcopy(cfg)
    own.teacher.seed, own.teacher.members, own.teacher.member_weights = cfg.teacher.seed + k, 1, None
    return own


def check_compatible(taught: ResolvedTeacher, dataset: Dataset) -> None:
    """Refuse a teacher that knows other classes, or takes samples of another shape.

    Raises:
        UserError: names both.
    """
    if not taught.spec:
        return
    shape, names = tuple(taught.spec["input_shape"]), taught.spec.get("class_names")
    if shape != dataset.input_shape:
        raise UserError(f"teacher ({taught.origin}): takes samples of shape {shape}, the data has {dataset.input_shape}")
    if taught.columns and dataset.columns and taught.columns.features != dataset.columns.features:
        raise UserError(
            f"teacher ({taught.origin}): its features are {', '.join(taught.columns.features)}, in this order; the data's are "
            f"{', '.join(dataset.columns.features)}; train one on this table"
        )
    if names is not None and list(names) != list(dataset.class_names):
        raise UserError(
            f"teacher ({taught.origin}): knows the classes {', '.join(names)}; the data has {', '.join(dataset.class_names)}"
        )


def build_ensemble(
    members: Sequence[ResolvedTeacher], average: str, weights: list[float] | None, dataset: Dataset
) -> ResolvedTeacher:
    """Return the ensemble of some teachers as one: its training rows are all of theirs, its cost is the sum of theirs."""
    entry = ensemble_entry(
        [{k: v for k, v in member.spec.items() if k != "file"} for member in members], average, weights, dataset
    )
    model = build_model(entry, "teacher")
    for k, member in enumerate(members):
        assert member.model is not None
        model.network.members[k].load_state_dict(member.model.state_dict())  # type: ignore[union-attr, index]
    keys = [member.key for member in members]
    return ResolvedTeacher(
        f"ensemble of {len(members)}: " + ", ".join(member.origin for member in members),
        model.eval(),
        entry,
        train_record=merge_records([member.train_record for member in members if member.train_record is not None]),
        training_stats={name: total(members, name) for name in SUMMED},
        key=None if None in keys else files.hash_json([ENSEMBLE, keys, average, weights]),
        members=tuple(replace(member, model=None) for member in members),
    )


def ensemble_entry(
    members: Sequence[Mapping[str, Any]], average: str, weights: list[float] | None, dataset: Dataset
) -> dict[str, Any]:
    """Return what it takes to build the ensemble of models that are built by these entries."""
    return {
        "model": {"_target_": ENSEMBLE, "average": average, "weights": weights},
        "members": list(members),
        "prepare": "none",  # each member has its own
        "num_classes": len(dataset.class_names),
        "input_shape": list(dataset.input_shape),
        "class_names": list(dataset.class_names),
    }


def build_untrained_teacher(node: Any, dataset: Dataset) -> Classifier:
    """Return the teacher, or the ensemble, that the config would train, with fresh weights."""
    entry = model_spec(node.model, node.prepare, dataset)
    if node.members == 1:
        return build_model(entry, "teacher.model", node.seed)
    return build_model(ensemble_entry([entry] * node.members, node.average, None, dataset), "teacher.model", node.seed)


def total(members: Sequence[ResolvedTeacher], figure: str) -> float | None:
    """Return the sum of a figure over the members, or None where one does not know it."""
    values = [member.training_stats.get(figure) for member in members]
    return None if None in values else sum(values)  # type: ignore[arg-type]
