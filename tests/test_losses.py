"""Each loss against a for-loop reference in float64, its gradient against finite differences, and its invariants."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.losses.hard import Hard
from distill_cli.losses.kl_mae import KLMAE
from distill_cli.losses.logits_mse import LogitsMSE
from distill_cli.losses.soft_target import SoftTarget
from distill_cli.types import Batch, DataFacts, ModelOutput

ROWS, CLASSES = 6, 3


def softmax(values: list[float], temperature: float = 1.0) -> list[float]:
    top = max(values)
    powers = [math.exp((v - top) / temperature) for v in values]
    return [p / sum(powers) for p in powers]


def kl(q: list[float], p: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True))


def cross_entropy(z: list[float], target: list[float]) -> float:
    return -sum(t * math.log(p) for t, p in zip(target, softmax(z), strict=True))


def soft_target(z: list[float], v: list[float], target: list[float], temperature: float, alpha: float) -> float:
    soft = temperature**2 * kl(softmax(v, temperature), softmax(z, temperature))
    return alpha * soft + (1 - alpha) * cross_entropy(z, target)


def kl_mae(z: list[float], v: list[float], target: list[float]) -> float:
    p, q = softmax(z), softmax(v)
    return kl(q, p) + 0.1 * sum(abs(a - b) for a, b in zip(q, p, strict=True)) / len(p)


def logits_mse(z: list[float], v: list[float], target: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(z, v, strict=True)) / len(z)


CASES = {
    "soft_target": (SoftTarget(2.0, 0.9), lambda z, v, t: soft_target(z, v, t, 2.0, 0.9)),
    "soft_target_hot": (SoftTarget(20.0, 1.0), lambda z, v, t: soft_target(z, v, t, 20.0, 1.0)),
    "kl_mae": (KLMAE(), kl_mae),
    "logits_mse": (LogitsMSE(), logits_mse),
    "hard": (Hard(), lambda z, v, t: cross_entropy(z, t)),
}


def logits(seed: int, rows: int = ROWS) -> torch.Tensor:
    return torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def call(loss: torch.nn.Module, z: torch.Tensor, v: torch.Tensor, batch: Batch | None = None) -> torch.Tensor:
    return loss(ModelOutput(z), [ModelOutput(v)], batch or make_batch(len(z), CLASSES))


@pytest.mark.parametrize("name", CASES)
def test_value_of_each_sample_is_the_reference(name: str) -> None:
    loss, reference = CASES[name]
    z, v, batch = logits(1), logits(2), make_batch(ROWS, CLASSES)
    wanted = [reference(z[i].tolist(), v[i].tolist(), batch.target[i].tolist()) for i in range(ROWS)]
    assert call(loss, z, v).tolist() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_finite_differences_of_the_reference(name: str) -> None:
    loss, reference = CASES[name]
    z, v, batch = logits(3).requires_grad_(), logits(4), make_batch(ROWS, CLASSES)
    call(loss, z, v).sum().backward()
    for i in range(ROWS):
        for c in range(CLASSES):
            ends = []
            for step in (1e-6, -1e-6):
                moved = z[i].tolist()
                moved[c] += step
                ends.append(reference(moved, v[i].tolist(), batch.target[i].tolist()))
            assert z.grad[i, c].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["soft_target_hot", "kl_mae", "logits_mse"])
def test_a_student_like_its_teacher_has_no_loss_and_no_gradient(name: str) -> None:
    loss, _ = CASES[name]
    z = logits(5).requires_grad_()
    value = call(loss, z, z.detach().clone())
    value.sum().backward()
    assert value.abs().max() < 1e-12
    assert z.grad.abs().max() < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_a_sample_keeps_its_loss_in_any_company(name: str) -> None:
    loss, _ = CASES[name]
    z, v, batch = logits(6), logits(7), make_batch(ROWS, CLASSES)
    whole = call(loss, z, v)
    for i in range(ROWS):
        one = Batch(batch.x[i : i + 1], batch.target[i : i + 1], batch.index[i : i + 1], batch.labelled[i : i + 1])
        assert call(loss, z[i : i + 1], v[i : i + 1], one).item() == pytest.approx(whole[i].item(), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_finite_losses(name: str, dtype: torch.dtype) -> None:
    loss, _ = CASES[name]
    value = call(loss, (logits(8) * 20).to(dtype), (logits(9) * 20).to(dtype))
    assert value.dtype == torch.float32
    assert value.isfinite().all()


@pytest.mark.parametrize("name", ["soft_target", "soft_target_hot", "kl_mae", "logits_mse"])
def test_several_teachers_count_as_their_mean(name: str) -> None:
    loss, _ = CASES[name]
    z, a, b = logits(10), logits(11), logits(12)
    both = loss(ModelOutput(z), [ModelOutput(a), ModelOutput(b)], make_batch(ROWS, CLASSES))
    assert torch.allclose(both, call(loss, z, (a + b) / 2), atol=1e-12)


def test_at_high_temperature_the_soft_gradient_tends_to_that_of_logits() -> None:
    """Hinton 2015, equation 4: (z - v) / N for zero-mean logits, after the factor T^2."""
    z, v = logits(13).requires_grad_(), logits(14)
    call(SoftTarget(1000.0, 1.0), z, v).sum().backward()
    centred = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    assert torch.allclose(z.grad, centred.detach() / CLASSES, atol=2e-2)


def test_rows_without_a_label_keep_their_soft_term_only() -> None:
    batch = make_batch(ROWS, CLASSES)
    batch.labelled[0] = 0
    z, v = logits(15), logits(16)
    value = call(SoftTarget(2.0, 0.9), z, v, batch)
    assert value[0].item() == pytest.approx(0.9 * 4 * kl(softmax(v[0].tolist(), 2), softmax(z[0].tolist(), 2)), rel=1e-6)
    assert call(Hard(), z, v, batch)[0] == 0
    assert call(Hard(), z, v, batch)[1] > 0


def test_balanced_weights_are_rows_by_classes_times_count() -> None:
    loss = Hard("balanced")
    loss.bind(DataFacts((4,), (30, 10, 20), 60))
    batch, z = make_batch(ROWS, CLASSES), logits(17)
    plain, weighted = call(Hard(), z, z, batch), call(loss, z, z, batch)
    wanted = torch.tensor([60 / (3 * 30), 60 / (3 * 10), 60 / (3 * 20)])
    assert torch.allclose(weighted / plain, wanted[batch.target.argmax(1)].double())


@pytest.mark.parametrize(
    ("weights", "said"), [("heavy", "expected none"), ([1, 2], "expected 3 numbers"), ([1, -1, 1], "numbers >= 0")]
)
def test_class_weights_that_make_no_sense_are_refused(weights: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Hard(weights).bind(DataFacts((4,), (1, 1, 1), 3))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 50), st.floats(0, 1), st.integers(0, 1000))
def test_soft_targets_are_never_negative_and_scale_with_alpha(temperature: float, alpha: float, seed: int) -> None:
    z, v = logits(seed), logits(seed + 1)
    whole = call(SoftTarget(temperature, 1.0), z, v)
    assert (whole >= -1e-9).all()
    mixed = call(SoftTarget(temperature, alpha), z, v)
    assert torch.allclose(mixed, alpha * whole + (1 - alpha) * call(Hard(), z, v), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SoftTarget(temperature=0), "temperature must be > 0, got 0"),
        (lambda: SoftTarget(temperature=-1), "temperature must be > 0, got -1"),
        (lambda: SoftTarget(alpha=1.5), r"alpha must be in \[0, 1\], got 1.5"),
        (lambda: KLMAE(mae=-0.1), "mae must be >= 0, got -0.1"),
    ],
)
def test_values_out_of_range_are_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]
