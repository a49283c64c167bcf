"""Losses on logits: limits, identities and special cases. Values and gradients are those of test_every_loss.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, Ran, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.errors import UserError
from distill_cli.factory.stages import StageSpec
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.dist import DIST
from distill_cli.losses.dkd import DKD
from distill_cli.losses.jensen_shannon import JensenShannon
from distill_cli.losses.kl_mae import KLMAE
from distill_cli.losses.label_smoothing import LabelSmoothing, VirtualTeacher
from distill_cli.losses.logit_standardisation import LogitStandardisation
from distill_cli.losses.logits_mse import LogitsMSE
from distill_cli.losses.objective import Objective
from distill_cli.losses.soft_cross_entropy import SoftCrossEntropy
from distill_cli.losses.soft_target import SoftTarget
from distill_cli.training.bind_losses import check_batches
from distill_cli.types import Batch, DataFacts, ModelOutput
from distill_cli.verify.references.plain import kl, softmax

ROWS, CLASSES = 6, 3


def logits(seed: int, rows: int = ROWS, classes: int = CLASSES) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def call(loss: torch.nn.Module, z: torch.Tensor, v: torch.Tensor, batch: Batch | None = None) -> torch.Tensor:
    return loss(ModelOutput(z), [ModelOutput(v)], batch or make_batch(len(z), z.shape[1]))


TEACHERS = [
    SoftTarget(), KLMAE(), LogitsMSE(), SoftCrossEntropy(), JensenShannon(), DKD(), DIST(), LogitStandardisation(),
]  # fmt: skip


@pytest.mark.parametrize("loss", TEACHERS, ids=lambda loss: type(loss).__name__)
def test_several_teachers_count_as_their_mean(loss: torch.nn.Module) -> None:
    z, a, b = logits(10), logits(11), logits(12)
    both = loss(ModelOutput(z), [ModelOutput(a), ModelOutput(b)], make_batch(ROWS, CLASSES))
    assert torch.allclose(both, call(loss, z, (a + b) / 2), atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "classes_of"),
    [
        (SoftTarget(1000.0, 1.0), CLASSES),
        (SoftCrossEntropy(1000.0), CLASSES),
        (JensenShannon(1000.0), 4 * CLASSES),  # a quarter of KL to second order
    ],
)
def test_at_high_temperature_the_soft_gradient_tends_to_that_of_logits(loss: torch.nn.Module, classes_of: int) -> None:
    """Hinton 2015, equation 4: (z - v) / N for zero-mean logits, after the factor T^2."""
    z, v = logits(13).requires_grad_(), logits(14)
    call(loss, z, v).sum().backward()
    centred = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    assert torch.allclose(z.grad, centred.detach() / classes_of, atol=2e-2)


# --- labels ------------------------------------------------------------------------------------------------------


def test_rows_without_a_label_keep_their_soft_term_only() -> None:
    batch = make_batch(ROWS, CLASSES)
    batch.labeled[0] = 0
    z, v = logits(15), logits(16)
    value = call(SoftTarget(2.0, 0.9), z, v, batch)
    assert value[0].item() == pytest.approx(0.9 * 4 * kl(softmax(v[0].tolist(), 2), softmax(z[0].tolist(), 2)), rel=1e-6)
    standardised = call(LogitStandardisation(hard=1.0), z, v, batch) - call(LogitStandardisation(), z, v, batch)
    weighted = CrossEntropy([1.0, 2.0, 0.5])
    weighted.bind(DataFacts((4,), (30, 10, 20), 60), ModelOutput(z), [])
    for hard in (
        call(CrossEntropy(), z, v, batch),
        call(weighted, z, v, batch),
        standardised,
        call(LabelSmoothing(), z, v, batch),
        call(VirtualTeacher(), z, v, batch),
    ):
        assert hard[0] == 0
        assert hard[1] > 0


def test_balanced_weights_are_rows_by_classes_times_count() -> None:
    batch, z = make_batch(ROWS, CLASSES), logits(17)
    wanted = torch.tensor([60 / (3 * 30), 60 / (3 * 10), 60 / (3 * 20)])[batch.target.argmax(1)].double()
    for make in (CrossEntropy, lambda weight="none": LabelSmoothing(0.0, weight)):
        loss = make("balanced")
        loss.bind(DataFacts((4,), (30, 10, 20), 60), ModelOutput(z), [])
        assert torch.allclose(call(loss, z, z, batch) / call(make(), z, z, batch), wanted)


@pytest.mark.parametrize("make", [DKD, DIST, LogitStandardisation])
def test_a_cross_entropy_inside_has_class_weights_and_stands_in_the_control(make: type) -> None:
    batch, z, v = make_batch(ROWS, CLASSES), logits(17), logits(18)
    loss, hard = make(hard=0.3, class_weight="balanced"), CrossEntropy("balanced")
    for term in (loss, hard):
        term.bind(DataFacts((4,), (30, 10, 20), 60), ModelOutput(z), [])
    difference = (call(loss, z, v, batch) - call(make(), z, v, batch)).mean()
    assert difference.item() == pytest.approx(0.3 * call(hard, z, v, batch).mean().item())
    control = Objective({"loss": loss}, {"loss": 2.0}).without_teacher()
    assert control.names == ["cross_entropy"]
    assert control.losses[0].class_weight == "balanced"


@pytest.mark.parametrize("make", [LabelSmoothing, VirtualTeacher])
def test_a_regulariser_without_a_teacher_is_its_own_control(make: type) -> None:
    control = Objective({"loss": make(), "soft": SoftTarget()}, {"loss": 0.5, "soft": 1.0}).without_teacher()
    assert control.weights == {"loss": 1.0}


@pytest.mark.parametrize(
    ("weights", "said"), [("heavy", "expected none"), ([1, 2], "expected 3 numbers"), ([1, -1, 1], "numbers >= 0")]
)
def test_class_weights_that_make_no_sense_are_refused(weights: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CrossEntropy(weights).bind(DataFacts((4,), (1, 1, 1), 3), ModelOutput(logits(0)), [])


# --- identities --------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 50), st.floats(0, 1), st.integers(0, 1000))
def test_soft_targets_are_never_negative_and_scale_with_alpha(temperature: float, alpha: float, seed: int) -> None:
    z, v = logits(seed), logits(seed + 1)
    whole = call(SoftTarget(temperature, 1.0), z, v)
    assert (whole >= -1e-9).all()
    mixed = call(SoftTarget(temperature, alpha), z, v)
    assert torch.allclose(mixed, alpha * whole + (1 - alpha) * call(CrossEntropy(), z, v), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 20), st.integers(2, 6), st.integers(0, 1000))
def test_decoupled_terms_make_up_the_kl_of_soft_targets(temperature: float, classes: int, seed: int) -> None:
    """Zhao 2022, equation 6: KD = TCKD + (1 - q_t) NCKD."""
    z, v = logits(seed, classes=classes), logits(seed + 1, classes=classes)
    target = make_batch(ROWS, classes).target.argmax(1, keepdim=True)
    rest = 1 - torch.softmax(v / temperature, 1).gather(1, target).squeeze(1)
    tckd, nckd = call(DKD(1.0, 0.0, temperature), z, v), call(DKD(0.0, 1.0, temperature), z, v)
    whole = call(SoftTarget(temperature, 1.0), z, v)
    assert torch.allclose(tckd + rest * nckd, whole, rtol=1e-12, atol=1e-12 * float(whole.max()))


def test_with_two_classes_nothing_is_left_to_decouple() -> None:
    z, v = logits(20, classes=2).requires_grad_(), logits(21, classes=2)
    assert (call(DKD(0.0, 8.0), z, v) == 0).all()
    assert torch.allclose(call(DKD(1.0, 8.0, 4.0), z, v), call(SoftTarget(4.0, 1.0), z, v), rtol=1e-12)
    call(DKD(), z * 1000, v * 1000).sum().backward()
    assert z.grad.isfinite().all()


def test_a_row_without_a_label_is_decoupled_by_its_teachers_first_class() -> None:
    z, v, batch, top = logits(22), logits(23), make_batch(ROWS, CLASSES), make_batch(ROWS, CLASSES)
    batch.labeled[:] = 0
    top.target = torch.eye(CLASSES)[v.argmax(1)]
    assert torch.equal(call(DKD(hard=1.0), z, v, batch), call(DKD(), z, v, top))


def test_a_mixed_target_is_decoupled_by_its_larger_class() -> None:
    z, v, batch, plain = logits(24), logits(25), make_batch(ROWS, CLASSES), make_batch(ROWS, CLASSES)
    batch.target = torch.lerp(batch.target.flip(0), batch.target, 0.7)
    assert torch.equal(call(DKD(), z, v, batch), call(DKD(), z, v, plain))
    assert not torch.equal(call(DKD(hard=1.0), z, v, batch), call(DKD(hard=1.0), z, v, plain))


def test_relations_do_not_see_scale_or_shift_of_logits_that_are_standardised() -> None:
    z, v = logits(26), logits(27)
    for variant in ("paper", "code"):
        loss = LogitStandardisation(variant=variant)
        assert torch.allclose(call(loss, z, v), call(loss, 3 * z + 1, 0.5 * v - 2), rtol=1e-10)
        assert call(loss, z, 4 * z + 1).abs().max() < 1e-12


def test_standardised_by_hand() -> None:
    """Three logits -1, 0, 1: sigma^2 = 2/3 (paper) or 1 (code)."""
    z, v = torch.tensor([[-1.0, 0.0, 1.0]]).double(), torch.tensor([[1.0, 0.0, -1.0]]).double()
    for variant, sigma in (("paper", math.sqrt(2 / 3)), ("code", 1.0)):
        p, q = softmax([-1 / sigma, 0, 1 / sigma], 2), softmax([1 / sigma, 0, -1 / sigma], 2)
        assert call(LogitStandardisation(variant=variant), z, v).item() == pytest.approx(4 * kl(q, p), rel=1e-12)


def test_correlations_by_hand() -> None:
    """Columns swapped between student and teacher: rho = -1 in every row and column of two classes."""
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]).double()
    assert call(DIST(1.0, 0.0), z, z.flip(1)).item() == pytest.approx(2)
    assert call(DIST(0.0, 1.0), z, z.flip(1)).item() == pytest.approx(2)
    assert call(DIST(1.0, 1.0, 4.0, variant="code"), z, z.flip(1)).item() == pytest.approx(64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [DIST(), LogitStandardisation(), LogitStandardisation(variant="code")])
def test_constant_rows_are_finite_and_have_no_gradient(loss: torch.nn.Module, dtype: torch.dtype) -> None:
    z = logits(28).to(dtype)
    z[0] = 1 / 3
    z.requires_grad_()
    value = call(loss, z, logits(29).to(dtype))
    value.sum().backward()
    assert value.isfinite().all()
    assert z.grad.isfinite().all()
    if isinstance(loss, LogitStandardisation):
        assert (z.grad[0] == 0).all()
    flat = torch.full((ROWS, CLASSES), 0.1, dtype=dtype, requires_grad=True)
    call(loss, flat, logits(29).to(dtype)).sum().backward()
    assert (flat.grad == 0).all()


@pytest.mark.parametrize("gap", [30, 46, 60])
def test_a_class_that_no_row_believes_in_correlates_as_in_float64(gap: float) -> None:
    z, v = logits(0), logits(1)
    z[:, 0] -= gap
    v[:, 0] -= gap
    found = []
    for dtype in (torch.float32, torch.float64):
        student = z.to(dtype).requires_grad_()
        value = call(DIST(), student, v.to(dtype))
        found.append((value.item(), *torch.autograd.grad(value, student)))
    (value, slope), (right, right_slope) = found
    assert value == pytest.approx(right, abs=1e-5)
    assert torch.allclose(slope.double(), right_slope.double(), atol=1e-5)


def test_soft_cross_entropy_is_soft_targets_plus_the_teachers_entropy() -> None:
    z, v = logits(30), logits(31)
    q = torch.softmax(v / 3, 1)
    entropy = -(q * q.log()).sum(1)
    assert torch.allclose(call(SoftCrossEntropy(3.0), z, v), call(SoftTarget(3.0, 1.0), z, v) + 9 * entropy, rtol=1e-12)
    assert torch.allclose(call(SoftCrossEntropy(3.0, "code"), z, v) * 9, call(SoftCrossEntropy(3.0), z, v), rtol=1e-12)


def test_jensen_shannon_is_symmetric_and_bounded() -> None:
    z, v = logits(32), logits(33)
    assert torch.allclose(call(JensenShannon(), z, v), call(JensenShannon(), v, z), rtol=1e-12)
    far = call(JensenShannon(3.0), 1000 * z, -1000 * z)
    assert far.max().item() == pytest.approx(9 * math.log(2), rel=1e-12)


def test_smoothed_labels_are_those_of_pytorch() -> None:
    z, batch = logits(34), make_batch(ROWS, CLASSES)
    theirs = torch.nn.functional.cross_entropy(z, batch.target.argmax(1), reduction="none", label_smoothing=0.2)
    assert torch.allclose(call(LabelSmoothing(0.2), z, z, batch), theirs, atol=1e-7)
    assert torch.equal(call(LabelSmoothing(0.0), z, z, batch), call(CrossEntropy(), z, z, batch))


def test_a_student_like_the_virtual_teacher_has_no_loss() -> None:
    batch = make_batch(ROWS, CLASSES)
    z = torch.where(batch.target > 0, 0.9, 0.05).double().log()
    assert call(VirtualTeacher(1.0, 0.9, 5.0), z, z, batch).abs().max() < 1e-7
    assert torch.equal(call(VirtualTeacher(0.0), z, z, batch), call(CrossEntropy(), z, z, batch))


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SoftTarget(temperature=0), "temperature must be > 0, got 0"),
        (lambda: SoftTarget(temperature=-1), "temperature must be > 0, got -1"),
        (lambda: SoftTarget(alpha=1.5), r"alpha must be in \[0, 1\], got 1.5"),
        (lambda: KLMAE(mae=-0.1), "mae must be >= 0, got -0.1"),
        (lambda: SoftCrossEntropy(temperature=0), "temperature must be > 0, got 0"),
        (lambda: SoftCrossEntropy(variant="book"), "variant must be paper or code, got book"),
        (lambda: JensenShannon(temperature=float("inf")), "temperature must be > 0, got inf"),
        (lambda: DKD(beta=-1), "beta must be >= 0, got -1"),
        (lambda: DKD(temperature=0), "temperature must be > 0, got 0"),
        (lambda: DKD(hard=float("nan")), "hard must be >= 0, got nan"),
        (lambda: DIST(gamma=-2), "gamma must be >= 0, got -2"),
        (lambda: DIST(temperature=0), "temperature must be > 0, got 0"),
        (lambda: DIST(variant="book"), "variant must be paper or code, got book"),
        (lambda: LogitStandardisation(soft=-1), "soft must be >= 0, got -1"),
        (lambda: LogitStandardisation(temperature=0), "temperature must be > 0, got 0"),
        (lambda: LogitStandardisation(variant="book"), "variant must be paper or code, got book"),
        (lambda: LabelSmoothing(1.1), r"epsilon must be in \[0, 1\], got 1.1"),
        (lambda: VirtualTeacher(alpha=2), r"alpha must be in \[0, 1\], got 2"),
        (lambda: VirtualTeacher(correct=1.0), "correct must be above 0 and below 1, got 1.0"),
        (lambda: VirtualTeacher(temperature=0), "temperature must be > 0, got 0"),
    ],
)
def test_values_out_of_range_are_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


# --- two classes -------------------------------------------------------------------------------------------------


def checked(loss: DistillationLoss, batch_size: int, classes: int, weight: float = 1.0) -> list[str]:
    objective = Objective({"loss": loss, "labels": CrossEntropy()}, {"loss": weight, "labels": 1.0})
    return check_batches([StageSpec("train", "", objective, 1, {}, {})], batch_size, classes)


def test_a_part_without_a_gradient_is_noted() -> None:
    assert checked(DIST(), 64, 2) == ["loss.beta: this part teaches nothing with fewer than 3 classes"]
    assert checked(DIST(), 2, 3) == ["loss.gamma: this part teaches nothing on batches of fewer than 3 rows"]
    assert checked(DKD(), 64, 2) == ["loss.beta: this part teaches nothing with fewer than 3 classes"]
    assert checked(DIST(beta=0), 64, 2) == checked(DKD(), 1, 3) == checked(SoftTarget(), 1, 2) == []


@pytest.mark.parametrize(
    ("loss", "batch_size", "said"),
    [
        (LogitStandardisation(hard=0.1), 64, "loss: teaches nothing with 2 classes, it needs 3; choose another loss"),
        (DKD(alpha=0), 64, "loss.beta: this part teaches nothing with fewer than 3 classes, and neither does another"),
        (DIST(), 2, "loss.beta: this part teaches nothing with fewer than 3 classes, and neither does another"),
    ],
)
def test_a_loss_without_a_gradient_is_refused(loss: DistillationLoss, batch_size: int, said: str) -> None:
    with pytest.raises(UserError) as refused:
        checked(loss, batch_size, 2)
    assert str(refused.value).startswith(said)
    assert checked(loss, 64, 2, weight=0.0) == []


def test_two_classes_are_refused_before_a_teacher_is_trained(distill: Callable[..., Ran], tmp_path: Path) -> None:
    rows = "\n".join(f"{n % 7},{n % 5},{'ab'[n % 2]}" for n in range(80))
    (tmp_path / "two.csv").write_text(f"x,y,kind\n{rows}\n")
    words = [word for word in TINY if not word.startswith("dataset")]
    ran = distill("distill", *words, "dataset=csv", "dataset.path=two.csv", "dataset.label=kind", "loss=logit_standardisation")
    assert ran.code == 2
    assert ran.err.strip() == (
        "distill distill: error: loss: teaches nothing with 2 classes, it needs 3; choose another loss, such as soft_target"
    )
    assert not list(tmp_path.rglob("model.safetensors"))
