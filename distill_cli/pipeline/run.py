"""The three commands' work: config -> a finished run folder and its report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill_cli import RECIPE_VERSION, runs
from distill_cli.cost import measure
from distill_cli.data.leakage import remember, unite
from distill_cli.engine import predict
from distill_cli.models.classifier import Classifier, Shifted
from distill_cli.pipeline import bias, chain, controls, folder, members, scoring, search, teacher
from distill_cli.pipeline.context import Context, Job, make_context
from distill_cli.pipeline.data import TransferSet, describe, load_dataset, transfer_set
from distill_cli.pipeline.models import Checkpoint, architecture, build_model, described
from distill_cli.pipeline.obtain import obtain
from distill_cli.pipeline.search import Search
from distill_cli.pipeline.sound import check_sound
from distill_cli.pipeline.stages import pairs_of
from distill_cli.pipeline.stages import parts as stages_of
from distill_cli.pipeline.teaching import Lesson, as_teachers
from distill_cli.pipeline.terms import stages_section
from distill_cli.pipeline.training import fit, uses_teacher
from distill_cli.provenance import provenance
from distill_cli.teachers import Teacher
from distill_cli.types import Dataset, EpochRecord, Pool

Report = dict[str, Any]


@dataclass
class Parts:
    """What a run has so far: weights on disk, and of each model its logits and its figures."""

    dataset: Dataset
    context: Context
    checkpoint: Checkpoint
    logits: dict[str, scoring.Logits] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: list[EpochRecord] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, context: Context, out: Path) -> Parts:
        """Return an empty one for a run folder."""
        return cls(dataset, context, Checkpoint(out, dataset.class_names))

    def add(self, name: str, model: Classifier, entry: Mapping[str, Any], cost: Mapping[str, Any]) -> None:
        """Write a model's weights, predict every scored split with it, and measure it."""
        self.checkpoint.add(name, model, entry)
        self.logits[name] = scoring.logits_of(model, self.dataset, self.context)
        self.models[name] = {**measured(model, entry), **cost}

    def scored(self) -> dict[str, dict[str, Any]]:
        """Return the report's `models`: scores by split, then size and cost."""
        scores = scoring.score_all(self.logits, scoring.scored_pools(self.dataset), self.dataset, self.context)
        return {name: scores.get(name, {}) | figures for name, figures in self.models.items()}


def run_teacher(cfg: Any, dataset: Dataset, context: Context, out: Path) -> Path:
    """Train the teacher of a config into the run folder `out`, register it, and return the folder."""
    started = replace(context, started=time.time())
    taught, result = teacher.train(cfg, dataset, context)
    assert taught.model is not None and taught.record is not None and taught.key is not None
    parts = Parts.of(dataset, context, out)
    parts.add(scoring.TEACHER, taught.model, taught.entry, taught.cost)
    runs.save_rows(out, scoring.TEACHER, taught.record)
    models = parts.scored()
    report = head("train-teacher", cfg, dataset) | {
        "models": models,
        "comparison": {},
        "verdict": scoring.verdict(models, {}, scoring.COMPARED),
        "teacher_key": taught.key,
        "teacher_source": "trained",
        "budget": {"teacher_steps": result.steps, "teacher_seconds": result.seconds},
    }
    folder.finish(out, report, cfg, provenance_of(started), result.records, folder.predictions(dataset, parts.logits))
    runs.register(context.outputs, taught.key, out)
    return out


def train_teacher(cfg: Any, out: Path, job: Job) -> Report:
    """`distill train-teacher`."""
    teacher.check_sources(cfg.teacher, trained=True)
    context = make_context(cfg, out, job)
    return runs.read_json(run_teacher(cfg, load_dataset(cfg.dataset), context, out) / runs.REPORT)


def distill(cfg: Any, out: Path, job: Job) -> Report:
    """`distill distill`: teacher, the links between, student, and the controls beside it."""
    teacher.check_sources(cfg.teacher)
    context = make_context(cfg, out, job)
    dataset = load_dataset(cfg.dataset)
    cfg, found = search.use(cfg, dataset)
    transfer = transfer_set(dataset, cfg.dataset)
    check_sound(cfg, found, transfer.pool, dataset, context)
    taught = obtain(cfg, dataset, context, run_teacher)
    taught, generations = chain.walk(cfg, taught, transfer, dataset, context, teach)
    return teach(cfg, transfer, dataset, context, taught, {"chain": generations}, found)


def teach(
    cfg: Any,
    transfer: TransferSet,
    dataset: Dataset,
    context: Context,
    taught: teacher.Taught,
    also: Mapping[str, Any],
    found: Search | None = None,
) -> Report:
    """Train the student of a config and its controls into the run folder ``context.out``, and return the report.

    Args:
        cfg: a composed config, or that of a link.
        transfer: the student's rows.
        dataset: what is learned and scored.
        context: of this run.
        taught: the teacher.
        also: what else the report says; the student joins the generations of `chain`.
        found: where the tuned control's settings come from.
    """
    parts = Parts.of(dataset, context, context.out)
    member_parts = add_teacher(parts, taught, context.out)
    entry = architecture(cfg.student.model, cfg.student.prepare, dataset)
    plans = controls.plan(cfg, cfg.controls, found)
    train_students(cfg, plans, parts, entry, transfer.pool, taught)
    models = parts.scored()
    comparison = scoring.compare(parts.logits, dataset.test, scoring.COMPARED, dataset, context)
    report = head("distill", cfg, dataset) | {
        "models": models,
        "comparison": comparison,
        "verdict": scoring.verdict(models, comparison, scoring.COMPARED),
        "terms": list(parts.stages.values())[-1]["terms"],
        "stages": parts.stages,
        "teacher_key": taught.key,
        "teacher_source": taught.source,
        "teacher_members": member_parts,
        "unlabelled": transfer.unlabelled,
        "cache": parts.cache,
        "budget": budget(models),
        **also,
    }
    report["data"]["notes"] += transfer.notes
    if also.get("chain"):
        report["chain"] = [*also["chain"], chain.generation(scoring.STUDENT, "trained", models[scoring.STUDENT])]
    if found is not None:
        report["search"] = found.report(cfg.seed)
    folder.finish(context.out, report, cfg, provenance_of(context), parts.records, folder.predictions(dataset, parts.logits))
    return runs.read_json(context.out / runs.REPORT)


def add_teacher(parts: Parts, taught: teacher.Taught, out: Path) -> list[dict[str, Any]]:
    """Put the teacher into the run folder, so that the run can be scored again without the folder it came from.

    Returns:
        What the report says of an ensemble's members.
    """
    if taught.record is not None:
        runs.save_rows(out, scoring.TEACHER, taught.record)
    if taught.model is not None:
        parts.add(scoring.TEACHER, taught.model, taught.entry, taught.cost)
        whole = parts.logits[scoring.TEACHER]
        return members.members_report(taught.model, taught.entry, members.told(taught), whole, parts.dataset, parts.context)
    pools = scoring.scored_pools(parts.dataset)
    known = {name: taught.logits(pool, parts.dataset, parts.context) for name, pool in pools.items()}
    parts.logits[scoring.TEACHER] = {name: values for name, values in known.items() if values is not None}
    parts.models[scoring.TEACHER] = dict(taught.cost)
    return []


def train_students(
    cfg: Any, plans: Sequence[controls.Plan], parts: Parts, entry: Mapping[str, Any], pool: Pool, taught: teacher.Taught
) -> None:
    """Train the student, then its controls: the same network from the same weights, without the teacher's terms."""
    dataset, context = parts.dataset, parts.context
    labels, steps_per_epoch, epochs = int(pool.labelled.sum()), None, None
    views = cfg.cache.views
    for plan in plans:
        stages, stop_after = stages_of(cfg, plan), None
        if plan.is_control:
            if plan.same_batches:  # fewer rows may have labels than a teacher can teach: the control makes as many steps
                plan.settings["steps_per_epoch"] = steps_per_epoch
            if plan.same_length:  # the student's patience ends both, whatever the control's own validation says
                stop_after = epochs
        teachers: list[Teacher] = []
        if uses_teacher(stages):
            lesson = Lesson(pairs_of(stages), pool, dataset, context, plan.settings, plan.seed, cfg.cache)
            teachers, parts.cache = as_teachers(taught, lesson)
        model = build_model(entry, "student.model", plan.seed)
        result = fit(plan.name, model, stages, pool, dataset, teachers, plan.settings, plan.seed, context, stop_after, views)
        parts.records += result.records
        if not plan.is_control:
            steps_per_epoch, epochs = result.steps // len(result.records), len(result.records)
            parts.stages = stages_section(stages, result)
        record = remember(pool, dataset)
        if teachers and taught.record is not None:  # what the teacher saw has reached the student through it
            record = unite([record, taught.record])
        runs.save_rows(context.out, plan.name, record)
        cost = teacher.train_cost(result, labels if any(stage.objective.uses_labels for stage in stages) else 0)
        if not cfg.student.bias_fix:
            parts.add(plan.name, model, entry, cost)
            continue
        if not plan.is_control:
            runs.save_rows(context.out, scoring.NO_BIAS_FIX, record)
            parts.add(scoring.NO_BIAS_FIX, model, entry, cost)
        fixed, fixed_entry = with_bias_fixed(model, entry, pool, dataset, context, plan.settings["select"]["metric"])
        parts.add(plan.name, fixed, fixed_entry, {**cost, "bias_fix": bias.described(fixed_entry, dataset.class_names)})


def with_bias_fixed(
    model: Classifier, entry: Mapping[str, Any], pool: Pool, dataset: Dataset, context: Context, metric: str
) -> tuple[Classifier, dict[str, Any]]:
    """Return a trained model with the offset of its missing classes, and how to build it again."""
    missing = bias.missing_classes(pool, dataset)
    logits = predict(model.to(context.device), context.rows(dataset.val, dataset), context.chunk).numpy()
    offset = bias.fit_offset(logits, dataset.val.y, missing, dataset.averaged, metric)
    fixed_entry = {**entry, "offset": bias.offsets(offset, missing, len(dataset.class_names))}
    fixed = build_model(fixed_entry, "student.model")
    fixed.prepare.load_state_dict(model.prepare.state_dict())
    assert isinstance(fixed.network, Shifted)
    fixed.network.network.load_state_dict(model.network.state_dict())
    return fixed.to(context.device), fixed_entry


def head(command: str, cfg: Any, dataset: Dataset) -> Report:
    """Return what every report begins with."""
    return {
        "schema_version": 1,
        "command": command,
        "recipe_version": RECIPE_VERSION,
        "task": "classification",
        "name": folder.run_name(cfg, command),
        "seed": cfg.teacher.seed if command == "train-teacher" else cfg.seed,
        "data": describe(dataset, cfg.dataset),
    }


def provenance_of(context: Context) -> dict[str, Any]:
    """Return the report's `provenance` section."""
    return provenance(context.device, context.precision, context.started, context.command_line)


def measured(model: Classifier, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's size and latency."""
    return {**measure(model, tuple(entry["input_shape"])), "architecture": described(entry)}


def budget(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return optimizer steps of student and controls, and beside them what the teacher cost."""
    others = [name for name in models if name not in (scoring.TEACHER, scoring.STUDENT)]
    return {
        "student_steps": models[scoring.STUDENT]["steps"],
        "control_steps": {name: models[name]["steps"] for name in others},
        "teacher_steps": models[scoring.TEACHER].get("steps"),
        "teacher_seconds": models[scoring.TEACHER].get("train_seconds"),
    }
