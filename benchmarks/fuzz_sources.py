"""What is spoiled: small synthetic files of every format, a finished run, a broken-off one, and lines that read them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz_mutations import IDX, IDX_GZIP, SAFETENSORS, TEXT, Mutation

TEACHER = (
    "device=cpu", "bootstrap.resamples=10", "report.html=false", "teacher.epochs=1", "teacher.batch_size=32", "teacher=mlp",
    "teacher.model.hidden=[8]",
)  # fmt: skip
PAIR = (*TEACHER, "epochs=1", "batch_size=32", "student.model.hidden=[8]", "controls=[]")
RUN = ("distill", *PAIR, "dataset=csv", "dataset.path=csv/table.csv")
UNFINISHED = ("train-teacher", *TEACHER, "teacher.epochs=4", "save_every=1", "dataset=csv", "dataset.path=csv/table.csv")
HEARTBEAT = ("dataset=heartbeat", "dataset.download=false", "dataset.cache=prepared")


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
        files: patterns of what is spoiled, below the folder of sources.
        needs: what a case has beside its file: folders of sources.
        lines: command lines, one of which is drawn; ``{file}`` is the spoiled file.
        mutations: of which one to three are drawn; `by_suffix` goes first.
    """

    files: tuple[str, ...]
    needs: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    mutations: tuple[Mutation, ...]
    by_suffix: tuple[tuple[str, tuple[Mutation, ...]], ...] = ()

    def fitting(self, file: Path) -> tuple[Mutation, ...]:
        """Return the mutations of a file."""
        return dict(self.by_suffix).get(file.suffix, self.mutations)


KINDS = {
    "csv": Kind(
        ("csv/*.csv",), ("csv",),
        (
            ("train-teacher", *TEACHER, "dataset=csv", "dataset.path={file}"),
            ("train-teacher", *TEACHER, "dataset=csv", "dataset.path={file}", "dataset.group=patient", "dataset.label=label"),
            ("train-teacher", *TEACHER, "dataset=csv", "dataset.train={file}", "dataset.test=csv/test.csv"),
            ("train-teacher", *TEACHER, "dataset=csv", "dataset.train=csv/table.csv", "dataset.test={file}"),
            ("distill", *PAIR, "dataset=csv", "dataset.path=csv/table.csv", "dataset.unlabeled={file}"),
            ("distill", *PAIR, "dataset=csv", "dataset.path=csv/table.csv", "teacher.logits_file={file}"),
            ("train-teacher", *TEACHER, *HEARTBEAT, "dataset.root=csv"),
        ), TEXT,
    ),
    "wfdb": Kind(
        ("wfdb/*.hea", "wfdb/*.hea", "wfdb/*.dat", "wfdb/*.atr"), ("wfdb",),
        (("train-teacher", *TEACHER, *HEARTBEAT, "dataset.root=wfdb"),),
        (), ((".hea", TEXT), (".dat", IDX), (".atr", IDX)),
    ),
    "idx": Kind(
        ("idx/*", "idx_gzip/*"), (),
        (("train-teacher", *TEACHER, "dataset=mnist", "dataset.root={folder}"),),
        IDX, ((".gz", IDX_GZIP),),
    ),
    "safetensors": Kind(
        ("run/checkpoint/*.safetensors", "run/checkpoint/rows/*.safetensors", "begun/*/*/resume/*/*.safetensors"), ("csv",),
        (
            ("eval", "device=cpu", "bootstrap.resamples=10", "report.html=false", "run=run"),
            ("export", "device=cpu", "bootstrap.resamples=10", "run=run", "format=safetensors", "output=shipped"),
            ("distill", *PAIR, "dataset=csv", "dataset.path=csv/table.csv", "teacher.run=run"),
            ("distill", *PAIR, "dataset=csv", "dataset.path=csv/table.csv", "teacher.weights={file}"),
        ), SAFETENSORS,
    ),
}  # fmt: skip
RESUMED = (*UNFINISHED, "outputs=begun", "resume=auto")


def make_sources(folder: Path) -> None:
    """Fill a folder with sound files of every format; runs are made by the tool itself."""
    draw = np.random.default_rng(0)
    _tables(folder / "csv", draw)
    _records(folder / "wfdb", draw)
    _images(folder, draw)


def _tables(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir()

    def table(name: str, rows: int, header: str | None, labels: Sequence[object], features: int = 3) -> None:
        lines = [] if header is None else [header]
        for n in range(rows):
            cells = [f"{v:.3f}" for v in draw.normal(size=features) + n % max(1, len(labels))]
            patient = [f"p{n % 12}"] if header is not None and "patient" in header else []
            lines.append(",".join([*cells, *patient, *([str(labels[n % len(labels)])] if labels else [])]))
        (folder / name).write_text("\n".join(lines) + "\n")

    table("table.csv", 60, "x,y,z,label", ["ham", "egg"])
    table("test.csv", 12, "x,y,z,label", ["ham", "egg"])
    table("groups.csv", 60, "x,y,z,patient,label", ["ham", "egg"])
    table("numbers.csv", 40, None, [0, 1, 2])
    table("unlabeled.csv", 20, None, [])
    logits = "".join(f"{n},{v:.3f},{-v:.3f}\n" for n, v in enumerate(draw.normal(size=60)))
    (folder / "outputs.csv").write_text("row,egg,ham\n" + logits)
    table("mitbih_train.csv", 40, None, range(5), 187)
    table("mitbih_test.csv", 15, None, range(5), 187)


def _records(folder: Path, draw: np.random.Generator) -> None:
    import wfdb

    folder.mkdir()
    for name, fmt in (("100", "212"), ("101", "16")):
        signal = draw.normal(size=(7200, 2))
        wfdb.wrsamp(name, 360, ["mV", "mV"], ["MLII", "V5"], p_signal=signal, fmt=[fmt, fmt], write_dir=str(folder))
        beats = np.arange(100, 7000, 200)
        wfdb.wrann(name, "atr", beats, [("N", "A", "V", "F", "Q")[n % 5] for n in range(len(beats))], write_dir=str(folder))


def _images(folder: Path, draw: np.random.Generator) -> None:
    (folder / "idx").mkdir()
    (folder / "idx_gzip").mkdir()
    for part, rows in (("train", 60), ("t10k", 20)):
        images = struct.pack(">IIII", 2051, rows, 8, 8) + draw.integers(0, 256, rows * 64, dtype=np.uint8).tobytes()
        labels = struct.pack(">II", 2049, rows) + bytes(n % 10 for n in range(rows))
        for name, data in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (folder / "idx" / name).write_bytes(data)
            (folder / "idx_gzip" / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
