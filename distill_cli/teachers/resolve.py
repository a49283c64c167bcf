"""Selection of a run's teacher.

It is trained, looked up or loaded, or is an ensemble of several.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.teacher import EnsembleSettings, FromLogits, FromRuns, FromWeights, TeacherSettings
from distill_cli.config.trust import targets_in
from distill_cli.data.leakage import find_overlap, merge_records
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.metrics.classification import majority_problem
from distill_cli.models.classifier import PER_ELEMENT, Classifier
from distill_cli.models.ensemble import Ensemble
from distill_cli.runs.checkpoint import ModelSpec, build_model, columns_of, read_checkpoint
from distill_cli.runs.find_run import find_run
from distill_cli.tasks.registry import find_task
from distill_cli.tasks.task import Task
from distill_cli.teachers import external
from distill_cli.teachers.train import ResolvedTeacher, TrainRun, find_or_train, load_from_run
from distill_cli.types import Columns, Dataset
from distill_cli.utils import files

ENSEMBLE = f"{Ensemble.__module__}.{Ensemble.__name__}"
SUMMED = ("train_seconds", "steps")
PREPARED = {
    "none": "as they are (teacher.preprocessing=none)",
    "standardize": "less mean, over deviation of each channel or feature of the training rows here "
    "(teacher.preprocessing=standardize)",
    PER_ELEMENT: f"less mean, over deviation of each element of the training rows here (teacher.preprocessing={PER_ELEMENT})",
}


def resolve_teacher(settings: RunSettings, dataset: Dataset, context: RunContext, train_run: TrainRun) -> ResolvedTeacher:
    """Return the teacher that the settings ask for.

    One that has seen the student's scored rows is refused.

    Args:
        settings: of the student's run.
        dataset: the student's.
        context: of the student's run.
        train_run: trains a teacher into a run folder of its own.
    """
    check_average(settings.teacher, find_task(dataset.task))
    members = load_members(settings, dataset, context, train_run)
    for member in members:
        check_compatible(member, dataset)
        if member.train_record is not None and (met := find_overlap(member.train_record, dataset)):
            raise UserError(f"teacher ({member.origin}): {met}; train one on this split, or choose the split it was trained on")
    teacher = settings.teacher
    if isinstance(teacher.source, FromWeights | FromLogits):
        introduce(members[0], dataset, context)
    return members[0] if len(members) == 1 else build_ensemble(members, teacher.ensemble, dataset)


def check_average(teacher: TeacherSettings, task: Task) -> None:
    """Check that the task has probabilities of classes where the teacher's are used.

    Raises:
        UserError: probabilities of a task without exclusive classes.
    """
    kinds = {"logits_kind": teacher.source.kind} if isinstance(teacher.source, FromLogits) else {}
    for key, value in {"ensemble.average": teacher.ensemble.average, **kinds}.items():
        if value == "probabilities" and not task.has_classes:
            raise UserError(f"teacher.{key}=probabilities: is for exclusive classes, and the task is {task.name}; use logits")


def load_members(settings: RunSettings, dataset: Dataset, context: RunContext, train_run: TrainRun) -> list[ResolvedTeacher]:
    """Return the teacher, or the members of its ensemble, from where the settings say."""
    source = settings.teacher.source
    if isinstance(source, FromWeights):
        model, spec, reading = external.load_weights(source, dataset)
        return [ResolvedTeacher(f"weights {source.file}{reading}", model, spec)]
    if isinstance(source, FromLogits):
        table = external.load_outputs(source, dataset, more_rows=settings.dataset.rows.unlabeled is not None)
        return [ResolvedTeacher(f"logits_file {source.file}", None, None, outputs=table)]
    if isinstance(source, FromRuns):
        return load_from_runs(source, targets_in(settings.resolved))
    return [find_or_train(settings.for_member(n), dataset, context, train_run) for n in range(len(source))]


def introduce(teacher: ResolvedTeacher, dataset: Dataset, context: RunContext) -> None:
    """Print origin and validation scores of an external teacher.

    Such a teacher came as weights or outputs.
    """
    prepared = f"; inputs: {PREPARED[teacher.spec.preprocessing]}" if teacher.spec is not None else ""
    context.progress.say(f"teacher: {teacher.origin}{prepared}")
    logits = teacher.logits(dataset.val, dataset, context)
    if logits is None:
        context.progress.say("warning: the teacher has no outputs for some rows of validation, so nobody knows how good it is")
        return
    task = find_task(dataset.task)
    scores = task.epoch_scores(logits, dataset.val, dataset)
    text = ", ".join(f"{metric.title} {scores[metric.name]:.3f}" for metric in task.metrics[:2])
    context.progress.say(f"teacher: {text} on validation")
    if task.has_classes and (problem := majority_problem(logits, dataset.val.y, len(dataset.class_names))):
        context.progress.say(f"warning: the teacher knows nothing of this data: on validation {problem}")


def load_from_runs(source: FromRuns, also: Collection[str] = ()) -> list[ResolvedTeacher]:
    """Return the models of ``teacher.run``.

    Classes of `also` may be built.

    Raises:
        UserError: a folder that is no run, a model listed twice, or one whose training rows nobody knows in a list.
    """
    places: list[tuple[Path, str]] = []
    members = []
    for model in source.models:
        option = f"{model.config_path}={model.folder}"
        place = find_run(model.folder, model.config_path)
        if (place.resolve(), model.name) in places:
            raise UserError(f"{option}: its {model.name} is a member already; let it count more by teacher.ensemble.weights")
        places.append((place.resolve(), model.name))
        members.append(load_from_run(place, model.name, "run", also))
        if source.listed and members[-1].train_record is None:
            raise UserError(
                f"{option}: its {model.name} came from foreign weights or outputs, whose training rows nobody knows; "
                "an ensemble is made of models that this tool trained"
            )
    return members


def teacher_columns(teacher: TeacherSettings) -> Columns | None:
    """Return the column names of the first model of ``teacher.run``.

    They are those that it was trained on; None without one.
    """
    if not isinstance(teacher.source, FromRuns):
        return None
    first = teacher.source.models[0]
    return columns_of(read_checkpoint(find_run(first.folder, first.config_path)))


def check_compatible(teacher: ResolvedTeacher, dataset: Dataset) -> None:
    """Refuse a teacher that knows other classes, or takes samples of another shape.

    Raises:
        UserError: names both.
    """
    if teacher.spec is None:
        return
    shape, names = teacher.spec.input_shape, teacher.class_names
    if shape != dataset.input_shape:
        raise UserError(f"teacher ({teacher.origin}): takes samples of shape {shape}, the data has {dataset.input_shape}")
    if teacher.columns and dataset.columns and teacher.columns.features != dataset.columns.features:
        raise UserError(
            f"teacher ({teacher.origin}): its features are {', '.join(teacher.columns.features)}, in this order; the data's are "
            f"{', '.join(dataset.columns.features)}; train one on this table"
        )
    if names is not None and names != tuple(dataset.class_names):
        raise UserError(
            f"teacher ({teacher.origin}): knows the classes {', '.join(names)}; the data has {', '.join(dataset.class_names)}"
        )


def build_ensemble(members: Sequence[ResolvedTeacher], ensemble: EnsembleSettings, dataset: Dataset) -> ResolvedTeacher:
    """Return the ensemble of some teachers as one teacher.

    Its training rows are all of theirs, its cost is the sum of theirs.
    """
    specs = [member.spec for member in members if member.spec is not None]
    spec = ensemble_spec(specs, ensemble, dataset)
    model = build_model(spec, "teacher")
    for k, member in enumerate(members):
        assert member.model is not None
        model.network.members[k].load_state_dict(member.model.state_dict())  # type: ignore[union-attr, index]
    keys = [member.key for member in members]
    return ResolvedTeacher(
        f"ensemble of {len(members)}: " + ", ".join(member.origin for member in members),
        model.eval(),
        spec,
        train_record=merge_records([member.train_record for member in members if member.train_record is not None]),
        training_stats={name: total(members, name) for name in SUMMED},
        key=None if None in keys else files.hash_json([ENSEMBLE, keys, ensemble.average, spec.model["weights"]]),
        members=tuple(replace(member, model=None) for member in members),
    )


def ensemble_spec(members: Sequence[ModelSpec], ensemble: EnsembleSettings, dataset: Dataset) -> ModelSpec:
    """Return the specification of an ensemble.

    Each member has a preprocessing of its own.
    """
    weights = None if ensemble.weights is None else [float(weight) for weight in ensemble.weights]
    model = {"_target_": ENSEMBLE, "average": ensemble.average, "weights": weights}
    return replace(ModelSpec.of_data(model, "none", dataset), members=tuple(members))


def build_untrained_teacher(teacher: TeacherSettings, dataset: Dataset) -> Classifier:
    """Build the teacher of the settings with fresh weights.

    It is a single model or an ensemble.
    """
    spec = ModelSpec.of_data(teacher.model.model, teacher.model.preprocessing, dataset)
    if isinstance(teacher.source, tuple) and len(teacher.source) > 1:
        spec = ensemble_spec([spec] * len(teacher.source), replace(teacher.ensemble, weights=None), dataset)
    return build_model(spec, "teacher.model", teacher.seed)


def total(members: Sequence[ResolvedTeacher], figure: str) -> float | None:
    """Return the sum of a figure over the members, or None where one does not know it."""
    values = [member.training_stats.get(figure) for member in members]
    return None if None in values else sum(values)  # type: ignore[arg-type]
