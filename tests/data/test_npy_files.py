"""A file a sample: what the data set is, and that worker processes change nothing but the time it takes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran

from distill_cli.data.leakage import row_hashes
from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.npy_files import NpyFiles, npy_files
from distill_cli.data.stored_views import StoredViews
from distill_cli.data.unlabeled import UnlabeledRows, append_unlabeled
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.types import Dataset, Pool

CPU = torch.device("cpu")
SHAPE = (2, 12)
RUN = (
    "distill", "dataset=npy_files", "device=cpu", "device.max_device_gb=0", "teacher=mlp_small", "student=mlp_small", "epochs=2",
    "teacher.epochs=2", "batch_size=16", "teacher.batch_size=16", "bootstrap.resamples=50", "report.html=false",
    "teacher.preprocessing=standardize", "student.preprocessing=standardize", "augment=shift", "augment.shift=1", "mixup=beta",
    "student.model.dropout=0.3",
)  # fmt: skip


def write_files(root: Path, per_class: int = 20) -> Path:
    """Write noise around three waves, one file a sample."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("10", "9", "cat")):
        (root / name).mkdir(parents=True)
        for at in range(per_class):
            wave = np.sin(np.arange(SHAPE[1]) * (number + 1))
            np.save(root / name / f"{at:03}.npy", (2 * wave + draw.normal(size=SHAPE)).astype(np.float32))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_files(tmp_path / "files")


class Witness(NpyFiles):
    """Rows that hold the id of the process that read them."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.full((len(rows), *self.shape[1:]), os.getpid(), dtype=np.float32)


class Counting(NpyFiles):
    """Rows that are counted when they are read."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read: list[int] = []

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.read += rows.tolist()
        return super().__getitem__(rows)


def loader(pool: Pool, workers: int) -> SubsetLoader:
    return SubsetLoader(pool, 3, CPU, 0.0, workers)


def no_children() -> bool:
    """Return whether the workers are gone, which may take them a moment."""
    end = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return not multiprocessing.active_children()


# The data set


def test_classes_are_folders_and_rows_are_files_in_their_order(root: Path) -> None:
    (root / ".hidden").mkdir()
    (root / "cat" / "._000.npy").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("no sample")
    data = npy_files(str(root))
    check_dataset(data)
    assert data.class_names == ("10", "9", "cat") and data.input_shape == SHAPE
    assert [len(data.train), len(data.val), len(data.test)] == [41, 7, 12]
    assert sorted(np.concatenate([pool.index for pool in data.pools.values()]).tolist()) == list(range(60))
    for name, row in (("10", 0), ("cat", 40)):
        assert np.array_equal(data.train.source[np.array([row])][0], np.load(root / name / "000.npy"))
    assert all(len(np.unique(pool.y)) == 3 for pool in data.pools.values())


def test_the_split_moves_with_its_seed_and_the_fingerprint_with_a_byte(root: Path) -> None:
    first, other = npy_files(str(root)), npy_files(str(root), split_seed=1)
    assert first.source_fingerprint == other.source_fingerprint and first.fingerprint != other.fingerprint
    assert npy_files(str(root.rename(root.with_name("moved")))).fingerprint == first.fingerprint
    file = root.with_name("moved") / "9" / "003.npy"
    np.save(file, np.load(file) + 1)
    assert npy_files(str(root.with_name("moved"))).source_fingerprint != first.source_fingerprint


def test_whole_numbers_and_float64_become_float32(root: Path) -> None:
    np.save(root / "10" / "000.npy", np.full(SHAPE, 3, dtype=np.uint8))
    np.save(root / "10" / "001.npy", np.full(SHAPE, 0.1))
    rows = npy_files(str(root)).train.source[np.array([0, 1])]
    assert rows.dtype == np.float32 and rows[0, 0, 0] == 3 and rows[1, 0, 0] == np.float32(0.1)


def test_leakage_hashes_are_of_the_content_wherever_it_lies(root: Path) -> None:
    """A teacher that was trained on the same samples in one array must be refused as well."""
    pool = npy_files(str(root)).train
    as_array = replace(pool, source=pool.source[np.arange(60)])
    assert np.array_equal(row_hashes(pool), row_hashes(as_array))


def spoil(root: Path, fault: str) -> None:
    file = root / "9" / "004.npy"
    match fault:
        case "no folder":
            root.rename(root.with_name("elsewhere"))
        case "no classes":
            for folder in root.iterdir():
                folder.rename(root.with_name(folder.name))
        case "one class":
            for name in ("9", "cat"):
                (root / name).rename(root.with_name(name))
        case "an empty class":
            (root / "dog").mkdir()
        case "two files":
            for file in sorted((root / "cat").iterdir())[2:]:
                file.unlink()
        case "text":
            file.write_text("no array")
        case "cut short":
            file.write_bytes(file.read_bytes()[:-8])
        case "empty":
            file.write_bytes(b"")
        case "objects":
            np.save(file, np.array([{}], dtype=object), allow_pickle=True)
        case "complex":
            np.save(file, np.zeros(SHAPE, dtype=complex))
        case "shape":
            np.save(file, np.zeros((2, 11)))
        case "nan":
            np.save(file, np.full(SHAPE, np.nan))
        case "number":
            np.save(root / "10" / "000.npy", np.float32(1))


FAULTS = {
    "no folder": r"dataset\.root=.*files: no such folder; name",
    "no classes": r"dataset\.root=.*files: no folders; a classifier needs",
    "one class": r"dataset\.root=.*files: one class only \('10'\); a classifier needs",
    "an empty class": r".*files/dog: no \.npy files; a class needs 3",
    "two files": r".*files/cat: 2 \.npy files; a class needs 3",
    "text": r".*9/004\.npy: not a plain \.npy array, or damaged; write it again",
    "cut short": r".*9/004\.npy: not a plain \.npy array, or damaged",
    "empty": r".*9/004\.npy: not a plain \.npy array, or damaged",
    "objects": r".*9/004\.npy: not a plain \.npy array, or damaged",
    "complex": r".*9/004\.npy: holds complex128; real numbers",
    "shape": r".*9/004\.npy: an array of shape \(2, 11\), .*10/000\.npy has \(2, 12\)",
    "nan": r".*9/004\.npy: holds NaN or an infinite value",
    "number": r".*10/000\.npy: an array of shape \(\); a sample has one axis",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_line_that_names_it(fault: str, root: Path) -> None:
    spoil(root, fault)
    with pytest.raises(UserError, match=f"^{FAULTS[fault]}"):
        npy_files(str(root))


def test_a_line_names_the_first_odd_file(root: Path, distill: Callable[..., Ran]) -> None:
    spoil(root, "cut short")
    ran = distill(*RUN, f"dataset.root={root}")
    assert ran.code == 2 and len(ran.err.strip().splitlines()) == 1 and "9/004.npy: not a plain .npy array" in ran.err
    assert distill(*RUN, f"dataset.root={root}", "device.workers=-1").code == 2


# Worker processes


@pytest.fixture
def data(root: Path) -> Dataset:
    return npy_files(str(root))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers: int, data: Dataset) -> None:
    pool = data.train
    plan = list(EpochBatchSampler(pool.y, 8, seed=3).epoch(1))
    alone, helped, resident = loader(pool, 0), loader(pool, workers), SubsetLoader(pool, 3, CPU, workers=workers)
    assert helped.workers == workers and resident.workers == 0
    state = torch.get_rng_state()
    for a, b, c in zip(*(rows.iter_batches(plan) for rows in (alone, helped, resident)), strict=True):
        for name in ("inputs", "target", "index", "labeled", "position"):
            assert torch.equal(getattr(a, name), getattr(b, name)) and torch.equal(getattr(a, name), getattr(c, name))
    assert torch.equal(torch.cat(list(helped.iter_inputs(7))), torch.cat(list(resident.iter_inputs(7))))
    assert torch.equal(torch.get_rng_state(), state)  # DataLoader draws a seed: not from the run's stream
    assert no_children()


@pytest.mark.parametrize(("shift", "alpha"), [(1, 0.0), (1, 0.5)])
def test_stored_views_are_the_same_with_workers(shift: int, alpha: float, data: Dataset) -> None:
    plan = list(torch.arange(len(data.train)).split(16))
    views = [StoredViews(loader(data.train, workers), 2, shift, alpha, seed=1) for workers in (0, 2)]
    for a, b in zip(*(view.iter_batches(plan, 1) for view in views), strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target) and a.view == b.view == 1


def test_workers_read_what_is_decoded_and_nothing_else(data: Dataset) -> None:
    source = data.train.source
    assert isinstance(source, NpyFiles)
    plan = list(torch.arange(40).split(8))
    readers = replace(data.train, source=Witness(source.root, source.names, SHAPE))
    pids = {float(batch.inputs[0, 0, 0]) for batch in loader(readers, 2).iter_batches(plan)}
    assert float(os.getpid()) not in pids and len(pids) == 2
    assert loader(replace(data.train, source=source[np.arange(60)]), 2).workers == 0
    extra = UnlabeledRows("array", np.zeros((4, *SHAPE), np.float32), np.arange(4), "")
    assert loader(append_unlabeled(data.train, extra, data), 2).workers == 0  # an array is not copied to workers
    files = UnlabeledRows("files", source, np.arange(4), "")
    assert loader(append_unlabeled(data.train, files, data), 2).workers == 2
    assert len(pickle.dumps(source)) < 2000


def test_a_file_that_breaks_while_training_is_one_line_and_ends_the_workers(data: Dataset, root: Path) -> None:
    spoil(root, "cut short")
    rows = loader(data.train, 2)
    with pytest.raises(UserError, match=r"^[^\n]*9/004\.npy: not a plain \.npy array[^\n]*$"):
        list(rows.iter_batches(torch.arange(len(data.train)).split(4)))
    assert no_children()
    (root / "9" / "004.npy").unlink()
    with pytest.raises(UserError, match=r"9/004\.npy: cannot read this file"):
        list(rows.iter_inputs(4))


def test_workers_end_when_nobody_goes_on_reading(data: Dataset) -> None:
    batches = loader(data.train, 2).iter_batches(list(torch.arange(40).split(2)))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()  # type: ignore[attr-defined]
    assert no_children()


def test_a_worker_that_dies_is_one_line_and_no_traceback(data: Dataset) -> None:
    batches = loader(data.train, 2).iter_batches(list(torch.arange(40).split(1)))
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(UserError, match=r"^device\.workers=2: a worker process ended before its time"):
        list(batches)


def test_where_a_signal_ends_the_workers_the_main_process_reads_on(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_cli.data.workers.stop_requested", lambda: signal.SIGTERM)
    plan = list(torch.arange(40).split(1))
    batches = loader(data.train, 2).iter_batches(plan)
    read = [next(batches)]
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGTERM)
    read += batches
    assert torch.equal(torch.cat([batch.inputs for batch in read]), torch.from_numpy(data.train.x[:40]))


def test_a_source_that_cannot_be_sent_is_one_line(data: Dataset) -> None:
    source = data.train.source
    assert isinstance(source, NpyFiles)
    source.handle = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^device\.workers=1: this data cannot be sent to a worker .*; set device\.workers=0$"):
        list(loader(data.train, 1).iter_inputs(8))


def test_a_training_that_goes_on_decodes_no_batch_that_it_has_seen(data: Dataset) -> None:
    from distill_cli.training.trainer import Trainer

    source = data.train.source
    assert isinstance(source, NpyFiles)
    counting = Counting(source.root, source.names, SHAPE)
    pool = replace(data.train, source=counting)
    sampler = EpochBatchSampler(pool.y, 8, seed=0)
    unused: Any = None
    loop = Trainer("student", unused, loader(pool, 0), sampler, [], unused, 0, unused)
    seen = list(loop.batches(0, first=3))
    assert [batch.index.tolist() for batch in seen] == [pool.index[at].tolist() for at in list(sampler.epoch(0))[3:]]
    assert len(counting.read) == sum(len(batch.index) for batch in seen)


def numbers(folder: Path) -> tuple[Any, ...]:
    """Return all of a finished run that does not depend on the time or on the number of workers."""
    report = json.loads((folder / "report.json").read_text())
    weights = {path.name: path.read_bytes() for path in (folder / "checkpoint").glob("*.safetensors")}
    models = {name: {split: model[split] for split in ("val", "test")} for name, model in report["models"].items()}
    return weights, models, report["comparison"], report["data"], (folder / "predictions.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("cache.views=2",)])
def test_the_report_is_the_same_with_any_number_of_workers(
    more: tuple[str, ...], root: Path, distill: Callable[..., Ran]
) -> None:
    runs = []
    for workers in (0, 1, 2):
        ran = distill(*RUN, *more, f"dataset.root={root}", f"device.workers={workers}", f"outputs=out{workers}")
        assert ran.code == 0, ran.err
        runs.append(numbers(ran.folder))
    assert runs[0] == runs[1] == runs[2] and len(runs[0][0]) == 3
    assert no_children()


class Killed(BaseException):
    """What no handler of ours sees."""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_bit_with_other_workers(
    root: Path, distill: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (*RUN, f"dataset.root={root}", "device.threads=1", "save_every=2")
    whole = distill(*line, "outputs=whole")
    assert whole.code == 0, whole.err
    line = (*line, "outputs=broken", "hydra.run.dir=broken/run")
    save, count = CheckpointManager.save, iter(range(1, 1000))

    def saving(self: CheckpointManager, state: Any) -> None:
        save(self, state)
        if next(count) == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "save", saving)
        with pytest.raises(Killed):
            distill(*line, "device.workers=1")
    assert no_children()
    ran = distill(*line, "device.workers=2", "resume=auto")
    assert ran.code == 0, ran.err
    assert "going on after epoch" in ran.out + ran.err
    assert numbers(ran.folder) == numbers(whole.folder)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_ends_every_process_and_keeps_the_state(to_all: bool, root: Path, tmp_path: Path) -> None:
    package = Path(__file__).resolve().parents[2]
    line = [*RUN, f"dataset.root={root}", "device.workers=2", "save_every=3", "hydra.run.dir=run", "teacher.epochs=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "distill_cli", *line], cwd=tmp_path, start_new_session=True, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (states := list(tmp_path.glob("**/resume/teacher/state-*"))) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert states and process.returncode == 128 + signal.SIGTERM and "Traceback" not in said, said
    assert said.strip().splitlines()[-1].startswith("distill distill: interrupted by SIGTERM"), said
    assert session_ended(process.pid)


def session_ended(group: int) -> bool:
    """Return whether workers, fork server and resource tracker are gone, which may take them a moment."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
