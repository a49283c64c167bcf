"""Losses on features where their formulas say something exact, what they remember, and how they train."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Ran, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_cli.features.memory_bank import IdToSlot, last_of_each
from distill_cli.losses.ab import AB
from distill_cli.losses.attention import Attention
from distill_cli.losses.correlation import Correlation
from distill_cli.losses.cosine import Cosine
from distill_cli.losses.crd import CRD
from distill_cli.losses.fsp import FSP
from distill_cli.losses.ft import FT
from distill_cli.losses.hint import Hint
from distill_cli.losses.nst import NST
from distill_cli.losses.objective import Objective
from distill_cli.losses.pkt import PKT
from distill_cli.losses.review import Review, hierarchical_context_loss
from distill_cli.losses.rkd import RKD
from distill_cli.losses.similarity import Similarity
from distill_cli.losses.vid import VID
from distill_cli.models.classifier import Classifier
from distill_cli.models.cnn1d import CNN1d
from distill_cli.rng import seeded
from distill_cli.teachers.frozen import FrozenTeacher
from distill_cli.types import Batch, DataFacts, ModelOutput

PAIR, FACTS = ["a", "a"], DataFacts((1,), (20, 20, 20), 60)
ALL: dict[str, Callable[..., Any]] = {
    "ab": AB, "attention": Attention, "correlation": Correlation, "cosine": Cosine, "crd": CRD, "fsp": FSP, "ft": FT, "hint": Hint,
    "nst": NST, "pkt": PKT, "review": Review, "rkd": RKD, "similarity": Similarity, "vid": VID,
}  # fmt: skip


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(x: Tensor, path: str = "a") -> ModelOutput:
    return ModelOutput(torch.zeros(len(x), 3, dtype=x.dtype), {path: x})


def call(loss: Any, s: Tensor, t: Tensor, index: list[int] | None = None) -> Tensor:
    batch = make_batch(len(s))
    if index is not None:
        batch.index = torch.tensor(index)
    return loss(output(s), [output(t)], batch)


def bound(loss: Any, s: Tensor, t: Tensor) -> Any:
    with seeded(0, "loss_init"):
        Objective({"loss": loss}, {"loss": 1.0}).bind(FACTS, output(s), [output(t)])
    return loss


# Exact cases


def test_a_hint_is_half_the_sum_and_in_code_the_mean() -> None:
    s, t = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 2.0)
    assert call(Hint(PAIR), s, t).tolist() == [24.0, 24.0]
    assert call(Hint(PAIR, variant="code"), s, t).tolist() == [4.0, 4.0]
    assert call(Hint(PAIR, norm="l1"), s, t).tolist() == [24.0, 24.0]
    assert call(Hint(PAIR, norm="l1", variant="code"), s, t).tolist() == [2.0, 2.0]


def test_several_pairs_add_up_whichever_teacher_has_the_layer() -> None:
    a, b, c, d = (features(4, 3, seed=n) for n in range(4))
    student = ModelOutput(torch.zeros(4, 3), {"x": a, "y": b})
    both = Hint([["x", "u"], ["y", "v"]])(student, [output(c, "u"), output(d, "v")], make_batch(4))
    assert torch.allclose(both, call(Hint(PAIR), a, c) + call(Hint(PAIR), b, d))


@pytest.mark.parametrize("make", [Attention, NST, lambda f, **k: FSP([f, f], **k), Hint, VID, AB, FT, Review])
def test_tokens_are_maps_with_their_width_as_channels(make: Callable[..., Any]) -> None:
    s, t = features(4, 5, 3), features(4, 5, 3, seed=1)
    tokens = bound(make(PAIR, tokens="both"), s, t)
    maps = bound(make(PAIR), s.transpose(1, 2), t.transpose(1, 2))
    assert torch.allclose(call(tokens, s, t), call(maps, s.transpose(1, 2), t.transpose(1, 2)))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_relations_do_not_see_scale_and_rotation(scale: float, seed: int) -> None:
    t = features(6, 5, seed=seed)
    rotation = torch.linalg.qr(features(5, 5, seed=seed + 1))[0]
    for loss in (RKD(PAIR), Similarity(PAIR), PKT(PAIR), Correlation(PAIR), Correlation(PAIR, kernel="bilinear")):
        assert call(loss, t @ rotation * scale, t).item() == pytest.approx(0, abs=1e-12)
    assert call(RKD(PAIR), t @ rotation * scale + 3, t).item() == pytest.approx(0, abs=1e-12)  # nor where the origin is


def test_relations_compare_features_of_other_widths() -> None:
    for loss in (RKD(PAIR), Similarity(PAIR), PKT(PAIR), Correlation(PAIR)):
        assert call(loss, features(6, 2, 4), features(6, 9)) > 0


def test_the_angle_of_a_line_against_a_right_one() -> None:
    line, corner = torch.tensor([[0.0, 0], [1, 0], [2, 0]]), torch.tensor([[0.0, 0], [1, 0], [1, 1]])
    # cosines at the three samples: line 1, -1, 1; corner sqrt(1/2), 0, sqrt(1/2); each of them for two ordered triples
    wanted = 2 * (2 * (1 - 0.5**0.5) ** 2 / 2 + 1 / 2)
    assert call(RKD(PAIR, distance=0, angle=1), line, corner).item() == pytest.approx(wanted)
    assert call(RKD(PAIR, distance=0, angle=1, variant="code"), line, corner).item() == pytest.approx(wanted / 27)


def test_a_boundary_is_kept_from_the_margin_on() -> None:
    t = torch.tensor([[3.0, -0.1, 0.0]])
    assert call(AB(PAIR), torch.tensor([[1.0, -1.0, -5.0]]), t).tolist() == [0.0]
    assert call(AB(PAIR), torch.tensor([[0.5, 0.0, 1.0]]), t).tolist() == [0.25 + 1 + 4]
    assert call(AB([PAIR, PAIR], variant="code"), torch.zeros(1, 3), t).item() == pytest.approx(3e-3 * 3 * 1.5)


def test_a_trained_variance_is_that_of_the_teacher_around_the_student() -> None:
    s = torch.zeros(50, 2, dtype=torch.float64)
    t = features(50, 2) * torch.tensor([0.5, 3.0])
    loss = bound(VID(PAIR), s, t)
    optimizer = torch.optim.LBFGS(loss.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = call(loss, s, t).mean()
        value.backward()
        return value

    optimizer.step(closure)
    variance = torch.nn.functional.softplus(loss.alphas[0]) + 1e-5
    assert torch.allclose(variance, t.square().mean(0), rtol=1e-3)


def test_probabilities_of_one_row_and_of_opposite_rows() -> None:
    alone = features(1, 4).requires_grad_()
    value = call(PKT(PAIR), alone, features(1, 4, seed=1))
    value.backward()
    assert value == 0 and alone.grad is not None and alone.grad.abs().sum() == 0
    opposite = torch.tensor([[1.0, 0], [-1, 0], [0, 1]]).requires_grad_()
    value = call(PKT(PAIR), opposite, torch.tensor([[1.0, 0], [1, 1], [0, 1]]))
    value.backward()
    assert value.isfinite() and opposite.grad is not None and opposite.grad.isfinite().all()


def test_the_review_of_images_averages_to_four_two_and_one() -> None:
    s, t = features(2, 3, 8, 8), features(2, 3, 8, 8, seed=1)
    pooled = [nn.functional.avg_pool2d(s - t, 8 // n).square().mean() / 2 ** (k + 1) for k, n in enumerate((4, 2, 1))]
    wanted = ((s - t).square().mean() + sum(pooled)) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert hierarchical_context_loss(s, t).item() == pytest.approx(wanted.item())
    loss = bound(Review(PAIR), s, features(2, 5, 4, 4))
    assert call(loss, s, features(2, 5, 4, 4)).isfinite()


def test_a_review_refuses_maps_with_three_axes_of_space() -> None:
    x = features(2, 3, 4, 4, 4)
    with pytest.raises(ValueError, match=r"takes maps \[B, C, L\] or \[B, C, H, W\], got 3 axes of space"):
        bound(Review(PAIR), x, x)


@pytest.mark.parametrize("make", [Attention, NST, lambda f: FSP([f, f]), Review, lambda f: FT(f, variant="code")])
def test_vectors_are_refused_where_maps_are_compared(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"this loss compares maps \[B, C, ...\], and these are \[B, 4\] and \[B, 4\]"):
        bound(make(PAIR), features(2, 4), features(2, 4))


# What losses remember


def test_places_are_given_in_the_order_of_sight_to_any_ids() -> None:
    places = IdToSlot(5)
    assert places(torch.tensor([2**40, -3, 2**40])).tolist() == [1, 0, 1]
    assert places(torch.tensor([7])).tolist() == [2]
    assert places(torch.tensor([-3, 7, 2**40])).tolist() == [0, 2, 1]
    assert places(torch.tensor([100, 0])).tolist() == [4, 3]
    with pytest.raises(ValueError, match="6 row ids are too many for a memory of 5 training rows"):
        places(torch.tensor([8]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_id_keeps_a_place_of_its_own(batches: list[list[int]]) -> None:
    places, known = IdToSlot(30), {}
    for ids in batches:
        for row, place in zip(ids, places(torch.tensor(ids)).tolist(), strict=True):
            assert known.setdefault(row, place) == place
    assert len(set(known.values())) == len(known)


def test_a_row_drawn_twice_is_written_once_as_it_was_last() -> None:
    assert sorted(last_of_each(torch.tensor([4, 1, 4, 2, 1])).tolist()) == [2, 3, 4]


def test_the_memory_moves_rows_by_momentum_and_only_in_training() -> None:
    s, t = features(3, 4), features(3, 5, seed=1)
    loss = bound(CRD(PAIR, negatives=10, width=6, momentum=0.25), s, t).double()
    contrast = loss.contrasts[0]
    before = contrast.teacher.clone()
    with torch.no_grad():
        first = call(loss, s, t, [5, 9, 5])
    assert torch.equal(contrast.teacher, before) and loss.step == 0
    kept = copy.deepcopy(loss.state_dict())
    value = call(loss, s, t, [5, 9, 5])
    assert value.item() == first.item()
    embedded = nn.functional.normalize(contrast.of_teacher(t), dim=1)
    moved = nn.functional.normalize(0.25 * before[:2] + 0.75 * embedded[[2, 1]], dim=1)
    assert torch.allclose(contrast.teacher[:2], moved) and torch.equal(contrast.teacher[2:], before[2:])
    loss.load_state_dict(kept)  # all that it remembers is in its buffers, so that a step can be taken back
    assert call(loss, s, t, [5, 9, 5]).item() == value.item()
    value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_negatives_follow_the_seed_and_differ_from_step_to_step() -> None:
    s, t = features(3, 4), features(3, 4, seed=1)

    def drawn(seed: int) -> list[list[int]]:
        loss, found = bound(CRD(PAIR, negatives=10, seed=seed), s, t).double(), []
        for _ in range(2):
            call(loss, s, t)
            found.append(loss.negative_places[0].tolist())
        return found

    assert drawn(0) == drawn(0)
    assert drawn(0)[0] != drawn(0)[1]
    assert drawn(0) != drawn(1)


def test_the_normaliser_of_the_code_is_that_of_the_first_batch() -> None:
    s, t = features(3, 4), features(3, 4, seed=1)
    loss = bound(CRD(PAIR, variant="code", negatives=10), s, t).double()
    started = copy.deepcopy(loss)
    s.requires_grad_()
    (slope,) = torch.autograd.grad(call(loss, s, t), s)
    first = loss.contrasts[0].log_z.clone()
    started.contrasts[0].log_z.copy_(first)  # the same Z, known before the batch
    assert torch.equal(torch.autograd.grad(call(started, s, t), s)[0], slope)
    call(loss, 5 * s, t + 1)
    assert first.isfinite().all() and torch.equal(loss.contrasts[0].log_z, first)


def test_a_paraphraser_is_trained_first_and_then_stands_still() -> None:
    t = features(8, 6, 5).float()
    s = features(8, 4, 5, seed=1).float().requires_grad_()
    loss = bound(FT(PAIR, rate=0.5, pretrain_steps=60), s.detach(), t)
    optimizer, values = torch.optim.Adam(loss.parameters(), lr=0.03), []
    for _ in range(60):
        value = call(loss, s, t).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert s.grad is None and values[-1] < 0.8 * values[0]
    optimizer.zero_grad()
    call(loss, s, t).mean().backward()
    assert s.grad is not None and s.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.paraphrasers.parameters())
    assert all(p.grad is not None for p in loss.adapters.parameters())
    assert loss.paraphrasers[0].encode(t).shape == (8, 3, 5)


# All of them in training


@pytest.mark.parametrize("name", ALL)
def test_a_student_learns_by_it_in_bf16_and_the_teacher_stays_as_it_is(name: str) -> None:
    with seeded(1, "init"):
        student = Classifier(CNN1d(3, (1, 60), filters=4, hidden=4), "none", (1, 60))
        teacher_model = Classifier(CNN1d(3, (1, 60), filters=6, hidden=8), "none", (1, 60))
    pairs = [["conv1", "conv1"], ["conv2", "conv2"]]
    student.set_feature_layers(["conv1", "conv2"])
    teacher_model.set_feature_layers(["conv1", "conv2"])
    teacher = FrozenTeacher(teacher_model)
    kept = copy.deepcopy(teacher_model.state_dict())
    batch = Batch(features(6, 1, 60).float(), torch.eye(3).repeat(2, 1), torch.arange(6), torch.ones(6))
    objective = Objective({"loss": ALL[name](pairs)}, {"loss": 1.0})
    with torch.no_grad(), seeded(1, "loss_init"):
        objective.bind(FACTS, student(batch.inputs), [teacher(batch)])
    optimizer = torch.optim.SGD([*student.parameters(), *objective.parameters()], lr=1e-4)
    start = copy.deepcopy([*student.network.conv1.parameters(), *objective.parameters()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective(student(batch.inputs), [teacher(batch)], batch)
    loss.backward()
    optimizer.step()
    assert loss.dtype == torch.float32 and loss.isfinite()
    moved = [*student.network.conv1.parameters(), *objective.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(start, moved, strict=True))
    assert all(torch.equal(kept[key], value) for key, value in teacher_model.state_dict().items())
    assert set(student.state_dict()) == set(Classifier(CNN1d(3, (1, 60), 4, 4), "none", (1, 60)).state_dict())


ON_SYNTHETIC = (
    "distill", "dataset=heartbeat_synthetic", "dataset.n=600", "student=cnn1d_student", "teacher=cnn1d_teacher", "device=cpu", "epochs=1",
    "teacher.epochs=1", "bootstrap.resamples=50", "controls=[]", "steps_per_epoch=4", "teacher.steps_per_epoch=4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=hint"], "loss.features"),
        (["loss=hint", "loss.features=[conv9,conv1]"], "conv9"),
        (["loss=hint", "loss.features=[conv1,conv9]"], "conv9"),
        (["loss=hint", "loss.features=[conv1]"], "loss: features=['conv1']: expected [STUDENT_LAYER, TEACHER_LAYER]"),
        (
            ["loss=hint", "loss.features=[dense,conv1]"],
            "a student layer of shape [B, 16] cannot be brought to the teacher's [B, 64, 183]",
        ),
        (["loss=fsp", "loss.features=[conv1,conv1]"], "expected at least 2 pairs, got 1"),
        (["loss=attention", "loss.features=[dense,dense]"], "this loss compares maps [B, C, ...]"),
        (["loss=rkd", "loss.features=[dense,dense]", "loss.distance=-1"], "loss: distance must be >= 0, got -1"),
        (["loss=pkt", "loss.features=[dense,dense]", "loss.variant=mine"], "loss.variant=mine: expected paper or code"),
        *(
            (
                ["batch_size=1", f"loss={name}", "loss.features=[dense,dense]"],
                f"batch_size=1: loss teaches nothing on batches of fewer than {rows} rows",
            )
            for name, rows in {"rkd": 3, "pkt": 3, "correlation": 2, "similarity": 2}.items()
        ),
        (
            [
                "batch_size=2",
                "loss=hint",
                "loss.features=[dense,conv1]",
                "+loss@terms.rkd=rkd",
                "terms.rkd.features=[dense,dense]",
            ],
            "batch_size=2: terms.rkd teaches nothing on batches of fewer than 3 rows",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(distill: Callable[..., Ran], words: list[str], said: str) -> None:
    ran = distill(*ON_SYNTHETIC, *words)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_features_are_distilled_from_the_command_line_and_the_same_seed_gives_the_same_student(
    distill: Callable[..., Ran],
) -> None:
    words = ("distill", "dataset=digits", *TINY, "controls=[]", "loss=crd", "loss.features=[body.1,body.1]",
             "+loss@terms.hint=hint", "terms.hint.features=[[body.1,body.1],[head,head]]", "terms.hint.variant=code")  # fmt: skip
    first, second = distill(*words), distill(*words)
    assert first.code == 0, first.err
    assert first.report["models"]["student"]["test"] == second.report["models"]["student"]["test"]
    assert first.report["terms"]["loss"]["features"] == [{"student": "body.1", "teacher": "body.1", "adapter": None}]
    how = "channels 8 to 16 by a linear map at every position"
    assert [pair["adapter"] for pair in first.report["terms"]["hint"]["features"]] == [how, "as it is"]
    assert f"- hint: body.1 learns from body.1, {how}" in (first.folder / "report.md").read_text()


ONE_POSITION = """
from torch import nn


class Narrow(nn.Module):
    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.map = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))

    def forward(self, x):
        return self.head(self.map(x))
"""


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("review", "batch_size=1: loss teaches nothing on batches of fewer than 2 rows; give batch_size=2 or more"),
        ("attention", "loss: features [map, map]: this loss compares the positions of a map, and the teacher's [B, 4, 1] has 1"),
        ("nst", "loss: features [map, map]: this loss compares the positions of a map, and the teacher's [B, 4, 1] has 1"),
    ],
)
def test_a_map_of_one_position_is_refused_before_the_teacher_is_trained(
    distill: Callable[..., Ran], tmp_path: Path, loss: str, said: str
) -> None:
    name = f"narrow_{loss}"
    (tmp_path / f"{name}.py").write_text(ONE_POSITION)
    networks = [word for who in ("student", "teacher") for word in (f"{who}=custom", f"{who}.model._target_={name}.Narrow")]
    words = [word for word in TINY if not word.startswith(("student", "teacher.model", "batch_size"))]
    ran = distill("distill", "dataset=digits", *words, *networks, "batch_size=1", f"loss={loss}", "loss.features=[map,map]")
    assert ran.code == 2
    assert said in ran.err and len(ran.err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("model.safetensors"))


@settings(max_examples=20, deadline=None)
@given(st.floats(-12, 12), st.sampled_from([1.5, 2.0, 4.0, 8.0, 40.0]), st.sampled_from([torch.float32, torch.float64]))
def test_losses_of_powers_do_not_see_the_scale_of_a_feature(digits: float, power: float, dtype: torch.dtype) -> None:
    s, t = features(4, 3, 5).to(dtype), features(4, 3, 5, seed=1).to(dtype)
    for loss in (Attention(PAIR, power), FT(PAIR, variant="code"), Similarity(PAIR)):
        small = (s * 10**digits).requires_grad_()
        value = call(loss, small, t * 10 ** (digits / 2))
        value.sum().backward()
        assert torch.allclose(value, call(loss, s, t), rtol=1e-3, atol=1e-6)
        assert small.grad is not None and small.grad.isfinite().all() and small.grad.abs().max() > 0


RANGES = [
    (lambda: AB(PAIR, margin=0), "margin must be > 0, got 0"),
    (lambda: Attention(PAIR, power=0.5), "power must be >= 1, got 0.5"),
    (lambda: Correlation(PAIR, gamma=-1), "gamma must be > 0, got -1"),
    (lambda: Correlation(PAIR, order=0), "order must be >= 1, got 0"),
    (lambda: VID(PAIR, variance=0), "variance must be > 1e-05, got 0"),
    (lambda: RKD(PAIR, angle=float("inf")), "angle must be >= 0, got inf"),
    (lambda: RKD(PAIR, distance=0, angle=0), "distance and angle are both 0"),
    (lambda: FT(PAIR, rate=1.5), "rate must be above 0 and at most 1, or null, got 1.5"),
    (lambda: FT(PAIR, pretrain_steps=0), "pretrain_steps must be >= 1, got 0"),
    (lambda: CRD(PAIR, width=0), "width must be >= 1, got 0"),
    (lambda: CRD(PAIR, negatives=0), "negatives must be >= 1, got 0"),
    (lambda: CRD(PAIR, temperature=0), "temperature must be > 0, got 0"),
    (lambda: CRD(PAIR, momentum=1), "momentum must be at least 0 and below 1, got 1"),
    (lambda: CRD(PAIR).bind(DataFacts((1,), (1,), 1), output(features(2, 3)), []), "needs two training rows, got 1"),
    (lambda: Review(PAIR, width=0), "width must be >= 1, got 0"),
]


@pytest.mark.parametrize(("make", "said"), RANGES)
def test_values_out_of_range_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
