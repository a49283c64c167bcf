"""The command `distill predict`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import torch

from distill_cli.config.settings.run_commands import PredictSettings
from distill_cli.config.validation.rules import Rule, check_rules, format_value, one_of
from distill_cli.data.beats import NORMALISATIONS, SegmentationSettings
from distill_cli.data.csv_columns import ColumnSpec
from distill_cli.data.csv_reader import SUFFIXES
from distill_cli.errors import UserError
from distill_cli.factory.context import Job
from distill_cli.inference.batching import Rebatcher, RowBlock, Stream
from distill_cli.inference.csv_rows import CsvRows
from distill_cli.inference.npy_rows import NpyRows
from distill_cli.inference.predictor import Predictor, open_predictor
from distill_cli.inference.record_beats import RecordBeats
from distill_cli.inference.writers import Array, Table, Writer
from distill_cli.reports.progress import Progress
from distill_cli.utils import files
from distill_cli.utils.allocator import disable_malloc_trim


def run(settings: PredictSettings, out: Path, job: Job) -> dict[str, Any]:
    """Predict a file, and return an empty report."""
    predict(settings)
    return {}


KINDS = "a .csv, .tsv or .npy file, or a WFDB record (FOLDER/100 or FOLDER/100.hea)"


# Data sets whose samples are beats, cut like those of a WFDB record.
BEATS = ("distill_cli.data.heartbeat.heartbeat", "distill_cli.data.heartbeat_synthetic.heartbeat_synthetic")


CUT_RULES = {
    "normalise": one_of(*NORMALISATIONS),
    **dict.fromkeys(("rate", "window"), Rule("int")),
    **dict.fromkeys(("beat", "rr_window_seconds"), Rule()),
}


USUAL_LEAD = "MLII"


MOST_FAULTS = 3  # messages shown on skipped rows


@dataclass
class PredictionSummary:
    """Counts of the rows predicted and read, and a message for each skipped row."""

    predicted: int = 0
    read: int = 0
    faults: list[str] = field(default_factory=list)


def predict(settings: PredictSettings) -> Path:
    """Predict a file's rows into another file, and return that.

    Raises:
        UserError: an input, run or output cannot be used; no file is left then.
    """
    disable_malloc_trim()
    if settings.runtime.device.threads is not None:
        torch.set_num_threads(settings.runtime.device.threads)
    source = Path(settings.input)
    output = settings.output or Path(f"{Path(source.name.removesuffix('.gz')).stem}_predictions.csv")
    _check_output(output)
    predictor = open_predictor(settings)
    stream = open_input(settings, source, predictor)
    if output.suffix == ".npy" and isinstance(stream, RecordBeats):
        raise UserError(f"output={output}: an array has no place for the times of beats; choose a .csv")
    done = PredictionSummary()
    with Progress(settings.runtime.verbosity, settings.runtime.log_every_seconds) as progress:
        progress.read(f"predict {source.name}", stream.total)
        for note in stream.notes:
            progress.say(f"note: {note}")

        def fill(file: IO[Any]) -> None:
            array = output.suffix == ".npy"
            names = predictor.class_names
            writer: Writer = Array(file, names) if array else Table(file, stream.columns, names, predictor.task)
            _predict_to(writer, stream, predictor, settings.runtime.eval_batch_size or predictor.batch_size, progress, done)

        files.write_atomic(output, fill, binary=output.suffix == ".npy", replace=False)
        progress.say(predictor.origin)
        for fault in done.faults[:MOST_FAULTS]:
            progress.say(f"skipped: {fault}")
        skipped = f", {done.read - done.predicted:,} of {done.read:,} skipped" if done.faults else ""
        progress.say(f"{done.predicted:,} rows predicted{skipped}, {progress.rate(done.predicted, 'rows')}: {output}")
    return output


def _check_output(output: Path) -> None:
    if output.suffix not in (".csv", ".npy"):
        raise UserError(f"output={output}: expected a name that ends in .csv or .npy")
    if output.exists():
        raise UserError(f"output={output}: exists already; it is not overwritten, choose another with output=")


def open_input(settings: PredictSettings, source: Path, predictor: Predictor) -> Stream:
    """Return the stream of the input, by its kind.

    Raises:
        UserError: the file does not exist, has an unknown kind, or not the model's shape.
    """
    skip = settings.on_bad_lines == "skip"
    _check_settings(settings, source)
    if source.suffix == ".hea" or (not source.is_file() and source.with_name(f"{source.name}.hea").is_file()):
        cut, lead = _cut(predictor, source)
        return RecordBeats(source, cut, lead, predictor.shape, settings.peaks)
    if not source.is_file():
        there = (
            "a folder"
            if source.is_dir()
            else "a pipe or a device, which cannot be read twice"
            if source.exists()
            else "no such file"
        )
        raise UserError(f"input={source}: {there}; expected {KINDS}")
    if source.suffix == ".npy":
        return NpyRows(source, predictor.shape, skip)
    if source.name.endswith(SUFFIXES):
        spec = ColumnSpec(predictor.shape, predictor.features, predictor.metadata, list(settings.drop), settings.header)
        own = predictor.dataset.get("delimiter")
        return CsvRows(source, spec, settings.delimiter or (own if isinstance(own, str) else "auto"), skip)
    raise UserError(f"input={source}: expected {KINDS}")


def _check_settings(settings: PredictSettings, source: Path) -> None:
    """Check that no setting is given that this kind of input does not read.

    Raises:
        UserError: names the setting.
    """
    unread = (
        {}
        if source.name.endswith(SUFFIXES)
        else {"header": settings.header != "auto", "delimiter": settings.delimiter is not None, "drop": settings.drop}
    )
    if source.name.endswith((*SUFFIXES, ".npy")):
        unread["peaks"] = settings.peaks != "auto"
    for key in (key for key, is_set in unread.items() if is_set):
        kind = "a WFDB record" if key == "peaks" else "a .csv"
        raise UserError(f"{key}={format_value(settings.resolved[key])}: is for {kind}, and input={source} is none; drop it")


def _cut(predictor: Predictor, source: Path) -> tuple[SegmentationSettings, str]:
    """Return the segmentation settings of the run's beats, and their lead."""
    node: Mapping[str, Any] = predictor.dataset
    if node.get("_target_") not in BEATS:
        raise UserError(f"input={source}: a WFDB record needs a run on heartbeats; how others would cut it is not known")
    check_rules(node, CUT_RULES, "config.yaml of the run: dataset.")
    settings = {key.name: node[key.name] for key in fields(SegmentationSettings) if key.name in node}
    lead = node.get("lead")
    return SegmentationSettings(**settings), lead if isinstance(lead, str) else USUAL_LEAD


def _predict_to(
    writer: Writer, stream: Stream, predictor: Predictor, size: int, progress: Progress, done: PredictionSummary
) -> None:
    """Predict all rows into an open file.

    Args:
        writer: writer of the output.
        stream: the input.
        predictor: the model.
        size: rows in a batch.
        progress: progress display.
        done: counts, changed in place.

    Raises:
        UserError: a row cannot be used and bad rows are not skipped, or no row can be used.
    """

    def put(batches: Iterable[RowBlock]) -> None:
        for batch in batches:
            writer.add(batch.where, predictor.probabilities(batch.x))
            done.predicted += len(batch.x)

    waiting = Rebatcher(size)
    for piece in stream.pieces():
        done.faults += piece.faults
        done.read = piece.read
        put(waiting.add(piece))
        progress.move(piece.done, done.predicted)
    put(waiting.rest())
    if not done.predicted:
        raise UserError(f"no row can be used, the first for this: {done.faults[0]}")
    writer.finish(done.read)
