"""Segmentation of an ECG signal with annotated beats, one row a beat.

Kachuee et al. 2018, arXiv:1805.00794, section III.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from distill_cli.errors import UserError

CLASS_NAMES = ("N", "S", "V", "F", "Q")
AAMI = {symbol: c for c, symbols in enumerate(("NLRej", "AaJS", "VE", "F", "/fQ")) for symbol in symbols}
"""Class of each annotated beat (ANSI/AAMI EC57). Other symbols are no beats."""
NORMALISATIONS = ("minmax_beat", "minmax_window", "none")
USUAL_INTERVAL_SECONDS = 0.8


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of the segmentation into beats.

    Attributes:
        rate: samples per second after resampling, 20..1000.
        window: samples of a row, 8..4096; shorter beats are padded with zeros, longer ones end there.
        beat: length of a beat as a multiple of the local median RR interval, above 0 and at most 4.
        rr_window_seconds: length of the fixed windows in which the median is taken, 1..3600.
        normalise: ``minmax_beat`` scales each beat to 0..1, ``minmax_window`` by the extremes of its fixed window,
            ``none`` leaves millivolts.
    """

    rate: int = 125
    window: int = 187
    beat: float = 1.2
    rr_window_seconds: float = 10
    normalise: str = "minmax_beat"

    def __post_init__(self) -> None:
        for name, low, high in (("rate", 20, 1000), ("window", 8, 4096), ("rr_window_seconds", 1, 3600)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"heartbeat: {name} must be {low} to {high}, got {getattr(self, name)}")
        if not 0 < self.beat <= 4:
            raise UserError(f"heartbeat: beat must be above 0 and at most 4, got {self.beat}")
        if self.normalise not in NORMALISATIONS:
            raise UserError(f"heartbeat: normalise must be one of {', '.join(NORMALISATIONS)}, got '{self.normalise}'")


def beat_lengths(positions: np.ndarray, cut: SegmentationSettings) -> np.ndarray:
    """Return the length of each beat in samples.

    `beat` times the median RR interval of the beat's fixed window.

    In a window of two beats or fewer the interval is taken as 0.8 s (100 samples at 125 Hz).
    """
    window = positions // max(1, round(cut.rr_window_seconds * cut.rate))
    lengths = np.empty(len(positions), dtype=np.int64)
    for w in np.unique(window):
        members = window == w
        interval = np.median(np.diff(positions[members])) if members.sum() > 2 else round(USUAL_INTERVAL_SECONDS * cut.rate)
        lengths[members] = max(1, int(cut.beat * interval))
    return lengths


def cut_beats(
    signal: np.ndarray, frequency: float, samples: np.ndarray, cut: SegmentationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Cut beats that start at their R peak.

    Args:
        signal: ``[T]`` millivolts; NaN where a sample is missing.
        frequency: sampling frequency of `signal` in Hz.
        samples: ``[B]`` R peaks as positions in `signal`, ascending.
        cut: settings of the segmentation.

    Returns:
        ``[K, window]`` float32 rows, and a mask ``[B]`` of the K usable beats: a beat that runs past the record's end or over
        missing samples is dropped.
    """
    from scipy.signal import resample_poly

    ratio = Fraction(cut.rate / frequency).limit_denominator(10_000)
    signal = resample_poly(signal, ratio.numerator, ratio.denominator)
    positions = np.round(samples * cut.rate / frequency).astype(np.int64)
    lengths = beat_lengths(positions, cut)
    usable = (positions >= 0) & (positions + lengths <= len(signal))
    offsets = np.arange(cut.window)
    inside = offsets < lengths[usable, None]
    rows = signal[np.minimum(positions[usable, None] + offsets, len(signal) - 1)]
    low, high = _extremes(signal, positions[usable], rows, inside, cut)
    span = np.where(high > low, high - low, 1.0)
    rows = np.where(inside, (rows - low) / span, 0.0)
    whole = np.isfinite(rows).all(axis=1)
    usable[np.flatnonzero(usable)[~whole]] = False
    return rows[whole].astype(np.float32), usable


def _extremes(
    signal: np.ndarray, positions: np.ndarray, rows: np.ndarray, inside: np.ndarray, cut: SegmentationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that are scaled to 0 and to 1 for each row, as columns."""
    if cut.normalise == "none":
        return np.zeros((len(rows), 1)), np.ones((len(rows), 1))
    if cut.normalise == "minmax_beat":
        low = np.where(inside, rows, np.inf).min(axis=1, keepdims=True)
        return low, np.where(inside, rows, -np.inf).max(axis=1, keepdims=True)
    size = max(1, round(cut.rr_window_seconds * cut.rate))
    starts = np.arange(0, len(signal), size)
    window = positions // size
    return np.minimum.reduceat(signal, starts)[window, None], np.maximum.reduceat(signal, starts)[window, None]
