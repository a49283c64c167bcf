"""Layout of a run folder: its files, the finished state, the registry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor, int64, nn

from distill_cli import RECIPE_VERSION
from distill_cli.data.leakage import TrainRecord
from distill_cli.errors import UserError
from distill_cli.utils import files

REPORT = "report.json"
CONFIG = "config.yaml"
MODELS = "checkpoint/model.json"
SAMPLES = "samples.json"
EPOCHS = "metrics.csv"
TEACHER_EPOCHS = "teacher_metrics.csv"
REGISTER = "teachers"
RESUME_DIR = "resume"  # of an unfinished run: training states and run.json
# All files and folders that a run writes.
RUN_FILES = (
    "checkpoint", CONFIG, SAMPLES, EPOCHS, TEACHER_EPOCHS, RESUME_DIR, REPORT, "report.md", "report.html", "predictions.csv",
    "plots", "tensorboard",
)  # fmt: skip
LARGEST_JSON = 1 << 28
# Files that sweepers write into the folder of their jobs: Hydra's own, and those of optuna, ax and nevergrad.
OF_A_SWEEP = ("multirun.yaml", "optimization_results.yaml")
BEST = "best"  # SWEEP/best: the run of a sweep that is first by validation


def weights_file(folder: Path, name: str) -> Path:
    """Return the path of a model's weights."""
    return folder / "checkpoint" / f"{files.safe_name(name)}.safetensors"


def train_record_file(folder: Path, name: str) -> Path:
    """Return the path of the record of a model's training rows."""
    return folder / "checkpoint" / "rows" / f"{files.safe_name(name)}.safetensors"


def is_finished(folder: Path) -> bool:
    """Return whether a run is finished, that is, has a report.json.

    The report is written last.
    """
    return (folder / REPORT).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        UserError: the file is missing, too large, no JSON, or no object.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UserError(f"{path}: larger than any file this tool writes; not read")
        value = json.loads(files.read_text(path, LARGEST_JSON))
    except OSError as e:
        raise UserError(f"{path}: cannot read ({e.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not valid JSON; the file is damaged") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object; the file is damaged")
    return value


def model_metrics(report: Mapping[str, Any], name: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return some of a model's figures in a report.

    Figures that are missing or damaged are left out.
    """
    models = report.get("models")
    figures = models.get(name) if isinstance(models, Mapping) else None
    return {k: figures[k] for k in keys if k in figures} if isinstance(figures, Mapping) else {}


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds the jobs of a sweep."""
    return any((folder / name).is_file() for name in OF_A_SWEEP) or any(map(_is_job, folder.glob("*/.hydra/hydra.yaml")))


def _is_job(settings: Path) -> bool:
    """Return whether Hydra's settings belong to a job of the sweep in this folder."""
    try:
        text = files.read_text(settings, LARGEST_JSON)
    except (OSError, ValueError):
        return False
    place = re.search(r"^    output_dir: (.+)$", text, re.M)
    name = settings.parents[2].resolve().name
    return place is not None and Path(place[1]).parent.name == name and re.search("^  mode: MULTIRUN$", text, re.M) is not None


def resolve_run(path: str | Path, option: str) -> Path:
    """Return the run folder at `path`, or the newest finished one below it.

    Only runs that hold models count.

    Args:
        path: a run folder, or a folder of single runs.
        option: name of the option, for messages.

    Raises:
        UserError: the folder does not exist, is no run, is unfinished, holds no models, or is or holds a sweep.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{option}={path}: no such folder")
    if is_finished(folder):
        if not (folder / MODELS).is_file():
            raise UserError(f"{option}={path}: this run holds no models (no {MODELS}); give the run that trained them")
        return folder
    if (folder / CONFIG).is_file() or (folder / ".hydra").is_dir():
        raise UserError(f"{option}={path}: this run is unfinished (it has no {REPORT}); run it again or choose another")
    reports = [report for report in folder.glob(f"**/{REPORT}") if (report.parent / MODELS).is_file()]
    finished = sorted(reports, key=lambda report: report.stat().st_mtime)
    if not finished:
        raise UserError(f"{option}={path}: not a run folder, and no finished run below it (no {REPORT})")
    refuse_sweep(folder, [report.parent for report in finished], option)
    return finished[-1].parent


def refuse_sweep(folder: Path, below: Iterable[Path], option: str) -> None:
    """Raise an error if a folder is or holds a sweep.

    Why: the newest job of a sweep is only the one that ended last.

    Args:
        folder: the folder as typed.
        below: the runs in it.
        option: name of the option, for messages.

    Raises:
        UserError: the folder is or holds a sweep; the message names the ways to choose a run.
    """
    for run in below:
        above = [place for place in (run.parent, *run.parent.parents) if place == folder or folder in place.parents]
        for place in (place for place in above if is_sweep(place)):
            what = "is a sweep" if place == folder else f"holds a sweep, {place}"
            raise UserError(
                f"{option}={folder}: {what}, and no run of it stands for the others; choose {option}={place / BEST} "
                f"(first by validation), or one run's folder, such as {option}={run}"
            )


def save_model(folder: Path, name: str, model: nn.Module) -> None:
    """Write a model's weights."""
    files.write_arrays(weights_file(folder, name), model.state_dict())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; the run folder is incomplete")
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, ValueError, OSError) as e:
        raise UserError(f"{path}: not a readable safetensors file ({str(e).splitlines()[0]})") from None


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that tensors have the names and shapes of a model's state.

    Args:
        model: model, on any device including ``meta``.
        tensors: tensors by name.
        where: the file, for messages.

    Raises:
        UserError: names the first tensor whose name or shape differs.
    """
    expected = model.state_dict()
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        differences = [f"lacks '{missing[0]}'" if missing else "", f"has an unknown '{unknown[0]}'" if unknown else ""]
        raise UserError(f"{where}: architecture mismatch: {' and '.join(w for w in differences if w)}")
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            raise UserError(
                f"{where}: architecture mismatch: '{name}' has shape {tuple(tensors[name].shape)}, "
                f"the model needs {tuple(tensor.shape)}"
            )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load tensors into a model.

    Raises:
        UserError: names the first tensor whose name or shape differs.
    """
    check_weights(model, tensors, where)
    model.load_state_dict(dict(tensors))


def save_train_record(folder: Path, name: str, rows: TrainRecord) -> None:
    """Write the record of a model's training rows."""
    metadata = {"source_fingerprint": rows.source_fingerprint, "groups": json.dumps(rows.groups)}
    files.write_arrays(
        train_record_file(folder, name), {"index": rows.index, "row_hashes": rows.row_hashes.view(np.int64)}, metadata
    )


def read_train_record(folder: Path, name: str) -> TrainRecord:
    """Return the record of a model's training rows.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = train_record_file(folder, name)
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as f:
        metadata = f.metadata() or {}
    try:
        groups = json.loads(metadata["groups"])
        hashes = tensors["row_hashes"].numpy()
        sound = tensors["index"].dtype == int64 and hashes.dtype == np.int64 and isinstance(groups, list | None)
    except (KeyError, ValueError):
        sound = False
    if not sound or "source_fingerprint" not in metadata:
        raise UserError(f"{path}: not a record of training rows; the run folder is damaged")
    hashes = hashes.view(np.uint64)
    return TrainRecord(metadata["source_fingerprint"], tensors["index"].numpy(), groups, hashes)


def register(outputs: Path, key: str, folder: Path) -> None:
    """Register a finished teacher or generation by its key.

    Args:
        outputs: folder of all runs, which holds the registry.
        key: key of the teacher or generation.
        folder: its run folder.
    """
    entry, started = outputs / REGISTER / f"{key}.json", outputs / REGISTER / f"{key}.begun.json"
    files.write_json(entry, {"folder": str(relative(folder, outputs))})
    started.unlink(missing_ok=True)
    files.remove_stale_temporaries(started)


def mark_started(outputs: Path, key: str, name: Path) -> None:
    """Register the name of the folder in which a teacher or generation is trained."""
    files.write_json(outputs / REGISTER / f"{key}.begun.json", {"name": str(name)})


def started_run(outputs: Path, key: str) -> Path | None:
    """Return the folder name that `mark_started` registered last, or None."""
    entry = outputs / REGISTER / f"{key}.begun.json"
    return Path(files.safe_name(str(read_json(entry).get("name")))) if entry.is_file() else None


def registered(outputs: Path, key: str, field: str = "teacher_key") -> Path | None:
    """Return the finished run of a key, or None.

    The run must exist, hold the key in the `field` of its report, and have this recipe version.
    """
    entry = outputs / REGISTER / f"{key}.json"
    if not entry.is_file():
        return None
    folder = outputs / str(read_json(entry).get("folder"))
    if not is_finished(folder):
        return None
    report = read_json(folder / REPORT)
    return folder if report.get(field) == key and report.get("recipe_version") == RECIPE_VERSION else None


def relative(folder: Path, start: Path) -> Path:
    """Return `folder` relative to `start` if it lies below, else absolute."""
    folder, start = folder.resolve(), start.resolve()
    return folder.relative_to(start) if folder.is_relative_to(start) else folder
