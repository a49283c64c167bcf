"""MIT-BIH heartbeats in five AAMI classes.

Cut from WFDB records or read from the Kaggle pair of CSV files.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from distill_cli.data.arrays import from_source
from distill_cli.data.beats import CLASS_NAMES, SegmentationSettings
from distill_cli.data.heartbeat_source import find_records, from_kaggle, from_records
from distill_cli.data.splits import check_fraction, cut_validation, stratified_mask, stratified_rows
from distill_cli.errors import UserError, did_you_mean
from distill_cli.types import Dataset

# de Chazal, O'Dwyer and Reilly 2004 (doi:10.1109/TBME.2004.827359); the paced 102 104 107 217 are left out.
DS1 = [
    str(r) for r in (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
]
DS2 = [
    str(r) for r in (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
]
VALIDATION = [str(r) for r in (114, 124, 205, 207, 223)]
SAME_PERSON = {"202": "201"}
TUTORIAL_VALIDATION = 0.2
SPLITS = ("random", "inter_patient", "tutorial")


def heartbeat(
    root: str,
    split: str = "random",
    split_seed: int = 0,
    lead: str = "MLII",
    rate: int = 125,
    window: int = 187,
    beat: float = 1.2,
    rr_window_seconds: float = 10,
    normalise: str = "minmax_beat",
    test_fraction: float = 0.2,
    val_fraction: float = 0.1,
    cache: str = "data",
    download: bool = True,
) -> Dataset:
    """Load heartbeats, samples of shape [1, window], classes N S V F Q.

    Sample ids number the annotated beats of the whole source.

    Args:
        root: folder of WFDB records (.hea, .dat, .atr), or of mitbih_train.csv and mitbih_test.csv; empty: downloaded.
        split: ``random`` over beats (published protocol: the same patient trains and tests), ``inter_patient`` (de Chazal
            2004), or ``tutorial`` (random, with validation taken from test, as the tutorial did).
        split_seed: seed of the random splits, 0 or more.
        lead: name of the signal; of records without this lead the first channel is used.
        rate, window, beat, rr_window_seconds, normalise: see `beats.SegmentationSettings`; not used for the CSV pair, which holds
            cut beats.
        test_fraction: share of test in all beats; not used for the CSV pair, whose test file is the test split.
        val_fraction: share of validation in the beats that are not test; not used in ``inter_patient`` and ``tutorial``.
        cache: folder of prepared arrays.
        download: whether an empty `root` is filled from PhysioNet.

    Raises:
        UserError: no folder, no records, a broken record, an unknown lead, or a setting out of range.
    """
    cut = SegmentationSettings(rate, window, beat, rr_window_seconds, normalise)
    check_fraction("test_fraction", test_fraction)
    check_fraction("val_fraction", val_fraction)
    if split not in SPLITS:
        raise UserError(f"heartbeat: no split '{split}'{did_you_mean(split, SPLITS)} (splits: {', '.join(SPLITS)})")
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(
            f"{root}: no such folder; set dataset.root to the folder of the WFDB records (an empty one is filled by download)"
        )
    names = find_records(folder, cache, download)
    if names:
        arrays, facts, fingerprint = from_records(folder, names, lead, cut, cache)
    else:
        arrays, facts, fingerprint = from_kaggle(folder, cache)
    record = arrays.get("record")
    if split == "inter_patient":
        if record is None:
            raise UserError(
                f"{root}: the CSV pair does not say which patient a beat is from; inter_patient needs the WFDB records"
            )
        rows = inter_patient_rows(root, np.asarray(record))
    else:
        rows = _random_rows(np.asarray(arrays["y"]), facts.get("train_rows"), split, split_seed, test_fraction, val_fraction)
    return from_source(
        "heartbeat",
        arrays["x"],
        np.asarray(arrays["y"]),
        rows,
        class_names=CLASS_NAMES,
        source_fingerprint=fingerprint,
        settings={"lead": lead, **asdict(cut)} if names else {},
        index=np.asarray(arrays["index"]),
        group=None if record is None else patients(np.asarray(record)),
        averaged=range(4) if split == "inter_patient" else None,
        grouped=split == "inter_patient",
        split=split,
        notes=[*facts["notes"], *_NOTES[split]],
    )


_NOTES = {
    "random": ("Beats are split at random: the same patients are in train, validation and test.",),
    "inter_patient": (
        "Patients of test (DS2) are not in train (DS1), but for one: records 201 (DS1) and 202 (DS2) are the same person; "
        "test_without_202 leaves that person out.",
        "Q has too few beats in DS1 and DS2 to be averaged in macro F1.",
    ),
    "tutorial": (
        "Beats are split at random: the same patients are in train, validation and test.",
        "Validation is a fifth of the test split, as in the tutorial: what is chosen on it has seen those test rows.",
    ),
}


def patients(record: np.ndarray) -> np.ndarray:
    """Return the patient of each beat.

    The patient is the record, except that 201 and 202 are one person.
    """
    person = record.copy()
    for second_record, first_record in SAME_PERSON.items():
        person[record == second_record] = first_record
    return person


def inter_patient_rows(root: str, record: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of the inter-patient split.

    Train is DS1 without the five validation records, test is DS2, and an extra test set is DS2 without record 202.
    """
    missing = sorted(set(DS1 + DS2) - set(record.tolist()))
    if missing:
        raise UserError(f"{root}: inter_patient needs the 44 records of DS1 and DS2; without beats: {', '.join(missing)}")
    parts = {
        "train": [r for r in DS1 if r not in VALIDATION],
        "val": VALIDATION,
        "test": DS2,
        "test_without_202": [r for r in DS2 if r != "202"],
    }
    return {k: np.flatnonzero(np.isin(record, names)) for k, names in parts.items()}


def _random_rows(
    y: np.ndarray, train_rows: int | None, split: str, split_seed: int, test_fraction: float, val_fraction: float
) -> dict[str, np.ndarray]:
    """Return the rows of a random split over beats.

    `train_rows`: number of training rows, which come first, of a source that is already split.
    """
    if train_rows is None:
        rows = stratified_rows(y, test_fraction, val_fraction, split_seed)
    else:
        rows = {**cut_validation(y, np.arange(train_rows), val_fraction, split_seed), "test": np.arange(train_rows, len(y))}
    if split == "random":
        return rows
    test = rows["test"]
    val = test[stratified_mask(y[test], TUTORIAL_VALIDATION, split_seed, "tutorial_validation")]
    return {"train": np.sort(np.concatenate([rows["train"], rows["val"]])), "val": val, "test": test}
