"""Stages, weights that move, and the gradients of each term: one test per arrow."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import TINY, Ran, make_pool
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.training import split_epochs
from distill_cli.config.trust import load_config
from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.errors import UserError
from distill_cli.factory import controls
from distill_cli.factory.stages import build_stages
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.label_smoothing import LabelSmoothing
from distill_cli.losses.logits_mse import LogitsMSE
from distill_cli.losses.objective import Objective
from distill_cli.losses.weight_schedule import WeightSchedule, parse_weight
from distill_cli.metrics.classification import quick_scores
from distill_cli.models.classifier import Classifier
from distill_cli.rng import seeded
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.frozen import FrozenTeacher
from distill_cli.training.freezing import freeze_all_but, trainable_parameters
from distill_cli.training.gradient_stats import gradient_gram_matrix, gradient_stats
from distill_cli.training.lr_schedules import constant
from distill_cli.training.model_selection import ModelSelection
from distill_cli.training.trainer import Precision, Trainer, predict
from distill_cli.types import Batch, ModelOutput, Stage

CPU = torch.device("cpu")
POOL = make_pool(48)


def network(seed: int = 0) -> Classifier:
    """Layers 0..4: linear, batch norm, dropout, ReLU, linear."""
    with seeded(seed, "init"):
        layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 3)]
        return Classifier(nn.Sequential(*layers), "none", (4,))


class Ones(nn.Module):
    """One for each sample, with a path for gradients."""

    uses_teacher = False

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        return 1 + 0 * student.logits.sum(1)


def two_terms(**weights: float | WeightSchedule) -> Objective:
    return Objective({"match": LogitsMSE(), "cross_entropy": CrossEntropy()}, {"match": 1.0, "cross_entropy": 1.0, **weights})


def stage(name: str, model: Classifier, objective: Objective, epochs: int = 2, **more: Any) -> Stage:
    parameters = trainable_parameters(model.network, more.get("train"))
    optimizer = torch.optim.Adam([*parameters, *objective.parameters()], 1e-2)
    return Stage(name, objective, epochs, 3, optimizer, constant(optimizer, 3 * epochs), **more)


def trainer(model: Classifier, **changes: Any) -> Trainer:
    rows = SubsetLoader(POOL, 3, CPU)
    loop = Trainer(
        name="student", model=model, train_data=rows, sampler=EpochBatchSampler(POOL.y, 16, seed=0), teachers=[FrozenTeacher(network(7))], seed=0,
        validate=lambda m: quick_scores(predict(m, rows, 32).numpy(), POOL.y, (0, 1, 2)), precision=Precision("32", CPU),
    )  # fmt: skip
    return replace(loop, **changes)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def scored(values: Iterator[float]) -> Callable[[nn.Module], dict[str, float]]:
    return lambda model: {"macro_f1": next(values), "accuracy": 0.0, "nll": 0.0}


# Stages


def test_each_stage_changes_its_own_layers_and_nothing_stays_frozen() -> None:
    model, seen = network(), []
    stages = [
        stage("first", model, two_terms(), 1, trainable_modules=("4",)),
        stage("second", model, two_terms(), 1, trainable_modules=("0", "1")),
        stage("third", model, two_terms(), 1),
    ]
    seen.append(weights_of(model))
    trainer(model).fit(stages, ModelSelection(), lambda record: seen.append(weights_of(model)))
    changed = [
        {k.split(".")[1] for k in after if not torch.equal(before[k], after[k])} for before, after in itertools.pairwise(seen)
    ]
    assert changed == [{"4"}, {"0", "1"}, {"0", "1", "4"}]  # the statistics of batch norm stand still with its layer
    assert all(p.requires_grad for p in model.parameters())


def test_layers_are_given_back_as_they_were_when_training_fails() -> None:
    model = network()
    model.network.get_submodule("0").requires_grad_(False)
    with pytest.raises(RuntimeError), freeze_all_but(model.network, ("4",)):
        assert [p.requires_grad for p in model.network.parameters()] == [False] * 4 + [True] * 2
        raise RuntimeError
    assert [p.requires_grad for p in model.network.parameters()] == [False] * 2 + [True] * 4


@pytest.mark.parametrize(
    ("path", "said"), [("44", "no module '44' in this network"), ("3", "the module '3' has no parameters to train")]
)
def test_a_path_that_trains_nothing_is_named(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trainable_parameters(network().network, [path])


def test_the_kept_epoch_is_one_of_the_last_stage() -> None:
    model, seen = network(), []
    stages = [stage("hint", model, two_terms()), stage("soft", model, two_terms())]
    loop = trainer(model, validate=scored(iter([0.9, 0.8, 0.3, 0.2])))
    fit = loop.fit(stages, ModelSelection(), lambda record: seen.append(weights_of(model)))
    assert fit.best_epoch == 2
    assert [record.is_best for record in fit.history] == [False, False, True, False]
    assert [(record.stage, record.epoch, record.step) for record in fit.history] == [
        ("hint", 1, 3), ("hint", 2, 6), ("soft", 3, 9), ("soft", 4, 12),
    ]  # fmt: skip
    assert all(torch.equal(seen[2][name], tensor) for name, tensor in model.state_dict().items())
    assert fit.terms == fit.history[2].loss_terms and fit.steps == 12


def test_patience_counts_in_the_last_stage_only() -> None:
    model = network()
    stages = [stage("hint", model, two_terms(), 4), stage("soft", model, two_terms(), 6)]
    loop = trainer(model, validate=scored(iter([0.5] * 10)))
    records = loop.fit(stages, ModelSelection(patience=2), lambda record: None).history
    assert [record.stage for record in records] == ["hint"] * 4 + ["soft"] * 3


def test_a_term_that_is_not_finite_is_named_with_its_stage() -> None:
    class Breaks(Ones):
        def forward(self, *args: Any) -> Tensor:
            return super().forward(*args) * float("nan")

    model = network()
    stages = [stage("hint", model, two_terms(), 1), stage("soft", model, Objective({"bad": Breaks()}, {"bad": 1.0}))]
    with pytest.raises(UserError, match="student: term 'bad' of stage 'soft' is nan at epoch 2, step 1 of the epoch; lower the"):
        trainer(model).fit(stages, ModelSelection(), lambda record: None)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 300))
def test_a_controls_epochs_are_shared_among_all_stages(like: list[int], more: int) -> None:
    total = len(like) + more
    found = split_epochs(total, like, "longer")
    assert sum(found) == total and min(found) >= 1
    assert split_epochs(sum(like), like, "same") == like


# Weights that move


def test_a_weight_is_that_of_its_step() -> None:
    model = network()
    objective = Objective(
        {"one": Ones(), "cross_entropy": CrossEntropy()}, {"one": WeightSchedule(4.0, 1.0), "cross_entropy": 1.0}
    )
    records = trainer(model).fit([stage("train", model, objective)], ModelSelection(), lambda record: None).history
    steps = [4 - 3 * step / 5 for step in range(6)]  # two epochs of three steps, from first to last
    assert [record.loss_terms["one"] for record in records] == pytest.approx([sum(steps[:3]) / 3, sum(steps[3:]) / 3])
    assert [record.weights["one"] for record in records] == pytest.approx([steps[2], steps[5]])
    assert records[-1].weights["one"] == 1.0


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [("linear", [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]), ("cosine", [1.0, 1.0, 0.8535533905932737, 0.5, 0.0, 0.0]),
     ("step", [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])],
)  # fmt: skip
def test_shapes(shape: str, wanted: list[float]) -> None:
    weight = WeightSchedule(1.0, 0.0, shape, 0.2, 0.6)
    assert [weight.value_at(done) for done in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)] == pytest.approx(wanted)


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from(["linear", "cosine", "step"]),
    st.lists(st.floats(0, 1), min_size=4, max_size=4).map(sorted),
)  # fmt: skip
def test_a_weight_stays_within_its_ends_and_never_turns_back(first: float, last: float, shape: str, at: list[float]) -> None:
    weight = WeightSchedule(first, last, shape, at[0], at[3])
    early, late = weight.value_at(at[1]), weight.value_at(at[2])
    assert min(first, last) <= early <= max(first, last)
    assert (late - early) * (last - first) >= -1e-9 * max(first, last) ** 2
    assert weight.value_at(1.0) == last or at[3] == at[0]


def test_a_weight_that_goes_nowhere_gives_the_same_bits_as_a_number() -> None:
    found = []
    for weight in (0.5, WeightSchedule(0.5, 0.5)):
        model = network()
        trainer(model).fit([stage("train", model, two_terms(match=weight))], ModelSelection(), lambda record: None)
        found.append(weights_of(model))
    assert all(torch.equal(found[0][name], tensor) for name, tensor in found[1].items())


@pytest.mark.parametrize(
    ("beside", "hard", "kept"),
    [
        ({}, WeightSchedule(0.0, 0.5), {"cross_entropy": 1.0}),  # it moved against the teacher's term
        ({}, 0.7, {"cross_entropy": 1.0}),  # it had made room for the teacher's
        ({}, 2.0, {"cross_entropy": 2.0}),
        ({}, WeightSchedule(0.0, 2.0), {"cross_entropy": 2.0}),
        ({}, 0.0, {"cross_entropy": 1.0}),  # switched off: a cross-entropy joins
        ({"own": 0.1}, WeightSchedule(0.0, 0.5), {"own": 0.2, "cross_entropy": 1.0}),
        ({"own": WeightSchedule(0.0, 0.1)}, 0.5, {"own": 0.05, "cross_entropy": 1.0}),
        (
            {"own": WeightSchedule(0.0, 0.1)},
            WeightSchedule(1.0, 0.0),
            {"own": 0.025, "cross_entropy": 0.75},
        ),  # they still move against each other
    ],
)
def test_a_controls_weight_stands_still_where_it_moved_against_the_teachers(
    beside: dict[str, Any], hard: float | WeightSchedule, kept: dict[str, float]
) -> None:
    smooth = LabelSmoothing()
    smooth.is_supervised = False  # as a penalty
    terms = {"match": LogitsMSE(), **dict.fromkeys(beside, smooth), "cross_entropy": CrossEntropy()}
    control = Objective(terms, {"match": 1.0, **beside, "cross_entropy": hard}).without_teacher()
    control.set_progress(0.25)
    assert control.weights == pytest.approx(kept)


def test_a_weight_is_read_from_a_config() -> None:
    assert parse_weight({"from": 1, "to": 0, "shape": "step"}) == WeightSchedule(1, 0, "step")


# Gradients


def test_shares_and_cosines_are_those_computed_by_hand() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    unused = nn.Parameter(torch.ones(2))
    parts = [3 * w[0] + 4 * w[1], 2 * w[1] ** 2 / 2, (w[0] * 0 + 5).detach()]
    measured = gradient_stats(["a", "b", "c"], [gradient_gram_matrix(parts, [w, unused])])
    # gradients (3, 4, 0), (0, 4, 0) and 0
    assert measured.norms == pytest.approx({"a": 5.0, "b": 4.0, "c": 0.0})
    assert measured.shares == pytest.approx({"a": 5 / 9, "b": 4 / 9, "c": 0.0})
    assert measured.cosines[("a", "b")] == pytest.approx(0.8)
    assert measured.cosines[("a", "c")] is None
    assert w.grad is None


def test_the_loop_measures_weighted_terms_on_the_first_batch() -> None:
    linear = Classifier(nn.Sequential(nn.Linear(4, 3)), "none", (4,))
    objective, loop = two_terms(match=0.3), trainer(linear)
    records = loop.fit(
        [stage("train", linear, objective, 3, gradient_log_every=2)], ModelSelection(), lambda record: None
    ).history
    assert [record.gradients is not None for record in records] == [True, False, True]
    linear = Classifier(nn.Sequential(nn.Linear(4, 3)), "none", (4,))
    start = stage("train", linear, objective)
    found = trainer(linear).measure_gradients(start, 0)
    batch = next(iter(loop.batches(0)))
    with torch.no_grad():
        z, v = linear(batch.inputs).logits, loop.teachers[0](batch).logits
    # d/dz of weight x mean over the batch, then the gradient of a linear layer: sum_b dz_b (x_b, 1)
    inputs = torch.cat([batch.inputs, torch.ones(len(batch.inputs), 1)], 1)
    by_hand = {
        "match": (0.3 * 2 * (z - v) / 3 / len(z)).T @ inputs,
        "cross_entropy": ((z.softmax(1) - batch.target) / len(z)).T @ inputs,
    }
    assert found.norms == pytest.approx({name: g.norm().item() for name, g in by_hand.items()}, rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(by_hand["match"].flatten(), by_hand["cross_entropy"].flatten(), 0).item()
    assert found.cosines["match", "cross_entropy"] == pytest.approx(cosine, rel=1e-4)


def test_measuring_changes_nothing() -> None:
    found = []
    for every in (0, 1):
        model = network()
        fit = trainer(model).fit(
            [stage("train", model, two_terms(), 3, gradient_log_every=every, gradient_log_batches=2)],
            ModelSelection(),
            lambda record: None,
        )
        found.append((weights_of(model), [record.loss_terms for record in fit.history]))
    assert all(torch.equal(found[0][0][name], tensor) for name, tensor in found[1][0].items())
    assert found[0][1] == found[1][1]


def test_balance_makes_shares_equal_and_keeps_the_sum_of_lengths() -> None:
    model, objective = network(), two_terms(match=100.0)
    loop, start = trainer(model), stage("train", model, objective, gradient_log_batches=2, balance_gradients=True)
    before = loop.measure_gradients(start, 0)
    loop.balance_loss_weights(start, 0)
    after = loop.measure_gradients(start, 0)
    assert after.shares == pytest.approx({"match": 0.5, "cross_entropy": 0.5}, abs=1e-6)
    assert sum(after.norms.values()) == pytest.approx(sum(before.norms.values()), rel=1e-6)
    assert objective.factors["match"] < 1 < objective.factors["cross_entropy"]


def test_balance_refuses_a_term_without_a_gradient() -> None:
    model = network()
    start = stage("train", model, two_terms(match=0.0), balance_gradients=True)
    said = "student: balance_gradients=at_start: term 'match' has no gradient at the start of the stage, so no factor makes it count; give it a"
    with pytest.raises(UserError, match=said):
        trainer(model).fit([start], ModelSelection(), lambda record: None)


# A run


STAGED = (
    *TINY, "student.model.hidden=[8,8]", "stages=hint_then_soft_target", "stages.hint.epochs=1",
    "stages.hint.loss.features=[[body.2,body.2]]",
)  # fmt: skip


def rows_of(ran: Ran) -> list[dict[str, str]]:
    return list(csv.DictReader((ran.folder / "metrics.csv").open()))


def test_a_staged_run_and_its_controls_have_equal_budgets(distill: Callable[..., Ran]) -> None:
    ran = distill(
        "distill", *STAGED, "stages.hint.train=[body.1]", "stages.hint.optimizer.lr=0.02", "loss.alpha=1",
        "loss.weight={from: 1.0, to: 0.5}", "+loss@terms.cross_entropy=cross_entropy", "log_gradients.every=1", "teacher.epochs=1",
        "controls=[scratch,{name: longer, epochs: 6},{name: one, stages: {}}]",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    report, rows = ran.report, rows_of(ran)
    told = {name: [r["stage"] for r in rows if r["model"] == name] for name in ("student", "scratch", "longer", "one")}
    assert told["student"] == told["scratch"] == ["hint"] + ["soft_target"] * 2
    settings = RunSettings.from_config(load_config(ran.folder / "config.yaml"))
    task, plans = find_task("classification"), controls.build_plans(settings)
    trained = [[part.trainable_modules for part in build_stages(plan, settings.log_gradients, task)] for plan in plans]
    assert trained == [
        [("body.1",), None],
        [None, None],
        [None, None],
        [None],
    ]  # no cross-entropy through a head that stands still
    assert told["longer"] == ["hint"] * 2 + ["soft_target"] * 4
    assert told["one"] == ["train"] * 3
    steps = report["budget"]["student_steps"]
    assert report["budget"]["control_steps"] == {"scratch": steps, "longer": 2 * steps, "one": steps}
    assert [float(r["lr"]) for r in rows if r["model"] == "scratch"] == [0.02, 0.01, 0.01]
    assert [r["best"] for r in rows if r["stage"] == "hint"] == ["0"] * 4
    assert report["models"]["student"]["best_epoch"] > 1
    assert list(report["stages"]) == ["hint", "soft_target"]
    assert report["stages"]["hint"]["train"] == ["body.1"]
    assert report["terms"] == report["stages"]["soft_target"]["terms"]
    shares = [report["terms"][name]["gradient_share"]["first"] for name in ("loss", "cross_entropy")]
    assert sum(shares) == pytest.approx(1)
    assert report["terms"]["loss"]["weights"]["last"] == 0.5
    assert "| hint | loss | 1 |" in (ran.folder / "report.md").read_text()
    assert "student (hint) 1/3:" in ran.err


WRONG = {
    ("stages.hint.epochs=0",): "stages.hint.epochs=0: must be >= 1 or null",
    ("+stages.hint.epoch=3",): "unknown key 'stages.hint.epoch'; did you mean 'epochs'?",
    ("stages.hint.train=[body.9]",): "stages.hint.train: no module 'body.9' in this network; did you mean 'body.4'? "
    "(distill layers lists them)",
    ("stages.hint.train=[head]",): "stages.hint.train=['head']: the loss gives no gradient to any layer that is trained",
    ("stages.hint.train=body",): "stages.hint.train=body: expected a list of modules of the student, such as [conv1], or null",
    ("stages.hint.loss.weight=0",): "stages.hint.loss.weight=0: nothing is left to minimise; give the loss or a term a weight above 0",
    ("stages.soft_target.loss.temperatur=3",): "unknown key 'stages.soft_target.loss.temperatur'",
    ("loss.weight={from: 1.0}",): "loss.weight.to is required: a weight that moves is written {from: 1.0, to: 0.0}",
    ("loss.weight={from: 1.0, to: -1.0}",): "loss.weight.to=-1.0: must be >= 0",
    ("loss.weight={from: 1.0, to: 0.0, shape: square}",): "loss.weight.shape=square: expected linear or cosine or step",
    ("loss.weight={from: 1.0, to: 0.0, start: 0.7, end: 0.2}",): "loss.weight: start and end must be shares with 0 <= start <= end "
    "<= 1, got 0.7 and 0.2",
    ("balance_gradients=always",): "balance_gradients=always: expected at_start or null",
    ("log_gradients.batches=-1",): "log_gradients.batches=-1: must be >= 0",
    ("controls=[{name: short, epochs: 1}]",): "controls.short.epochs=1: the run has 2 stages; give one epoch each at least, "
    "or stages: {}",
    ("controls=[{name: odd, stages: {a: 1}}]",): "controls.odd.stages={'a': 1}: expected {}, one stage; else it has those of the student",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=lambda words: words[0])
def test_stages_that_cannot_be_meant_are_one_line_before_any_training(
    words: tuple[str, ...], distill: Callable[..., Ran]
) -> None:
    ran = distill("distill", *STAGED, *words)
    assert ran.err.splitlines()[-1].startswith(f"distill distill: error: {WRONG[words]}")
    assert len(ran.err.splitlines()) == 1 and ran.code == 2
