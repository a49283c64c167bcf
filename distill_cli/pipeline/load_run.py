"""A finished run, opened again: its report, its data, the list of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distill_cli.config.ownership import is_own
from distill_cli.config.settings.build import build
from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.config.settings.run_commands import RunCommandSettings
from distill_cli.config.settings.runtime import BootstrapSettings, RuntimeSettings
from distill_cli.config.trust import check_trusted, load_config
from distill_cli.config.validation.rules import check_rules
from distill_cli.config.validation.values import BASE_RULES, check_exclude
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
        dataset_settings: the data set that was loaded.
        dataset: that data set, of the shape and classes of the run's models.
        checkpoint: what its model.json holds, checked.
        config: the run's resolved config; written by anyone.
        context: where this job runs, with chunk size and draws as the run was scored.
    """

    folder: Path
    report: dict[str, Any]
    dataset_settings: DatasetSettings
    dataset: Dataset
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    context: RunContext

    @property
    def run_fingerprint(self) -> str | None:
        """Of the data that the run was trained and scored on, as its report has it."""
        data = self.report.get("data")
        return str(data.get("fingerprint")) if isinstance(data, dict) else None

    @property
    def is_other_data(self) -> bool:
        """Whether the loaded data differ from the run's.

        They may be another set or split, or have another content under the same name.
        """
        return self.run_fingerprint != self.dataset.fingerprint

    def trained_on(self, pools: Mapping[str, Pool], names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return how many rows of each pool each model was trained on.

        Empty where the data are the run's.
        """
        known = [name for name in names if self.is_other_data and layout.train_record_file(self.folder, name).is_file()]
        counts = {name: trained_on(layout.read_train_record(self.folder, name), pools) for name in known}
        return {name: rows for name, rows in counts.items() if rows}

    @property
    def may_show_samples(self) -> bool:
        """Whether the run allows single samples on pages."""
        report = self.config.get("report")
        return not isinstance(report, dict) or report.get("samples") is not False


def load_run(settings: RunCommandSettings, out: Path, job: Job) -> LoadedRun:
    """Open a finished run on its own data or on others.

    Raises:
        UserError: no such run, untrusted, damaged, or data of another shape.
    """
    source = find_run(settings.run, "run")
    report = layout.read_json(source / layout.REPORT)
    config = load_config(source / layout.CONFIG)
    context = make_context(_with_original_eval_settings(settings.runtime, config), out, job)
    dataset_settings = _dataset_settings(settings.dataset, config, source / layout.CONFIG)
    checkpoint = read_checkpoint(source)
    dataset = load_dataset(dataset_settings, columns_of(checkpoint), _task(config, report, source))
    _check_same_shape(dataset, checkpoint, source)
    return LoadedRun(source, report, dataset_settings, dataset, checkpoint, config, context)


def _task(config: dict[str, Any], report: dict[str, Any], source: Path) -> Task:
    """Return the task of a run.

    Of its config, where one was typed, else the one that its report names.
    """
    node = config.get("task")
    if isinstance(node, dict):
        check_trusted(node, f"{source / layout.CONFIG}: task", own=is_own(source))
        return typed_task(node) or report_task(report)
    return report_task(report)


def _with_original_eval_settings(runtime: RuntimeSettings, config: Mapping[str, Any]) -> RuntimeSettings:
    """Return the settings with the run's own chunk size and bootstrap draws.

    Typed ones stay. Why: the last digits depend on them.
    """
    own = config.get("bootstrap")
    layers = (DEFAULT_BOOTSTRAP, own if isinstance(own, Mapping) else {}, asdict(runtime.bootstrap))
    bootstrap = {key: value for layer in layers for key, value in layer.items() if value is not None}
    size = config.get("eval_batch_size") if runtime.eval_batch_size is None else runtime.eval_batch_size
    check_rules({"bootstrap": bootstrap} | ({} if size is None else {"eval_batch_size": size}), BASE_RULES)
    return replace(runtime, eval_batch_size=size, bootstrap=build(BootstrapSettings, bootstrap))


def _dataset_settings(changes: Mapping[str, Any], config: Mapping[str, Any], where: Path) -> DatasetSettings:
    """Return the run's data set, another one, or the run's with some keys changed."""
    if "_target_" not in changes:
        own = config.get("dataset")
        if not isinstance(own, dict) or "_target_" not in own:
            raise UserError(f"{where}: names no data set; the file is damaged, or choose one with dataset=OPTION")
        check_trusted(own, f"{where}: dataset", own=is_own(where.parent))
        changes = {**own, **changes}
    check_exclude(changes)
    return DatasetSettings.from_config(changes)


def _check_same_shape(dataset: Dataset, checkpoint: dict[str, Any], source: Path) -> None:
    names = checkpoint.get("class_names")
    if names is not None and list(names) != list(dataset.class_names):
        raise UserError(
            f"{source}: its models know the classes {', '.join(names)}; this data set has {', '.join(dataset.class_names)}"
        )
    for name, spec in checkpoint["models"].items():
        if spec.input_shape != dataset.input_shape:
            raise UserError(
                f"{source}: {name} takes samples of shape {spec.input_shape}, this data set has {dataset.input_shape}"
            )
