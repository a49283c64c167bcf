"""Sources of heartbeats: a folder of WFDB records or the Kaggle CSV pair.

Either is turned into prepared arrays.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.data import wfdb_source
from distill_cli.data.arrays import compared_as_numbers
from distill_cli.data.beats import CLASS_NAMES, SegmentationSettings, cut_beats
from distill_cli.data.cache import Arrays, Built, cached_arrays
from distill_cli.data.table import read_table
from distill_cli.errors import UserError
from distill_cli.utils.files import hash_file, hash_json
from distill_cli.utils.locks import file_lock

KAGGLE = {"train": "mitbih_train.csv", "test": "mitbih_test.csv"}
KAGGLE_WINDOW = 187
FORMAT = 2  # raised by hand when the same settings would give other arrays


def find_records(folder: Path, cache: str, download: bool) -> list[str]:
    """Return the names of the records, none for the CSV pair.

    An empty folder is first filled by download.
    """
    names = wfdb_source.record_names(folder)
    if names or all((folder / f).is_file() for f in KAGGLE.values()):
        return names
    tried = ""
    if download and not any(folder.iterdir()):
        with file_lock(Path(cache) / "heartbeat-download.lock"):
            if wfdb_source.record_names(folder) or wfdb_source.download_records(folder):
                return wfdb_source.record_names(folder)
        tried = " (no network to download them)"
    raise UserError(
        f"{folder}: no WFDB records here{tried}; put the MIT-BIH records (100.hea, 100.dat, 100.atr, ...) there, "
        f"or {KAGGLE['train']} and {KAGGLE['test']}"
    )


def from_records(
    folder: Path, names: list[str], lead: str, cut: SegmentationSettings, cache: str
) -> tuple[Arrays, dict[str, Any], str]:
    """Return the beats of WFDB records, facts for the report, and the fingerprint."""
    fingerprint = wfdb_source.source_fingerprint(folder, names)
    settings = {"source": fingerprint, "lead": lead, **asdict(cut), "format": FORMAT}
    arrays, facts = cached_arrays(cache, "heartbeat", settings, lambda: cut_records(folder, names, lead, cut))
    return arrays, facts, fingerprint


def cut_records(folder: Path, names: list[str], lead: str, cut: SegmentationSettings) -> Built:
    """Cut every record into beats.

    Arrays: ``x [N, 1, window]``, ``y``, ``index`` (running number of the annotated beat) and ``record``.
    """
    headers = {name: wfdb_source.read_header(folder, name) for name in names}
    without = wfdb_source.check_lead(lead, headers)
    x, y, index, record, beats = [], [], [], [], 0
    for name, header in headers.items():
        signal, samples, classes = wfdb_source.read_record(folder, name, header, lead)
        rows, usable = cut_beats(signal, float(header.fs), samples, cut)
        x.append(rows)
        y.append(classes[usable])
        index.append(beats + np.flatnonzero(usable))
        record.append(np.full(len(rows), name))
        beats += len(samples)
    arrays = {
        "x": np.concatenate(x)[:, None],
        "y": np.concatenate(y),
        "index": np.concatenate(index),
        "record": np.concatenate(record),
    }
    notes, dropped = [], beats - len(arrays["y"])
    if dropped:
        notes.append(
            f"{dropped} of {beats:,} annotated beats are left out: they run past the end of their record or over missing samples."
        )
    if without:
        notes.append(f"Records without lead {lead} give their first channel: {', '.join(without)}.")
    return arrays, {"notes": notes}


def from_kaggle(folder: Path, cache: str) -> tuple[Arrays, dict[str, Any], str]:
    """Return the beats of the CSV pair, facts for the report, and the fingerprint."""
    fingerprint = hash_json({part: hash_file(folder / file) for part, file in KAGGLE.items()})
    settings = {"source": fingerprint, "format": FORMAT}
    arrays, facts = cached_arrays(cache, "heartbeat", settings, lambda: read_kaggle(folder))
    return arrays, facts, fingerprint


def read_kaggle(folder: Path) -> Built:
    """Read the pair of CSV files: 187 samples and the class 0..4 a row, no header."""
    tables = {part: read_table(folder / file, header=False, delimiter=",") for part, file in KAGGLE.items()}
    labels = {part: compared_as_numbers(table.labels)[0] for part, table in tables.items()}
    for part, table in tables.items():
        if table.x.shape[1] != KAGGLE_WINDOW:
            raise UserError(f"{table.path}: {table.x.shape[1] + 1} columns; a heartbeat CSV has {KAGGLE_WINDOW + 1}")
        wrong = sorted(set(labels[part].tolist()) - {str(c) for c in range(len(CLASS_NAMES))})
        if wrong:
            raise UserError(
                f"{table.path}: class '{wrong[0]}' in the last column; heartbeat classes are 0 to {len(CLASS_NAMES) - 1}"
            )
    x = np.concatenate([t.x for t in tables.values()])[:, None]
    y = np.concatenate(list(labels.values())).astype(np.int64)
    notes = ["Read from the CSV pair: its test file is the test split, and patients are not known."]
    return {"x": x, "y": y, "index": np.arange(len(y))}, {"notes": notes, "train_rows": len(tables["train"].labels)}
