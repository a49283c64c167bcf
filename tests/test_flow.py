"""One test per arrow of the data flow: Batch -> mixup -> student, teachers -> Objective -> backward -> best weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_batch, make_pool
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_cli.data.augment import RandomShift, shifted
from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.mixup import Mixup
from distill_cli.errors import UserError
from distill_cli.factory.stages import StageSpec
from distill_cli.losses.base import DistillationLoss
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.logits_mse import LogitsMSE
from distill_cli.losses.objective import Objective
from distill_cli.losses.soft_target import SoftTarget
from distill_cli.metrics.classification import quick_scores
from distill_cli.models.classifier import Classifier
from distill_cli.models.mlp import MLP
from distill_cli.rng import seeded
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.teachers.frozen import FrozenTeacher, PrecomputedTeacher
from distill_cli.teachers.train import training_stats
from distill_cli.training.fit import make_stage
from distill_cli.training.lr_schedules import constant
from distill_cli.training.model_selection import ModelSelection
from distill_cli.training.state import TrainerState
from distill_cli.training.trainer import FitResult, Precision, Trainer, predict
from distill_cli.types import Batch, DataFacts, EpochRecord, ModelOutput, Pool, Stage

CPU = torch.device("cpu")


def network(seed: int = 0, hidden: Sequence[int] = (8,), dropout: float = 0.0) -> Classifier:
    with seeded(seed, "init"):
        return Classifier(MLP(3, (4,), hidden, dropout), "none", (4,))


class Fixed(nn.Module):
    """A loss that returns a constant for each sample."""

    uses_teacher = False

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        return self.values + 0 * student.logits.sum()


class Spy(nn.Module):
    """A loss that keeps what it is given; with a parameter of its own."""

    uses_teacher = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[ModelOutput, list[ModelOutput], Batch]] = []

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        self.seen.append((student, list(teachers), batch))
        return (student.logits * self.scale).square().sum(1)


def trainer(model: Classifier, objective: Objective, pool: Pool, **changes: object) -> tuple[Trainer, Stage]:
    rows, sampler = SubsetLoader(pool, 3, CPU), EpochBatchSampler(pool.y, 16, seed=0)
    given = {
        "name": "student", "model": model, "train_data": rows, "sampler": sampler, "teachers": [], "seed": 0,
        "precision": Precision("32", CPU),
        "validate": lambda m: quick_scores(predict(m, rows, 32).numpy(), pool.y, (0, 1, 2)), **changes,
    }  # fmt: skip
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 1e-2)
    stage = Stage("train", objective, 3, sampler.steps_per_epoch, optimizer, constant(optimizer, 3 * sampler.steps_per_epoch))
    return Trainer(**given), stage  # type: ignore[arg-type]


def run(model: Classifier, objective: Objective, pool: Pool, **changes: object) -> list[EpochRecord]:
    loop, stage = trainer(model, objective, pool, **changes)
    return loop.fit([stage], ModelSelection(), lambda record: None).history


# Batch -> mixup -> student


def test_mixup_blends_inputs_targets_and_labels_by_one_weight() -> None:
    batch = make_batch(8)
    batch.inputs = batch.target.clone()  # then inputs and targets must stay equal
    batch.labeled[0] = 0
    mixed = Mixup(0.5, seed=3)(batch, epoch=1, step=2)
    assert torch.equal(mixed.inputs, mixed.target)
    assert not torch.equal(mixed.inputs, batch.inputs)
    assert torch.allclose(mixed.target.sum(1), torch.ones(8))
    blended = (mixed.labeled == 0).sum()
    assert blended in (1, 2)  # row 0, and the row whose partner it is


def test_mixup_is_a_function_of_seed_epoch_and_step() -> None:
    mix = Mixup(0.5, seed=3)
    first, again, other = (mix(make_batch(8), 1, step).inputs for step in (2, 2, 3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 3))
def test_a_shifted_image_is_the_image_elsewhere_with_zeros_around(down: int, right: int, channels: int) -> None:
    x = torch.rand(2, channels, 4, 5) + 1
    moved = shifted(x, torch.tensor([[down, right], [0, 0]]))
    for i in range(4):
        for j in range(5):
            inside = 0 <= i - down < 4 and 0 <= j - right < 5
            wanted = x[0, :, i - down, j - right] if inside else torch.zeros(channels)
            assert torch.equal(moved[0, :, i, j], wanted)
    assert torch.equal(moved[1], x[1])


def test_shifts_reach_every_offset_and_are_a_function_of_seed_epoch_and_step() -> None:
    x = torch.zeros(400, 1, 9)
    x[:, 0, 4] = 1
    batch = Batch(x, torch.eye(2)[torch.zeros(400, dtype=torch.int64)], torch.arange(400), torch.ones(400))
    first, again, other = (RandomShift(2, seed=1)(batch, 0, step).inputs for step in (0, 0, 1))
    assert set(first.argmax(-1).flatten().tolist()) == {2, 3, 4, 5, 6}
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first.sum(-1) == 1).all()


def test_student_and_teachers_see_the_mixed_batch() -> None:
    spy, pool = Spy(), make_pool()
    seen: list[Tensor] = []

    def listen(batch: Batch) -> ModelOutput:
        seen.append(batch.inputs)
        return ModelOutput(batch.inputs[:, :3])

    def mark(batch: Batch, epoch: int, step: int) -> Batch:
        return replace(batch, inputs=torch.full_like(batch.inputs, 7.0))

    model = network()
    inputs: list[Tensor] = []
    model.network.register_forward_pre_hook(lambda module, given: inputs.append(given[0]) if module.training else None)
    run(model, Objective({"spy": spy}, {"spy": 1.0}), pool, teachers=[listen], transforms=[mark])
    assert inputs and all((x == 7).all() for x in inputs)
    assert seen and all((x == 7).all() for x in seen)
    assert all((batch.inputs == 7).all() for _, _, batch in spy.seen)


# Objective


def test_total_is_the_sum_of_weight_times_mean() -> None:
    objective = Objective({"a": Fixed([1.0, 2.0, 3.0]), "b": Fixed([10.0, 10.0, 10.0])}, {"a": 0.5, "b": 2.0})
    total, parts = objective(ModelOutput(torch.zeros(3, 3)), [], make_batch(3))
    assert total.item() == pytest.approx(0.5 * 2 + 2 * 10)
    assert parts.tolist() == pytest.approx([1.0, 20.0])


def test_a_scalar_loss_is_taken_as_it_is_and_a_matrix_is_refused() -> None:
    class Related(Fixed):
        def forward(self, *args: object) -> Tensor:
            return self.values

    scalar, matrix = Related([1.0]), Related([1.0])
    scalar.values, matrix.values = torch.tensor(4.0), torch.ones(2, 2)
    given = (ModelOutput(torch.zeros(3, 3)), [], make_batch(3))
    assert Objective({"a": scalar}, {"a": 0.5})(*given)[0].item() == 2
    with pytest.raises(ValueError, match=r"a loss returns \[B\] or a scalar"):
        Objective({"a": matrix}, {"a": 0.5})(*given)


def test_every_teacher_reaches_the_loss() -> None:
    spy = Spy()
    teachers = [lambda b, k=k: ModelOutput(torch.full((len(b.inputs), 3), float(k))) for k in range(3)]
    run(network(), Objective({"spy": spy}, {"spy": 1.0}), make_pool(), teachers=teachers)
    assert all([t.logits[0, 0].item() for t in seen] == [0, 1, 2] for _, seen, _ in spy.seen)


def test_a_loss_learns_its_own_parameters_and_the_student_does_not_keep_them() -> None:
    spy, model = Spy(), network()
    run(model, Objective({"spy": spy}, {"spy": 1.0}), make_pool())
    assert spy.scale.item() != 1.0
    assert not any("scale" in name for name in model.state_dict())


def test_a_stage_optimises_the_student_and_every_parameter_of_its_objective() -> None:
    spy, model = Spy(), network()
    part = StageSpec(
        "train", "", Objective({"spy": spy}, {"spy": 1.0}), 2,
        {"_target_": "torch.optim.SGD", "lr": 0.1}, {"_target_": "distill_cli.training.lr_schedules.constant"},
    )  # fmt: skip
    stage = make_stage(model, part, 5)
    optimised = {id(p) for group in stage.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in [*model.parameters(), spy.scale]}


def test_a_control_loses_the_teachers_terms_and_keeps_the_others() -> None:
    extra = Fixed([1.0])
    control = Objective(
        {"kd": SoftTarget(), "mse": LogitsMSE(), "own": extra}, {"kd": 1.0, "mse": 2.0, "own": 3.0}
    ).without_teacher()
    assert control.weights == {"own": 3.0, "cross_entropy": 1.0}
    assert not control.uses_teacher
    kept = Objective({"loss": CrossEntropy(), "mse": LogitsMSE()}, {"loss": 0.7, "mse": 2.0}).without_teacher()
    assert kept.weights == {"loss": 1.0}


def test_a_controls_cross_entropy_has_the_class_weights_of_what_it_replaces() -> None:
    control = Objective({"kd": SoftTarget(class_weight="balanced")}, {"kd": 1.0}).without_teacher()
    assert dict(control.items())["cross_entropy"].class_weight == "balanced"


# Teachers


def test_a_teacher_is_bit_equal_after_teaching_and_never_in_train_mode() -> None:
    with seeded(0, "init"):
        body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model = Classifier(body, "none", (4,))
    model.train()
    teacher = FrozenTeacher(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run(network(1), Objective({"kd": SoftTarget()}, {"kd": 1.0}), make_pool(), teachers=[teacher])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())
    batch = make_batch(4)
    assert torch.equal(teacher(batch).logits, teacher(batch).logits)  # dropout is off
    for module in model.modules():
        with pytest.raises(RuntimeError, match="train mode"):
            module.train()


def test_a_table_of_outputs_is_looked_up_by_row_in_whatever_order_batches_come() -> None:
    pool = make_pool(30).select(np.array([20, 5, 11]))
    table = PrecomputedTeacher(3, torch.as_tensor(pool.index)[:, None].float())
    for mix in (None, Mixup(0.4, 0)):
        batch = SubsetLoader(pool, 3, torch.device("cpu")).batch_at(torch.tensor([2, 0]))
        batch = mix(batch, 0, 0) if mix else batch
        assert table(batch).logits[:, 0].tolist() == batch.index.tolist() == pool.index[[2, 0]].tolist()


def test_a_teacher_keeps_its_own_input_preparation() -> None:
    pool = make_pool()
    own = Classifier(MLP(3, (4,), (8,)), "standardize", (4,))
    own.fit_preprocessing(replace(pool, source=pool.source * 10 + 5))
    batch = SubsetLoader(pool, 3, CPU).batch_at(torch.arange(6))
    by_hand = (batch.inputs - torch.tensor((pool.x * 10 + 5).mean(0))) / torch.tensor((pool.x * 10 + 5).std(0))
    assert torch.allclose(FrozenTeacher(own)(batch).logits, own.network(by_hand), atol=1e-5)


# Order, steps, selection


def test_student_and_control_see_equal_batches_and_start_from_equal_weights() -> None:
    pool, orders = make_pool(), []
    for _ in range(2):
        sampler = EpochBatchSampler(pool.y, 16, seed=4)
        orders.append([positions.tolist() for epoch in range(2) for positions in sampler.epoch(epoch)])
    assert orders[0] == orders[1]
    assert orders[0][:4] != orders[0][4:]
    a, b = network(5), network(5)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_an_epoch_visits_every_row_once_and_leaves_out_a_lone_last_one() -> None:
    visited = torch.cat(list(EpochBatchSampler(np.zeros(50, int), 16, seed=0).epoch(3)))
    assert sorted(visited.tolist()) == list(range(50))
    assert [len(p) for p in EpochBatchSampler(np.zeros(33, int), 16, seed=0).epoch(0)] == [16, 16]


def test_a_fixed_number_of_steps_goes_on_with_the_next_pass() -> None:
    sampler = EpochBatchSampler(np.zeros(8, int), 4, seed=0, steps_per_epoch=3)
    two_epochs = [p.tolist() for epoch in range(2) for p in sampler.epoch(epoch)]
    passes = [p.tolist() for a_pass in range(3) for p in sampler.permutation(a_pass).split(4)]
    assert two_epochs == passes


def test_balanced_sampling_draws_every_class_equally_often() -> None:
    y = np.array([0] * 900 + [1] * 100)
    drawn = torch.cat(list(EpochBatchSampler(y, 100, seed=0, power=1.0).epoch(0)))
    assert 0.42 < (torch.as_tensor(y)[drawn] == 1).float().mean() < 0.58


def test_the_best_epoch_by_validation_is_kept_not_the_last() -> None:
    model, scores, snapshots = network(), iter([0.2, 0.9, 0.4]), []

    def validate(m: nn.Module) -> dict[str, float]:
        snapshots.append({k: v.clone() for k, v in m.state_dict().items()})
        return {"macro_f1": next(scores), "accuracy": 0.0, "nll": 0.0}

    loop, stage = trainer(
        model, Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), make_pool(), validate=validate
    )
    fit = loop.fit([stage], ModelSelection(), lambda record: None)
    assert fit.best_epoch == 1
    assert all(torch.equal(snapshots[1][k], v) for k, v in model.state_dict().items())
    assert not all(torch.equal(snapshots[2][k], v) for k, v in model.state_dict().items())


def test_nll_is_better_when_lower_and_the_first_of_equals_stays() -> None:
    model, selection = network(), ModelSelection("nll", patience=2, higher_is_better=False)
    assert selection.update(0, {"nll": 1.0}, model)
    assert not selection.update(1, {"nll": 1.0}, model)
    assert not selection.should_stop(1)
    assert not selection.update(2, {"nll": 2.0}, model)
    assert selection.should_stop(2)
    assert selection.update(3, {"nll": 0.5}, model)


def test_training_stops_when_patience_is_used_up() -> None:
    loop, stage = trainer(
        network(),
        Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}),
        make_pool(),
        validate=lambda m: {"macro_f1": 0.5},
    )
    assert len(loop.fit([stage], ModelSelection(patience=1), lambda record: None).history) == 2


def test_training_learns() -> None:
    records = run(network(), Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), make_pool(300))
    assert records[-1].loss < 0.7 * records[0].loss
    assert records[-1].loss_terms["cross_entropy"] == pytest.approx(records[-1].loss)


def test_dropout_has_a_stream_of_its_own_and_leaves_the_global_one_alone() -> None:
    pool = make_pool()
    torch.manual_seed(99)
    wanted = torch.rand(3)
    losses = []
    for _ in range(2):
        torch.manual_seed(99)
        losses.append(
            [
                r.loss
                for r in run(network(dropout=0.5), Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), pool)
            ]
        )
        assert torch.equal(torch.rand(3), wanted)
        torch.rand(5)
    assert losses[0] == losses[1]


def test_a_term_that_is_not_finite_stops_the_run_with_its_name_and_step() -> None:
    class Breaks(Fixed):
        calls = 0

        def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
            self.calls += 1
            return student.logits.sum(1) * (float("nan") if self.calls == 6 else 1.0)

    objective = Objective({"fine": CrossEntropy(), "broken": Breaks([0.0])}, {"fine": 1.0, "broken": 1.0})
    with pytest.raises(UserError, match="student: term 'broken' is nan at epoch 2, step 2 of the epoch; lower the learning rate"):
        run(network(), objective, make_pool())


def test_a_state_with_broken_weights_is_not_kept(tmp_path: Path) -> None:
    model = network()
    last = list(model.parameters())[-1]

    class Breaks(Fixed):
        """Fine for four steps; the gradient of the fifth is NaN, though its loss is not."""

        calls = 0

        def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
            self.calls += 1
            zero = student.logits.sum(1) * 0
            return student.logits.square().sum(1) + (zero.sqrt() if self.calls == 5 else zero)

    states = CheckpointManager(tmp_path / "states", "k", every_steps=1)
    objective = Objective({"broken": Breaks([0.0])}, {"broken": 1.0})
    with pytest.raises(UserError, match="student: term 'broken' is nan at epoch 2, step 2 of the epoch"):
        run(model, objective, make_pool(), checkpoints=states)
    assert not bool(last.isfinite().all())
    state, said = CheckpointManager(tmp_path / "states", "k").load_latest()
    assert state is not None and said == ""
    assert all(bool(v.isfinite().all()) for v in state["model"].values())
    assert state["progress"]["global_step"] + state["progress"]["step_in_epoch"] == 4


class Killed(BaseException):
    """What no handler of ours sees."""


@pytest.mark.parametrize("killed_at", [None, 1, 3, 4])
def test_seconds_add_up_to_the_time_that_training_took(
    killed_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps of 25 s and a validation of 7 s an epoch, a state after each 30 s, the process killed after one of the saves."""
    pool, now = make_pool(), [0.0]
    monkeypatch.setattr("distill_cli.training.trainer.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def pass_time(batch: Batch, epoch: int, step: int) -> Batch:
        now[0] += 25
        return batch

    def validate(model: nn.Module) -> dict[str, float]:
        now[0] += 7
        return {"macro_f1": 0.5, "accuracy": 0.5, "nll": 1.0}

    def train() -> FitResult:
        states = CheckpointManager(tmp_path, "k", every_seconds=30.0, clock=lambda: now[0])
        objective = Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0})
        loop, stage = trainer(network(), objective, pool, transforms=(pass_time,), validate=validate, checkpoints=states)
        return loop.fit([stage], ModelSelection(), lambda record: None)

    if killed_at is not None:
        save, count = CheckpointManager.save, iter(range(1, 100))

        def saving(self: CheckpointManager, state: object) -> None:
            save(self, state)  # type: ignore[arg-type]
            if next(count) == killed_at:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(CheckpointManager, "save", saving)
            train()
        now[0] += 1000
    result = train()
    assert [record.seconds for record in result.history] == [107.0, 107.0, 107.0]
    assert result.seconds == 300.0
    assert result.samples / result.seconds == pytest.approx(len(pool) / 100)


@pytest.mark.filterwarnings("ignore:Detected call")
def test_overflows_of_half_precision_are_counted_and_change_nothing() -> None:
    loop, stage = trainer(network(), Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1000.0}), make_pool())
    loop.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    before = {name: value.clone() for name, value in loop.model.state_dict().items()}
    course = TrainerState(loss_sums=[0.0])
    loop.train_step(stage, next(loop.batches(0)), course)
    assert course.skipped_steps == 1
    assert all(torch.equal(value, before[name]) for name, value in loop.model.state_dict().items())
    result = loop.fit([stage], ModelSelection(), lambda record: None)
    assert result.skipped_steps is not None and result.skipped_steps >= 1
    assert training_stats(result, 3)["skipped_steps"] == result.skipped_steps
    plain, stage = trainer(network(), Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), make_pool())
    assert "skipped_steps" not in training_stats(plain.fit([stage], ModelSelection(), lambda record: None), 3)


@pytest.mark.filterwarnings("ignore:Seems like")
def test_gradients_are_clipped_to_the_given_norm() -> None:
    norms = []
    loop, stage = trainer(
        network(), Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1000.0}), make_pool(), clip_grad_norm=0.5
    )
    step = stage.optimizer.step

    def spy(*args: object, **kwargs: object) -> object:
        norms.append(torch.cat([p.grad.flatten() for p in loop.model.parameters()]).norm().item())
        return step(*args, **kwargs)

    stage.optimizer.step = spy  # type: ignore[method-assign]
    loop.fit([stage], ModelSelection(), lambda record: None)
    assert norms == pytest.approx([0.5] * len(norms), rel=1e-3)


def test_a_bound_on_norms_holds_after_every_step() -> None:
    with seeded(0, "init"):
        model = Classifier(MLP(3, (4,), (8,), max_norm=0.3), "none", (4,))
    run(model, Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), make_pool())
    assert model.network.body[1].weight.norm(dim=1).max() <= 0.3 + 1e-6


def test_bf16_trains_and_predicts_finite_float32() -> None:
    model, pool = network(), make_pool()
    records = run(
        model, Objective({"cross_entropy": CrossEntropy()}, {"cross_entropy": 1.0}), pool, precision=Precision("bf16", CPU)
    )
    assert np.isfinite([r.loss for r in records]).all()
    assert predict(model, SubsetLoader(pool, 3, CPU), 7).dtype == torch.float32


# Pools -> rows


def test_data_too_large_for_the_device_gives_the_same_batches() -> None:
    pool = make_pool()
    small, large = SubsetLoader(pool, 3, CPU), SubsetLoader(pool, 3, CPU, resident_gb=0.0)
    assert small.resident and not large.resident
    positions = torch.tensor([3, 59, 0])
    assert torch.equal(small.batch_at(positions).inputs, large.batch_at(positions).inputs)
    assert torch.equal(torch.cat(list(small.iter_inputs(7))), torch.cat(list(large.iter_inputs(7))))


def test_rows_carry_ids_targets_labels_and_groups() -> None:
    pool = make_pool(6)
    labelled = np.array([True, False] * 3)
    pool = Pool(pool.source, pool.rows, pool.y, pool.index, np.array(list("aabbcc")), labelled)
    batch = SubsetLoader(pool, 3, CPU).batch_at(torch.tensor([1, 4]))
    assert batch.index.tolist() == [1001, 1004]
    assert batch.target.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert batch.labeled.tolist() == [0, 1]
    assert batch.group is not None and batch.group.tolist() == [0, 2]


# --- losses without the base class -------------------------------------------------------------------------------


class Plain:
    """A loss that follows the protocol alone, as far as it needs to."""

    uses_teacher = True
    pairs = (("a", "b"),)

    def __init__(self) -> None:
        self.bound: list[DataFacts] = []

    def bind(self, facts: DataFacts) -> None:
        self.bound.append(facts)

    def without_teacher(self) -> Fixed:
        return Fixed([2.0])

    def __call__(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        return student.logits.square().sum(1)


def test_a_loss_without_the_base_class_has_its_defaults_for_what_it_leaves_out() -> None:
    plain, facts = Plain(), DataFacts((4,), (1, 1, 1), 3)
    objective = Objective({"loss": plain}, {"loss": 1.0})
    assert objective.pairs == [("a", "b")] and objective.uses_labels and objective.uses_teacher
    objective.skip_pretraining()
    objective.bind(facts, ModelOutput(torch.zeros(2, 3)), [])
    assert plain.bound == [facts]
    assert objective.without_teacher().weighted_terms(ModelOutput(torch.zeros(1, 3)), [], make_batch(1))[0] == 2
    (_, loss), default = objective.items()[0], DistillationLoss()
    assert isinstance(loss, DistillationLoss)
    for name in {*DistillationLoss.__annotations__} - {"uses_teacher", "pairs"}:
        assert getattr(loss, name) == getattr(default, name)
    plain.uses_labels = False  # type: ignore[attr-defined]
    assert not copy.deepcopy(objective).uses_labels


@pytest.mark.parametrize("wrong", [3, Plain.without_teacher, nn.Linear(1, 1)])
def test_what_is_no_loss_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is no loss: it needs uses_teacher and a call"):
        Objective({"loss": wrong}, {"loss": 1.0})
