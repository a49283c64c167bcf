"""The student's bias fix: fitted on validation, exact, kept with the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import TINY, Ran
from safetensors.torch import load_file

from distill_cli.metrics.classification import quick_scores
from distill_cli.tasks.classification.bias_correction import fit_offset


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "nll"])
@pytest.mark.parametrize("missing", [[3], [0, 1, 2]])
def test_no_offset_of_a_fine_grid_is_better(metric: str, missing: list[int]) -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 300)
    logits = draw.normal(size=(300, 4)) + 2 * np.eye(4)[y]
    logits[:, missing] -= 5
    absent = np.isin(np.arange(4), missing)

    def score(b: float) -> float:
        return (-1 if metric == "nll" else 1) * quick_scores(logits + absent * b, y, range(4))[metric]

    found = fit_offset(logits, y, missing, range(4), metric)
    assert found > 2
    best = max(score(b) for b in np.linspace(-10, 20, 3001))
    assert score(found) >= best - (1e-3 if metric == "nll" else 0)


def test_an_offset_that_gains_nothing_stays_zero() -> None:
    y = np.array([0, 1, 2, 0, 1, 2])
    assert fit_offset(10 * np.eye(3)[y], y, [2], range(3), "accuracy") == 0


def test_the_fix_is_fitted_on_validation_and_travels_with_the_model(distill: Callable[..., Ran]) -> None:
    ran = distill("distill", *TINY, "epochs=8", "teacher.epochs=8", "dataset.exclude_classes=[3]", "student.bias_correction=true")
    assert ran.code == 0, ran.err
    models = ran.report["models"]
    (offset,) = models["student"]["bias_correction"].values()
    assert list(models["student"]["bias_correction"]) == ["3"] and offset > 0
    assert models["student"]["val"]["macro_f1"] > models["uncorrected"]["val"]["macro_f1"]
    assert models["student"]["test"]["per_class"]["3"]["recall"] > models["uncorrected"]["test"]["per_class"]["3"]["recall"]
    fixed, before = (load_file(ran.folder / f"checkpoint/{name}.safetensors") for name in ("student", "uncorrected"))
    assert [t.tolist() for t in fixed.values()] == [t.tolist() for t in before.values()]
    again = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false", "bootstrap.resamples=50")
    assert again.report["models"]["student"]["test"]["confusion"] == models["student"]["test"]["confusion"]


def test_without_a_missing_class_there_is_nothing_to_fix(distill: Callable[..., Ran]) -> None:
    ran = distill("distill", *TINY, "student.bias_correction=true")
    assert (ran.code, ran.err) == (
        2,
        "distill distill: error: student.bias_correction: no class is missing from the student's training rows; "
        "name some in dataset.exclude_classes, or set student.bias_correction=false\n",
    )
