"""The command `distill export`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.run_commands import ExportSettings
from distill_cli.config.settings.runtime import RuntimeSettings
from distill_cli.config.trust import dump_config
from distill_cli.errors import UserError, UserErrors, did_you_mean
from distill_cli.exports import FORMATS, LOOKS
from distill_cli.exports.card import CARD_JSON, README, card_of, show
from distill_cli.exports.card_markdown import markdown
from distill_cli.exports.parity import Listener, Reference, compare, scores_of_rounded
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.factory.context import Job
from distill_cli.factory.data import data_section
from distill_cli.metrics.calibration import fit_temperature
from distill_cli.metrics.classification import ece, log_probabilities
from distill_cli.models.classifier import Classifier
from distill_cli.pipeline import evaluation
from distill_cli.pipeline.load_run import LoadedRun, load_run
from distill_cli.pipeline.report_sections import Report, provenance_of
from distill_cli.pipeline.results import measured
from distill_cli.profiling.model_cost import peak_activation_bytes
from distill_cli.reports.progress import Progress
from distill_cli.reports.run.origin import other_data
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec, load_model
from distill_cli.runs.find_run import named
from distill_cli.tasks.registry import find_task
from distill_cli.utils import files
from distill_cli.utils.timing import measure_latency


def run(settings: ExportSettings, out: Path, job: Job) -> dict[str, Any]:
    """Run one job, print its table, and return the report.

    Raises:
        UserErrors: some of several formats were rejected; the others are written.
    """
    report = export(settings, out, job)
    show(report, out)
    if refused := report["export"]["refused"]:
        written = ", ".join(report["export"]["formats"])
        raise UserErrors([line.replace("nothing was written", f"kept: {written}") for line in refused.values()])
    return report


def export(settings: ExportSettings, out: Path, job: Job) -> Report:
    """Write a model of a finished run in one or more formats, with a model card.

    All files are in one new folder. Of several formats, those that cannot be written, or whose outputs differ from the model's,
    are in ``export.refused`` of the report.

    Args:
        settings: settings of the command.
        out: run folder.
        job: how the job was started.

    Raises:
        UserError: the run cannot be loaded, the folder already exists, or no format could be written; nothing is left then.
    """
    target = Path(settings.output) if settings.output is not None else out / "export"
    files.ensure_absent(target, "output")
    opened = load_run(settings, out, job)
    if settings.model_name not in opened.checkpoint["models"]:
        name, known = settings.model_name, sorted(opened.checkpoint["models"])
        raise UserError(
            f"model_name={name}: {opened.folder} has no such model{did_you_mean(name, known)} (it has: {', '.join(known)})"
        )
    model, spec = load_model(opened.folder, settings.model_name)
    shown = settings.runtime.report.samples and opened.may_show_samples
    subject = ExportSource(settings.model_name, model, spec, opened.dataset, 1.0, shown, _about(opened))
    refused = _looked_at(settings.format, subject, settings)
    report = _scored(settings, opened, model, spec)
    temperature = report["export"]["temperature"]["value"]
    subject = replace(subject, temperature=temperature)
    with files.atomic_folder(target) as folder:
        report["export"]["folder"] = str(target)
        sound = [name for name in settings.format if name not in refused]
        report["export"]["formats"] = _write_all(settings, opened, subject, folder, sound, refused)
        report["export"]["refused"] = refused
        report = files.to_jsonable(report | {"provenance": provenance_of(opened.context)})
        card = card_of(report, subject, asdict(settings.card), opened.dataset_settings.resolved)
        files.write_text(folder / README, markdown(card))
        files.write_json(folder / CARD_JSON, card)
    files.write_text(out / layout.CONFIG, dump_config(settings.resolved))
    files.write_json(out / layout.REPORT, report | {"config": settings.resolved})
    return layout.read_json(out / layout.REPORT)


def _scored(settings: ExportSettings, opened: LoadedRun, model: Classifier, spec: ModelSpec) -> Report:
    """Return the report's part on the model itself: scores, size, temperature."""
    dataset, context, name = opened.dataset, opened.context, settings.model_name
    pools = evaluation.eval_splits(dataset)
    logits = evaluation.predict_splits(model, dataset, context)
    scores = evaluation.score_all({name: logits}, pools, dataset, context)[name]
    task = find_task(dataset.task)
    if settings.calibrate and not task.has_classes:
        raise UserError(f"calibrate=true: a temperature is fitted to exclusive classes, and this is {task.name}; leave it out")
    temperature = fit_temperature(logits["val"], dataset.val.y) if settings.calibrate else 1.0
    data = data_section(dataset, opened.dataset_settings) | {"run_fingerprint": opened.run_fingerprint}
    data["trained_on"] = opened.trained_on(pools, [name])
    data["notes"] += other_data(data) or _notes(opened, name, scores)
    for note in data["notes"][len(dataset.notes) :]:
        context.progress.say(f"note: {note}")
    cost = {**measured(model, spec), "peak_activation_bytes": peak_activation_bytes(model, dataset.input_shape)}
    return {
        "schema_version": 1,
        "command": "export",
        "recipe_version": RECIPE_VERSION,
        "task": dataset.task,
        "name": opened.report.get("name"),
        "seed": opened.report.get("seed"),
        "data": data,
        "models": {name: scores | cost},
        "source_run": named(opened.folder),
        "exported_model": name,
        "export": {
            "temperature": {
                "value": temperature,
                "fitted": settings.calibrate,
                "ece": {split: _ece(values, pools[split].y, temperature) for split, values in logits.items() if task.has_classes},
            },
        },
    }  # fmt: skip


def _ece(logits: np.ndarray, y: np.ndarray, temperature: float) -> dict[str, float]:
    before, after = (ece(np.exp(log_probabilities(logits / t)), y) for t in (1.0, temperature))
    return {"before": before, "after": after}


def _notes(opened: LoadedRun, name: str, scores: Mapping[str, Any]) -> list[str]:
    """Return a note for each score that differs from the run's report."""
    notes, metric = [], find_task(opened.dataset.task).primary_metric
    for split, part in scores.items():
        figures = layout.model_metrics(opened.report, name, [split]).get(split)
        before = figures.get(metric.name) if isinstance(figures, Mapping) else None
        if before != part[metric.name]:
            notes.append(f"{split}: {metric.title} is {part[metric.name]:.6f} here and {before} in the run's report")
    return notes


def _about(opened: LoadedRun) -> dict[str, str]:
    return {"data": opened.dataset.name, "data_fingerprint": opened.dataset.fingerprint, "run": str(opened.report.get("name"))}


def _looked_at(names: Sequence[str], subject: ExportSource, settings: ExportSettings) -> dict[str, str]:
    """Return the formats that cannot be written, each with its error message.

    Raises:
        UserErrors: no format is left.
    """
    refused = {}
    for name in names:
        if name not in subject.task.exports:
            known = ", ".join(subject.task.exports)
            refused[name] = f"format={name}: is not for task={subject.task.name}; its formats are {known}"
            continue
        try:
            LOOKS.get(name, lambda subject, settings: None)(subject, settings)
        except UserError as e:
            refused[name] = str(e)
    if len(refused) == len(names):
        raise UserErrors(list(refused.values()))
    return refused


def _write_all(
    settings: ExportSettings,
    opened: LoadedRun,
    subject: ExportSource,
    folder: Path,
    names: Sequence[str],
    refused: dict[str, str],
) -> dict[str, Any]:
    """Write and check all formats, and return their sections of the report.

    A format that is rejected leaves no file and is added to `refused`.

    Args:
        settings: settings of the command.
        opened: the run.
        subject: the exported model.
        folder: folder of the export.
        names: formats to write.
        refused: error message of each rejected format, changed in place.

    Raises:
        UserErrors: no format is left.
    """
    dataset, chunk = opened.dataset, opened.context.eval_batch_size
    reference = Reference(
        dataset.val, evaluation.predict_splits(subject.model, dataset, opened.context, "val")["val"],
        partial(evaluation.evaluator, dataset=dataset), subject.task.shown,
        subject.temperature, chunk, settings.max_f1_drop,
    )  # fmt: skip
    parts: dict[str, Any] = {}
    for name in names:
        opened.context.progress.say(f"{name}: writing and checking on {len(dataset.val):,} rows of validation")
        before, own = set(folder.rglob("*")), {}
        try:
            for written in FORMATS[name](subject, folder, settings):
                part = _part(written, reference, folder, settings)
                own[written.name] = part | _rounded(written, reference, opened, part["parity"]["macro_f1"], settings)
        except UserError as e:
            refused[name] = str(e)
            files.remove(set(folder.rglob("*")) - before)
        else:
            parts |= own
    if not parts:
        raise UserErrors(list(refused.values()))
    return parts


@contextlib.contextmanager
def _followed(what: str, total: int, settings: RuntimeSettings) -> Iterator[Listener]:
    """Yield a listener that shows the progress of `total` rows."""
    with Progress(settings.verbosity, settings.log_every_seconds) as progress:
        progress.read(what, total)
        yield lambda rows: progress.move(rows, rows)


def _rounded(
    written: Artifact, reference: Reference, opened: LoadedRun, checked: float, settings: ExportSettings
) -> dict[str, Any]:
    """Return the scores of a file with rounded weights, empty for any other.

    Why: other files have the model's scores.
    """
    if written.difference is not None:
        return {}
    pools = evaluation.eval_splits(opened.dataset)
    total = sum(len(pool) for pool in pools.values() if pool is not reference.pool)
    with _followed(f"{written.name}: scoring", total, settings.runtime) as listen:
        return {"macro_f1": scores_of_rounded(written, pools, reference, checked, listen)}


def _part(written: Artifact, reference: Reference, folder: Path, settings: ExportSettings) -> dict[str, Any]:
    with _followed(f"{written.name}: checking", len(reference.pool), settings.runtime) as listen:
        parity = compare(written, reference, listen)
    first = next(reference.pool.iter_batches(1))
    return {
        "files": {name: (folder / name).stat().st_size for name in written.files},
        "weight_bytes": written.weight_bytes,
        "file_bytes": sum((folder / name).stat().st_size for name in written.files),
        "parity": parity,
        "latency_ms": {"1": written.time() if written.time else measure_latency(lambda: written.run(first))},
        **written.facts,
    }
