"""Synthetic beats of five classes with the real class imbalance.

For smoke runs, not for results.
"""

from __future__ import annotations

import numpy as np

from distill_cli.data.arrays import array_fingerprint, from_source
from distill_cli.data.beats import CLASS_NAMES
from distill_cli.data.splits import stratified_rows
from distill_cli.errors import UserError
from distill_cli.rng import numpy_generator
from distill_cli.types import Dataset

REAL_COUNTS = np.array([90_583, 2_780, 7_236, 803, 8_039])
RATE, WINDOW, BEAT = 125, 187, 1.2
SMALLEST, LARGEST = 200, 1_000_000

# Waves of a beat that starts at its R peak: (seconds after it, width in seconds, height), one row a class: R, S, T, next P.
# N narrow; S early, with an inverted P; V wide, T inverted; F half N and half V; Q a pacing spike on a wide beat.
WAVES = np.array(
    [
        [(0.00, 0.018, 1.0), (0.035, 0.014, -0.25), (0.28, 0.045, 0.30), (-0.16, 0.025, 0.14)],
        [(0.00, 0.018, 0.95), (0.035, 0.014, -0.22), (0.25, 0.045, 0.26), (-0.12, 0.022, -0.16)],
        [(0.00, 0.050, 1.1), (0.110, 0.040, -0.45), (0.30, 0.060, -0.35), (-0.16, 0.025, 0.10)],
        [(0.00, 0.034, 1.0), (0.070, 0.027, -0.35), (0.29, 0.052, -0.02), (-0.16, 0.025, 0.12)],
        [(0.00, 0.040, 1.0), (0.080, 0.035, -0.30), (0.32, 0.060, -0.20), (-0.16, 0.025, 0.02)],
    ]
)
INTERVAL = np.array([0.80, 0.66, 0.88, 0.80, 0.84])
"""Seconds to the next R peak."""


def heartbeat_synthetic(
    n: int = 4000, seed: int = 0, split_seed: int = 0, noise: float = 0.04, test_fraction: float = 0.2, val_fraction: float = 0.2
) -> Dataset:
    """Generate synthetic beats, samples of shape [1, 187] in 0..1.

    Classes N S V F Q in the proportions of MIT-BIH.

    Args:
        n: number of beats, 200 to 1,000,000.
        seed: seed of the beats, 0 or more.
        split_seed: seed of the split, 0 or more.
        noise: standard deviation of the noise, as a share of an R peak; 0..1.
        test_fraction: share of test in all beats, 0..1 exclusive.
        val_fraction: share of validation in the beats that are not test, 0..1 exclusive.

    Raises:
        UserError: a setting out of range.
    """
    if not SMALLEST <= n <= LARGEST:
        raise UserError(f"heartbeat_synthetic: n must be {SMALLEST} to {LARGEST:,}, got {n}")
    if not 0 <= noise <= 1:
        raise UserError(f"heartbeat_synthetic: noise must be 0 to 1, got {noise}")
    if seed < 0:
        raise UserError(f"heartbeat_synthetic: seed must be 0 or more, got {seed}")
    rng = numpy_generator(seed, "heartbeat_synthetic")
    counts = np.maximum(5, np.round(n * REAL_COUNTS / REAL_COUNTS.sum()).astype(np.int64))
    counts[0] += n - counts.sum()
    y = rng.permutation(np.repeat(np.arange(len(CLASS_NAMES)), counts))
    x = draw_beats(y, noise, rng)
    return from_source(
        "heartbeat_synthetic",
        x,
        y,
        stratified_rows(y, test_fraction, val_fraction, split_seed),
        class_names=CLASS_NAMES,
        source_fingerprint=array_fingerprint(x, y),
        notes=["Drawn by a seed, not recorded: no result for real hearts."],
    )


def draw_beats(y: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random beat ``[N, 1, 187]`` for each class in `y`.

    A sum of jittered Gaussian waves, scaled to 0..1.
    """
    n = len(y)
    t = (np.arange(WINDOW, dtype=np.float32) / RATE)[None]
    at, width, height = (WAVES[y, :, k] for k in range(3))
    interval = INTERVAL[y] * np.exp(0.16 * rng.standard_normal(n))
    width = width * np.exp(0.15 * rng.standard_normal(width.shape))
    height = height * np.exp(0.2 * rng.standard_normal(height.shape)) + 0.04 * rng.standard_normal(height.shape)
    at = at * np.exp(0.08 * rng.standard_normal(at.shape))
    at[:, 3] += interval
    x = np.zeros((n, WINDOW), dtype=np.float32)
    for k in range(WAVES.shape[1]):
        x += _wave(t, at[:, k], width[:, k], height[:, k])
    x += _wave(t, interval, WAVES[0, 0, 1], np.ones(n))
    drift = rng.standard_normal((n, 1)) * np.sin(2 * np.pi * (0.4 * t + rng.random((n, 1))))
    x += np.float32(noise) * (rng.standard_normal(x.shape, dtype=np.float32) + drift.astype(np.float32))
    inside = t < BEAT * interval[:, None]
    low = np.where(inside, x, np.inf).min(axis=1, keepdims=True)
    high = np.where(inside, x, -np.inf).max(axis=1, keepdims=True)
    return np.where(inside, (x - low) / (high - low), 0).astype(np.float32)[:, None]


def _wave(t: np.ndarray, at: np.ndarray, width: np.ndarray | float, height: np.ndarray) -> np.ndarray:
    """Return Gaussian waves ``[n, len(t)]``."""
    width = np.broadcast_to(np.asarray(width), at.shape).astype(np.float32)
    wave: np.ndarray = height.astype(np.float32)[:, None] * np.exp(
        -0.5 * ((t - at.astype(np.float32)[:, None]) / width[:, None]) ** 2
    )
    return wave
