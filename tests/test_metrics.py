"""Scores against scikit-learn and against sums written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from distill_cli.errors import UserError
from distill_cli.metrics.classification import ece, log_probabilities, quick_scores
from distill_cli.metrics.confusion import confusion_counts, macro_f1
from distill_cli.pipeline.evaluation import with_intervals
from distill_cli.tasks.classification.evaluator import ClassificationEvaluator

NAMES = ("N", "S", "V", "F", "Q")


def scores(
    logits: np.ndarray, y: np.ndarray, names: Sequence[str], averaged: Sequence[int], resamples: int = 1000, teacher: Any = None
) -> dict[str, Any]:
    """Return what a report has of a model on one split."""
    own = ClassificationEvaluator(logits, y, names, averaged)
    found = with_intervals(own, None, resamples, 0)
    return (
        found if teacher is None else found | {"agreement": own.agreement(ClassificationEvaluator(teacher, y, names, averaged))}
    )


def drawn(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.choice(5, n, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    return 2.0 * np.eye(5)[y] + random.normal(0, 1.5, (n, 5)), y


pairs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.lists(st.integers(0, 3), min_size=n, max_size=n), st.lists(st.integers(0, 3), min_size=n, max_size=n))
)


@given(pairs, st.sets(st.integers(0, 3), min_size=1))
@settings(max_examples=60, deadline=None)
def test_macro_f1_and_confusion_equal_sklearn(both: tuple[list[int], list[int]], averaged: set[int]) -> None:
    y, said = np.array(both[0]), np.array(both[1])
    counts = confusion_counts(y, said, 4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, confusion_matrix(y, said, labels=range(4)))
    wanted = f1_score(y, said, labels=sorted(averaged), average="macro", zero_division=0)
    assert macro_f1(counts, sorted(averaged)) == pytest.approx(wanted, abs=1e-12)


def test_macro_f1_of_many_matrices_is_that_of_each() -> None:
    many = np.random.default_rng(0).integers(0, 9, (3, 2, 4, 4))
    together = macro_f1(many, [0, 2, 3])
    assert together.shape == (3, 2)
    assert together[2, 1] == macro_f1(many[2, 1], [0, 2, 3])


def test_classes_out_of_range_are_refused_not_counted_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"predicted holds classes 0\.\.2, not 0\.\.1"):
        confusion_counts(np.array([0, 1]), np.array([2, 0]), 2)


def test_quick_scores_equal_sklearn_and_take_log_probabilities() -> None:
    logits, y = drawn()
    got = quick_scores(logits, y, [0, 1, 2])
    log_p = log_probabilities(logits)
    said = logits.argmax(1)
    assert got["macro_f1"] == pytest.approx(f1_score(y, said, labels=[0, 1, 2], average="macro"))
    assert got["accuracy"] == accuracy_score(y, said)
    assert got["nll"] == pytest.approx(log_loss(y, np.exp(log_p), labels=range(5)))
    assert quick_scores(log_p, y, [0, 1, 2])["nll"] == pytest.approx(got["nll"], abs=1e-12)


def test_nll_is_stable_for_large_float32_logits() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 3e4]], dtype=np.float32)
    assert quick_scores(logits, np.array([1, 1]), [0, 1])["nll"] == pytest.approx(5e3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused_in_one_line(bad: float) -> None:
    logits, y = drawn(20)
    logits[3] = bad
    with pytest.raises(UserError, match="1 of 20 rows have outputs that are NaN or infinite"):
        quick_scores(logits, y, range(5))


def test_a_probability_of_zero_is_a_valid_output() -> None:
    assert log_probabilities(np.array([[0.0, -np.inf]]))[0, 0] == 0.0


def test_ece_by_hand() -> None:
    # bins of width 1/2: confidences 0.6 and 0.8 share one, accuracy there is 1/2
    p = np.array([[0.6, 0.4], [0.8, 0.2]])
    assert ece(p, np.array([0, 1]), bins=2) == pytest.approx(abs(0.5 - 0.7))
    # bins of width 1/15 hold them apart: (|1 - 0.6| + |0 - 0.8|) / 2
    assert ece(p, np.array([0, 1])) == pytest.approx(0.6)


def test_ece_counts_a_confidence_on_an_edge_in_the_lower_bin() -> None:
    p = np.array([[0.75, 0.25], [0.7, 0.3]])
    assert ece(p, np.array([0, 1]), bins=4) == pytest.approx(abs(0.5 - 0.725))


def test_ece_of_a_certain_and_right_model_is_zero() -> None:
    assert ece(np.eye(3), np.arange(3)) == 0.0


def test_scores_hold_what_the_schema_says() -> None:
    logits, y = drawn()
    result = scores(logits, y, NAMES, [0, 1, 2, 3], resamples=50, teacher=logits[:, ::-1])
    assert set(result) == {
        "n", "macro_f1", "macro_f1_ci95", "accuracy", "nll", "ece", "per_class", "averaged", "confusion", "agreement",
    }  # fmt: skip
    said = logits.argmax(1)
    assert result["n"] == 400
    assert result["averaged"] == ["N", "S", "V", "F"]
    assert list(result["per_class"]) == list(NAMES)
    assert result["macro_f1"] == pytest.approx(f1_score(y, said, labels=[0, 1, 2, 3], average="macro"))
    assert sum(row["support"] for row in result["per_class"].values()) == 400
    assert result["confusion"] == confusion_matrix(y, said).tolist()
    low, high = result["macro_f1_ci95"]
    assert low < result["macro_f1"] < high
    assert result["agreement"] == pytest.approx(np.mean(said == 4 - said))


def test_validation_every_epoch_and_the_report_give_the_same_numbers() -> None:
    logits, y = drawn()
    report, quick = scores(logits, y, NAMES, [0, 2], resamples=0), quick_scores(logits, y, [0, 2])
    assert {key: report[key] for key in quick} == pytest.approx(quick, abs=1e-14)


def test_a_class_that_is_nowhere_scores_zero_and_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    result = scores(np.eye(3)[[0, 1]], np.array([0, 1]), ("a", "b", "c"), range(3), resamples=20)
    assert result["per_class"]["c"] == {"f1": 0.0, "f1_ci95": None, "precision": 0.0, "recall": 0.0, "support": 0}
    assert result["macro_f1"] == pytest.approx(2 / 3)
    assert not recwarn.list


def test_another_number_of_outputs_and_an_empty_split_are_refused() -> None:
    with pytest.raises(UserError, match=r"outputs are \[4, 3\], the data has 4 rows of 2 classes"):
        scores(np.zeros((4, 3)), np.zeros(4, dtype=int), ("a", "b"), [0, 1])
    with pytest.raises(UserError, match="no rows to score"):
        scores(np.zeros((0, 2)), np.zeros(0, dtype=int), ("a", "b"), [0, 1])


def test_uniform_outputs_have_the_nll_of_a_guess() -> None:
    assert scores(np.zeros((4, 2)), np.array([0, 1, 1, 0]), ("a", "b"), [0, 1], resamples=0)["nll"] == pytest.approx(math.log(2))
