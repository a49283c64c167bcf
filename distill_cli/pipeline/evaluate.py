"""`distill eval`: the models of a finished run, scored again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distill_cli import RECIPE_VERSION, runs
from distill_cli.config.ranges import check_values
from distill_cli.config.validate import check_trusted, load_config
from distill_cli.data.leakage import meets
from distill_cli.errors import UserError, near
from distill_cli.pipeline import folder, scoring
from distill_cli.pipeline.context import Job, make_context
from distill_cli.pipeline.data import describe, load_dataset
from distill_cli.pipeline.gathered import measured
from distill_cli.pipeline.heading import Report, provenance_of
from distill_cli.pipeline.members import TOLD, members_report
from distill_cli.pipeline.models import load_model, read_checkpoint
from distill_cli.pipeline.teacher import COST_KEYS
from distill_cli.types import Dataset

# What of a run's report still holds when its models are scored again.
KEPT = ("terms", "stages", "teacher_key", "teacher_source", "budget", "chain", "unlabelled")


def evaluate(cfg: Any, out: Path, job: Job) -> Report:
    """Score every model of the run ``cfg.run`` on its own data or on ``cfg.dataset``."""
    source = runs.find(cfg.run, "run")
    old = runs.read_json(source / runs.REPORT)
    config = load_config(source / runs.CONFIG)
    context = make_context(_as_it_was_scored(cfg, config), out, job)
    node = _dataset_node(cfg.dataset, config, source / runs.CONFIG)
    dataset = load_dataset(node)
    checkpoint = read_checkpoint(source)
    _check_same_shape(dataset, checkpoint, source)
    pools = scoring.scored_pools(dataset, cfg.split)
    if not pools:
        known = ", ".join(dataset.pools)
        raise UserError(f"split={cfg.split}: no such split{near(cfg.split, dataset.pools)} (it has: all, {known})")

    logits, models = {}, {}
    member_parts: list[dict[str, Any]] = []
    for name in checkpoint["models"]:
        model, entry = load_model(source, name)
        model.to(context.device)
        logits[name] = scoring.logits_of(model, dataset, context, cfg.split)
        if name == scoring.TEACHER:
            told = _members_told(old)
            member_parts = members_report(model, entry, told, logits[name], dataset, context, cfg.split)
        cost = runs.figures_of(old, name, COST_KEYS)
        models[name] = {**measured(model, entry), **cost}
    for name, by_split in scoring.score_all(logits, pools, dataset, context).items():
        models[name] = by_split | models[name]
    data = describe(dataset, node)
    for note in _seen(source, checkpoint["models"], dataset, cfg.split):
        context.progress.say(f"note: {note}")
        data["notes"].append(note)
    split = scoring.COMPARED if scoring.COMPARED in pools else next(iter(pools))
    comparison = scoring.compare(logits, pools[split], split, dataset, context) if scoring.STUDENT in logits else {}
    report = {
        "schema_version": 1,
        "command": "eval",
        "recipe_version": RECIPE_VERSION,
        "task": "classification",
        "name": old.get("name"),
        "seed": old.get("seed"),
        "data": data,
        "models": models,
        "comparison": comparison,
        "verdict": scoring.verdict(models, comparison, split),
        "teacher_members": member_parts,
        "evaluated_run": str(source),
        **{key: old.get(key) for key in KEPT},
    }
    folder.finish(out, report, cfg, provenance_of(context), [],
                  folder.predictions(dataset, logits, split))  # fmt: skip
    return runs.read_json(out / runs.REPORT)


def _as_it_was_scored(cfg: Any, config: dict[str, Any]) -> Any:
    """Return the config with the run's own chunk size and draws where the user typed none: the last digits depend on them."""
    changes = {key: config.get(key) for key in ("eval_batch_size", "bootstrap") if key in config}
    typed = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(typed, dict)
    for key, value in changes.items():
        if isinstance(value, dict):
            typed[key] = {**value, **{k: v for k, v in typed[key].items() if v is not None}}
        elif typed[key] is None:
            typed[key] = value
    check_values({str(key): value for key, value in typed.items()}, "eval")
    return OmegaConf.create(typed)


def _members_told(old: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a report says of an ensemble's members, less their scores; nothing where it is damaged."""
    parts = old.get("teacher_members")
    known = parts if isinstance(parts, list) and all(isinstance(part, dict) for part in parts) else []
    return [{key: part.get(key) for key in TOLD} for part in known]


def _dataset_node(wanted: Any, config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return the run's data set, another one, or the run's with some keys changed."""
    changes: dict[str, Any] = OmegaConf.to_container(wanted, resolve=True) if wanted else {}  # type: ignore[assignment]
    if "_target_" in changes:
        return changes
    own = config.get("dataset")
    if not isinstance(own, dict) or "_target_" not in own:
        raise UserError(f"{where}: names no data set; the file is damaged, or choose one with dataset=OPTION")
    check_trusted(own, f"{where}: dataset")
    return {**own, **changes}


def _seen(source: Path, names: Iterable[str], dataset: Dataset, split: str) -> list[str]:
    """Return a note for each model that was trained on rows that are scored here."""
    notes = [f"{split}: these rows were trained on; such scores say nothing about new ones"] if split == "train" else []
    for name in names:
        if runs.rows_file(source, name).is_file() and (met := meets(runs.read_rows(source, name), dataset)):
            notes.append(f"{name} was trained on rows that are scored here: {met}")
    return notes


def _check_same_shape(dataset: Dataset, checkpoint: dict[str, Any], source: Path) -> None:
    names = checkpoint.get("class_names")
    if names is not None and list(names) != list(dataset.class_names):
        raise UserError(
            f"{source}: its models know the classes {', '.join(names)}; this data set has {', '.join(dataset.class_names)}"
        )
    for name, entry in checkpoint["models"].items():
        if tuple(entry["input_shape"]) != dataset.input_shape:
            raise UserError(
                f"{source}: {name} takes samples of shape {tuple(entry['input_shape'])}, this data set has {dataset.input_shape}"
            )
