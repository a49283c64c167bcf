"""Beats of a WFDB record with their times, cut as for training.

The cutting is that of the heartbeat data set (data/beats.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.data.beats import SegmentationSettings, cut_beats
from distill_cli.data.wfdb_source import load_wfdb, read_beats, read_header, read_signal
from distill_cli.errors import UserError
from distill_cli.inference.batching import ROW, RowBlock

PEAKS = ("auto", "annotated", "detected")
CHUNK = 4096


class RecordBeats:
    """The beats of a record, a `Stream`.

    The column ``sample`` is the position of the R peak in the record's signal.

    Args:
        path: the record, ``folder/100`` or ``folder/100.hea``.
        cut: settings of the segmentation into beats.
        lead: name of the signal; a record without it uses its first channel.
        shape: shape of one sample.
        peaks: ``annotated`` (100.atr), ``detected``, or ``auto``: annotated if there are annotations.

    Raises:
        UserError: the record cannot be read, has no beats, or its beats have another shape.
    """

    columns: tuple[str, ...] = (ROW, "sample", "seconds")

    def __init__(self, path: Path, cut: SegmentationSettings, lead: str, shape: tuple[int, ...], peaks: str = "auto") -> None:
        root, name = path.parent, path.name.removesuffix(".hea")
        self.shape, self.notes = shape, []
        if int(np.prod(shape, dtype=np.int64)) != cut.window:
            raise UserError(f"{path}: a beat has {cut.window} samples; a sample of this model has shape {list(shape)}")
        header = read_header(root, name)
        signal = read_signal(root, name, header, lead)
        if lead not in header.sig_name:
            self.notes.append(f"The record has no lead {lead}: its first channel, {header.sig_name[0]}, is taken.")
        annotated = peaks == "annotated" or (peaks == "auto" and (root / f"{name}.atr").is_file())
        frequency = float(header.fs)
        positions = read_beats(root, name, frequency)[0] if annotated else detected(signal, frequency, f"{root / name}.dat")
        self.x, inside = cut_beats(signal, frequency, positions, cut)
        self.samples, self.frequency = positions[inside], frequency
        counted = f"{len(positions):,} beats at {'annotated' if annotated else 'detected'} R peaks"
        if not len(self.x):
            raise UserError(f"{root / name}: {counted}, and all run past the end of the record or over missing samples")
        dropped = len(positions) - len(self.x)
        left = f"; {dropped} left out: they run past the end of the record or over missing samples" if dropped else ""
        self.notes.append(f"{counted}{left}.")
        self.total = len(self.x)

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the beats in order."""
        for start in range(0, self.total, CHUNK):
            x, samples = self.x[start : start + CHUNK], self.samples[start : start + CHUNK]
            end = start + len(x)
            where = {ROW: np.arange(start, end), "sample": samples, "seconds": samples / self.frequency}
            yield RowBlock(x.reshape(-1, *self.shape), where, end, end)


def detected(signal: np.ndarray, frequency: float, where: str) -> np.ndarray:
    """Return the R peaks ``[B]`` of a signal by wfdb's detector XQRS.

    Missing samples are interpolated linearly for the detector only.

    Args:
        signal: ``[T]`` in millivolts, NaN where samples are missing.
        frequency: sampling frequency in Hz.
        where: the signal's file, for messages.

    Returns:
        Increasing positions in `signal`.

    Raises:
        UserError: no R peak is detected.
    """
    load_wfdb()
    from wfdb.processing import xqrs_detect

    present = np.isfinite(signal)
    if not present.any():
        raise UserError(f"{where}: every sample of the signal is missing")
    whole = signal if present.all() else np.interp(np.arange(len(signal)), np.flatnonzero(present), signal[present])
    try:
        peaks: Any = xqrs_detect(whole, fs=frequency, verbose=False)
    except (ValueError, IndexError, ZeroDivisionError):  # raised by wfdb for a signal that is too short or flat
        peaks = []
    if not len(peaks):
        raise UserError(f"{where}: no R peak is detected; give annotated ones, or look at the signal")
    return np.unique(np.asarray(peaks, dtype=np.int64))
