"""Temperature scaling: one temperature for all logits of a model."""

from __future__ import annotations

import math

import numpy as np

from distill_cli.metrics.classification import log_probabilities

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """Return the temperature T that minimizes the NLL of ``softmax(logits / T)``.

    T is between 0.05 and 20.

    The negative log-likelihood is convex in 1/T, so that a bounded search finds its only minimum. No prediction changes.

    Args:
        logits: ``[N, C]`` logits of validation rows.
        y: ``[N]`` true classes.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits, rows = np.asarray(logits, dtype=np.float64), np.arange(len(y))

    def nll(log_t: float) -> float:
        return -float(log_probabilities(logits / math.exp(log_t))[rows, y].mean())

    minimum = minimize_scalar(nll, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(minimum.x))
