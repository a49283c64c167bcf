"""A finished run, opened again: its report, its data, the list of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config.ownership import is_own
from distill_cli.config.validation.check import check_trusted, load_config
from distill_cli.config.validation.values import check_exclude, check_values
from distill_cli.data.leakage import trained_on
from distill_cli.errors import UserError
from distill_cli.factory.context import Job, RunContext, make_context
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import typed_task
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import columns_of, read_checkpoint
from distill_cli.runs.find_run import find_run
from distill_cli.tasks.registry import report_task
from distill_cli.tasks.task import Task
from distill_cli.types import Dataset, Pool

# `bootstrap` where the user types none and the run's config, which anyone may have written, has none.
DEFAULT_BOOTSTRAP = {"resamples": 1000, "seed": 0}


@dataclass(frozen=True)
class LoadedRun:
    """A finished run.

    Attributes:
        folder: the run folder.
        report: what its report.json holds; written by anyone.
        dataset_config: the config of the data set that was loaded.
        dataset: that data set, of the shape and classes of the run's models.
        checkpoint: what its model.json holds, checked.
        config: the run's resolved config; written by anyone.
        context: where this job runs, with chunk size and draws as the run was scored.
    """

    folder: Path
    report: dict[str, Any]
    dataset_config: dict[str, Any]
    dataset: Dataset
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    context: RunContext

    @property
    def run_fingerprint(self) -> str | None:
        """Of the data that the run was trained and scored on, as its report has it."""
        told = self.report.get("data")
        return str(told.get("fingerprint")) if isinstance(told, dict) else None

    @property
    def is_other_data(self) -> bool:
        """Whether the data that were loaded are not the run's: another set or split, or another content under its name."""
        return self.run_fingerprint != self.dataset.fingerprint

    def trained_on(self, pools: Mapping[str, Pool], names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return, for each model, how many rows of each pool it was trained on, where the data are not the run's."""
        known = [name for name in names if self.is_other_data and layout.train_record_file(self.folder, name).is_file()]
        counts = {name: trained_on(layout.read_train_record(self.folder, name), pools) for name in known}
        return {name: found for name, found in counts.items() if found}

    @property
    def may_show_samples(self) -> bool:
        """Whether the run allows single samples on pages."""
        told = self.config.get("report")
        return not isinstance(told, dict) or told.get("samples") is not False


def load_run(cfg: Any, out: Path, job: Job, command: str) -> LoadedRun:
    """Open the run ``cfg.run`` on its own data or on ``cfg.dataset``.

    Raises:
        UserError: no such run, untrusted, damaged, or data of another shape.
    """
    source = find_run(cfg.run, "run")
    report = layout.read_json(source / layout.REPORT)
    config = load_config(source / layout.CONFIG)
    context = make_context(_with_original_eval_settings(cfg, config, command), out, job)
    node = _dataset_node(cfg.dataset, config, source / layout.CONFIG)
    checkpoint = read_checkpoint(source)
    dataset = load_dataset(node, columns_of(checkpoint), _task(config, report, source))
    _check_same_shape(dataset, checkpoint, source)
    return LoadedRun(source, report, node, dataset, checkpoint, config, context)


def _task(config: dict[str, Any], report: dict[str, Any], source: Path) -> Task:
    """Return the task of a run: of its config, where one was typed, else the one that its report names."""
    node = config.get("task")
    if isinstance(node, dict):
        check_trusted(node, f"{source / layout.CONFIG}: task", own=is_own(source))
        return typed_task(node) or report_task(report)
    return report_task(report)


def _with_original_eval_settings(cfg: Any, config: dict[str, Any], command: str) -> Any:
    """Return the config with the run's own chunk size and draws where the user typed none: the last digits depend on them."""
    changes = {key: config.get(key) for key in ("eval_batch_size", "bootstrap") if key in config}
    typed = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(typed, dict)
    for key, value in changes.items():
        if isinstance(typed[key], dict):
            own = {k: value.get(k) for k in typed[key]} if isinstance(value, dict) else {}
            typed[key] = {k: own.get(k, DEFAULT_BOOTSTRAP[k]) if v is None else v for k, v in typed[key].items()}
        elif typed[key] is None:
            typed[key] = value
    check_values({str(key): value for key, value in typed.items()}, command)
    return OmegaConf.create(typed)


def _dataset_node(wanted: Any, config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return the run's data set, another one, or the run's with some keys changed."""
    changes: dict[str, Any] = OmegaConf.to_container(wanted, resolve=True) if wanted else {}  # type: ignore[assignment]
    if "_target_" in changes:
        check_exclude(changes)
        return changes
    own = config.get("dataset")
    if not isinstance(own, dict) or "_target_" not in own:
        raise UserError(f"{where}: names no data set; the file is damaged, or choose one with dataset=OPTION")
    check_trusted(own, f"{where}: dataset", own=is_own(where.parent))
    node = {**own, **changes}
    check_exclude(node)
    return node


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
