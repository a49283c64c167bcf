"""Softmax probabilities at another temperature."""

from __future__ import annotations

import numpy as np

TEMPERATURES = (1, 2, 4, 8)
SMALLEST = 1e-300  # stands for a probability of zero


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(z / T), computed from softmax(z).

    Logits and log-probabilities differ by a constant in each row, which softmax removes.

    Args:
        probabilities: ``[N, C]`` at T = 1.
        temperature: T > 0.
    """
    scaled = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
