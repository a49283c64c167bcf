"""The three commands' work: config -> a finished run folder and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli import RECIPE_VERSION, runs
from distill_cli.cost import measure
from distill_cli.data.leakage import remember
from distill_cli.engine import predict
from distill_cli.models.classifier import Classifier
from distill_cli.pipeline import controls, folder, scoring, teacher
from distill_cli.pipeline.context import Context, Job, make_context
from distill_cli.pipeline.data import describe, load_dataset, student_pool
from distill_cli.pipeline.models import Checkpoint, architecture, build_model
from distill_cli.pipeline.training import build_objective, fit
from distill_cli.provenance import provenance
from distill_cli.types import Dataset, EpochRecord

Report = dict[str, Any]


def run_teacher(cfg: Any, dataset: Dataset, context: Context, out: Path) -> Path:
    """Train the teacher of a config into the run folder `out`, register it, and return the folder."""
    taught, result = teacher.train(cfg, dataset, context)
    assert taught.model is not None and taught.record is not None and taught.key is not None
    checkpoint = Checkpoint(out, dataset.class_names)
    checkpoint.add(scoring.TEACHER, taught.model, taught.entry)
    runs.save_rows(out, scoring.TEACHER, taught.record)
    pools = scoring.scored_pools(dataset)
    logits = {scoring.TEACHER: logits_of(taught.model, dataset, context)}
    models = scoring.score_all(logits, pools, dataset, context)
    models[scoring.TEACHER] |= {**measured(taught.model, taught.entry), **taught.cost}
    report = head("train-teacher", cfg, dataset) | {
        "models": models,
        "comparison": {},
        "verdict": scoring.verdict(models, {}, scoring.COMPARED),
        "teacher_key": taught.key,
        "teacher_source": "trained",
        "budget": {"teacher_steps": result.steps, "teacher_seconds": result.seconds},
    }
    folder.finish(out, report, cfg, provenance_of(context), result.records,
                  folder.predictions(dataset, logits))  # fmt: skip
    runs.register_teacher(context.outputs, taught.key, out)
    return out


def train_teacher(cfg: Any, out: Path, job: Job) -> Report:
    """`distill train-teacher`."""
    teacher.check_sources(cfg.teacher)
    context = make_context(cfg, out, job)
    return runs.read_json(run_teacher(cfg, load_dataset(cfg.dataset), context, out) / runs.REPORT)


def distill(cfg: Any, out: Path, job: Job) -> Report:
    """`distill distill`: teacher, student, and the controls beside it."""
    teacher.check_sources(cfg.teacher)
    context = make_context(cfg, out, job)
    dataset = load_dataset(cfg.dataset)
    plans = controls.plan(cfg, cfg.controls)
    # Before hours go into a teacher: is the student's side sound?
    entry = architecture(cfg.student.model, cfg.student.prepare, dataset)
    build_model(entry, "student.model", cfg.seed)
    build_objective(cfg.loss, cfg.terms, cfg.seed)
    pool = student_pool(dataset, cfg.dataset)

    taught = teacher.obtain(cfg, dataset, context, run_teacher)
    checkpoint = Checkpoint(out, dataset.class_names)
    logits: dict[str, scoring.Logits] = {}
    models: dict[str, dict[str, Any]] = {}
    logits[scoring.TEACHER] = taught_logits(taught, dataset, context)
    models[scoring.TEACHER] = dict(taught.cost)
    if taught.model is not None:
        checkpoint.add(scoring.TEACHER, taught.model, taught.entry)
        models[scoring.TEACHER] |= measured(taught.model, taught.entry)

    records: list[EpochRecord] = []
    terms: dict[str, Any] = {}
    steps_per_epoch = None
    for plan in plans:
        mixed = plan.settings["mixup"]["alpha"] > 0
        objective = build_objective(cfg.loss, cfg.terms, cfg.seed)
        if plan.is_control:
            objective = objective.without_teacher()
            plan.settings["steps_per_epoch"] = plan.settings["steps_per_epoch"] or (steps_per_epoch if plan.same_batches else None)
        teachers = []
        if objective.uses_teacher:
            teachers = teacher.as_teachers(taught, pool, dataset, context, mixed=mixed, cache=cfg.teacher.cache)
        model = build_model(entry, "student.model", plan.seed)
        result = fit(plan.name, model, objective, pool, dataset, teachers, plan.settings, plan.seed, context)
        records += result.records
        if plan.name == scoring.STUDENT:
            steps_per_epoch = result.steps // len(result.records)
            terms = {n: {"weight": objective.weights[n], "value": v} for n, v in result.terms.items()}
            runs.save_rows(out, plan.name, remember(pool, dataset))
        checkpoint.add(plan.name, model, entry)
        logits[plan.name] = logits_of(model, dataset, context)
        models[plan.name] = {**measured(model, entry), **teacher.train_cost(result, int(pool.labelled.sum()))}

    if taught.record is not None:
        runs.save_rows(out, scoring.TEACHER, taught.record)
    for name, by_split in scoring.score_all(logits, scoring.scored_pools(dataset), dataset, context).items():
        models[name] = by_split | models[name]
    comparison = scoring.compare(logits, dataset.test, scoring.COMPARED, dataset, context)
    report = head("distill", cfg, dataset) | {
        "models": models,
        "comparison": comparison,
        "verdict": scoring.verdict(models, comparison, scoring.COMPARED),
        "terms": terms,
        "teacher_key": taught.key,
        "teacher_source": taught.source,
        "budget": budget(models),
    }
    folder.finish(out, report, cfg, provenance_of(context), records,
                  folder.predictions(dataset, logits))  # fmt: skip
    return runs.read_json(out / runs.REPORT)


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


def logits_of(model: Classifier, dataset: Dataset, context: Context, split: str = "all") -> scoring.Logits:
    """Return a model's logits on every scored split."""
    pools = scoring.scored_pools(dataset, split)
    return {name: predict(model, context.rows(pool, dataset), context.chunk).numpy() for name, pool in pools.items()}


def taught_logits(taught: teacher.Taught, dataset: Dataset, context: Context, split: str = "all") -> scoring.Logits:
    """Return the teacher's logits on every scored split that it knows."""
    known = {name: taught.logits(pool, dataset, context) for name, pool in scoring.scored_pools(dataset, split).items()}
    return {name: values for name, values in known.items() if values is not None}


def measured(model: Classifier, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's size and latency."""
    target = entry["model"].get("_target_")
    return {**measure(model, tuple(entry["input_shape"])), "architecture": {"target": target, "arguments": _arguments(entry)}}


def _arguments(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry["model"].items() if not k.startswith("_")}


def budget(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return optimizer steps of student and controls, and beside them what the teacher cost."""
    others = [name for name in models if name not in (scoring.TEACHER, scoring.STUDENT)]
    return {
        "student_steps": models[scoring.STUDENT]["steps"],
        "control_steps": {name: models[name]["steps"] for name in others},
        "teacher_steps": models[scoring.TEACHER].get("steps"),
        "teacher_seconds": models[scoring.TEACHER].get("train_seconds"),
    }
