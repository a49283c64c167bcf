"""Sizes that are promised, and what each network refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill_cli.models.classifier import Classifier, ReorderClasses, Standardise
from distill_cli.models.cnn1d import CNN1d
from distill_cli.models.cnn2d import CNN2d
from distill_cli.models.mlp import MLP
from distill_cli.models.resnet1d import ResNet1d
from distill_cli.pipeline.results import measured
from distill_cli.profiling.model_cost import macs, parameter_count, weight_bytes
from distill_cli.rng import seeded
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.training.lr_schedules import constant, cosine, one_cycle, step
from distill_cli.types import Pool

BEAT = (1, 187)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (CNN1d(5, BEAT, filters=64, hidden=64), 17_221),
        (CNN1d(5, BEAT, filters=32, hidden=16), 3_909),
        (ResNet1d(5, BEAT), 70_421),
        (CNN2d(10, (1, 28, 28)), 16 * 10 + 32 * 16 * 9 + 32 + 64 * 32 * 9 + 64 + 64 * 9 * 10 + 10),
        (CNN2d(10, (1, 28, 28), [8] * 6, [2, 4, 6]), 8 * 10 + 5 * (64 * 9 + 8) + 8 * 9 * 10 + 10),
        (MLP(10, (1, 28, 28), (800, 800)), 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10),
    ],
)
def test_parameters_are_those_promised(network: torch.nn.Module, parameters: int) -> None:
    assert parameter_count(network) == parameters


def test_macs_are_those_of_a_count_by_hand() -> None:
    conv1 = 183 * 32 * 5
    conv2 = 43 * 32 * 32 * 3
    assert macs(CNN1d(5, BEAT), BEAT) == conv1 + conv2 + 32 * 16 + 16 * 5


def test_weight_bytes_count_buffers() -> None:
    assert weight_bytes(torch.nn.BatchNorm1d(4)) == 4 * 4 * 4 + 8


def test_pooling_before_relu_is_the_networks_own_function() -> None:
    network, x = CNN1d(5, BEAT), torch.rand(3, *BEAT)
    h = network.pool1(torch.relu(network.conv1(x)))
    h = network.pool2(torch.relu(network.conv2(h)))
    assert torch.equal(network(x), network.head(torch.relu(network.dense(h.amax(-1)))))


def test_glorot_weights_and_zero_biases() -> None:
    network = CNN1d(5, BEAT, filters=64)
    assert network.conv2.bias.abs().max() == 0
    bound = (6 / (64 * 3 + 64 * 3)) ** 0.5
    assert 0.95 * bound < network.conv2.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CNN1d(5, (187,)), r"samples of shape \(channels, length\), the data has \(187,\)"),
        (lambda: CNN1d(5, (1, 20)), "at least 28 samples, the data has 20"),
        (lambda: ResNet1d(5, BEAT, dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: ResNet1d(5, BEAT, blocks=0), "blocks must be >= 1, got 0"),
        (lambda: CNN2d(5, (64,)), r"images of shape \(channels, height, width\), the data has \(64,\)"),
        (lambda: CNN2d(5, (1, 8, 8), [4, 0]), "one number >= 1 for each convolution"),
        (lambda: CNN2d(5, (1, 8, 8), [4], [2]), "names convolution 2, there are 1"),
        (lambda: CNN2d(5, (1, 4, 4), [4, 4, 4], [1, 2, 3]), "3 pools leave nothing of images of 4 x 4"),
        (lambda: MLP(5, (4,), max_norm=0), "max_norm must be > 0 or null, got 0"),
        (lambda: MLP(5, (4,), hidden=[0]), "hidden must hold sizes >= 1"),
        (
            lambda: Classifier(MLP(5, (4,)), "scaled", (4,)),
            "preprocessing=scaled: expected none or standardize or standardize_per_element",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_the_shortest_signal_passes() -> None:
    assert CNN1d(5, (1, 28))(torch.rand(2, 1, 28)).shape == (2, 5)


def test_a_stream_gives_the_same_weights_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    with seeded(7, "init"):
        a = MLP(3, (4,))
    with seeded(7, "init"):
        b = MLP(3, (4,))
    assert torch.equal(a.head.weight, b.head.weight)
    assert torch.equal(torch.rand(2), wanted)


def test_standardised_rows_have_mean_0_and_deviation_1_and_a_constant_feature_stays_0() -> None:
    x = np.random.default_rng(0).normal(5, 3, (200, 3)).astype(np.float32)
    x[:, 1] = 2
    layer = Standardise((3,))
    layer.fit(Pool(x, np.arange(200), np.zeros(200, int), np.arange(200)))
    out = layer(torch.from_numpy(x))
    assert out.mean(0).abs().max() < 1e-5
    assert out.std(0, correction=0).tolist() == pytest.approx([1, 0, 1], abs=1e-5)
    assert "preprocessing.mean" in Classifier(MLP(3, (3,)), "standardize", (3,)).state_dict()


@pytest.mark.parametrize(("shape", "statistics"), [((5,), (5,)), ((2, 30), (2, 1)), ((3, 8, 6), (3, 1, 1)), ((1, 187), (1, 1))])
def test_statistics_are_of_channels_of_signals_and_images_and_of_features_of_tables(
    shape: tuple[int, ...], statistics: tuple[int, ...]
) -> None:
    draw = np.random.default_rng(0)
    scale = draw.uniform(1, 9, statistics)
    x = (draw.normal(size=(5000, *shape)) * scale + 3 * scale).astype(np.float32)  # more rows than are read at once
    pool = Pool(x, np.arange(5000), np.zeros(5000, int), np.arange(5000))
    model = Classifier(MLP(3, shape), "standardize", shape)
    model.fit_preprocessing(pool)
    axes = (0, *range(2, x.ndim))
    expected = {"mean": x.astype(np.float64).mean(axis=axes), "std": x.astype(np.float64).std(axis=axes)}
    for name, values in expected.items():
        assert model.preprocessing.get_buffer(name).shape == statistics
        np.testing.assert_allclose(model.preprocessing.get_buffer(name).numpy().ravel(), values, rtol=1e-5)
    out = model.preprocessing(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(out.mean(axis=axes), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=axes), 1, atol=1e-4)


def test_statistics_of_each_element_are_kept_on_demand() -> None:
    x = np.random.default_rng(0).normal(5, 3, (200, 2, 7)).astype(np.float32)
    model = Classifier(MLP(3, (2, 7)), "standardize_per_element", (2, 7))
    model.fit_preprocessing(Pool(x, np.arange(200), np.zeros(200, int), np.arange(200)))
    np.testing.assert_allclose(model.preprocessing.get_buffer("mean").numpy(), x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.preprocessing.get_buffer("std").numpy(), x.std(axis=0), rtol=1e-4)


def test_preparation_of_an_image_is_a_few_bytes_of_the_weights() -> None:
    shape = (3, 32, 32)
    sizes = {}
    for prepare in ("none", "standardize", "standardize_per_element"):
        network = {"_target_": "distill_cli.models.cnn2d.CNN2d", "filters": [4], "pool_after": [1]}
        spec = ModelSpec(network, prepare, 3, shape)
        sizes[prepare] = measured(build_model(spec, "student.model"), spec)
    assert {prepare: size["preparation_bytes"] for prepare, size in sizes.items()} == {
        "none": 0, "standardize": 24, "standardize_per_element": 24_576,
    }  # fmt: skip
    assert sizes["standardize"]["weight_bytes"] == sizes["none"]["weight_bytes"] + 24


def test_outputs_are_put_into_the_datas_order() -> None:
    network = ReorderClasses(torch.nn.Identity(), [2, 0, 1])
    assert network(torch.tensor([[10.0, 20.0, 30.0]])).tolist() == [[30, 10, 20]]


def rates(make: object, steps: int = 100, **arguments: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0, momentum=0.9)
    schedule = make(optimizer, steps, **arguments)  # type: ignore[operator]
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_schedules_follow_their_formulas() -> None:
    assert rates(constant) == [2.0] * 100
    assert rates(constant, warmup=0.1)[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    half = rates(cosine)
    assert (half[0], half[50]) == pytest.approx((2.0, 1.0))
    assert rates(cosine, final=0.5)[-1] == pytest.approx(1.0, abs=2e-3)
    stairs = rates(step, milestones=[0.5, 0.75], gamma=0.1)
    assert [stairs[i] for i in (0, 49, 50, 75)] == pytest.approx([2.0, 2.0, 0.2, 0.02])
    cycle = rates(one_cycle)
    assert max(cycle) == pytest.approx(2.0, rel=1e-3)
    assert 25 <= cycle.index(max(cycle)) <= 31
    assert cycle[0] == pytest.approx(2.0 / 25)
    assert cycle[-1] == pytest.approx(2.0 / 25 / 1e4, rel=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_one_cycle_survives_runs_of_a_few_steps(steps: int) -> None:
    assert len(rates(one_cycle, steps)) == steps


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [(constant, {"warmup": 1.0}, "warmup must be"), (cosine, {"final": 2}, "final must be"),
     (step, {"milestones": [0, 1]}, "milestones must be"), (one_cycle, {"peak_at": 0}, "peak_at must be")],
)  # fmt: skip
def test_schedules_refuse_what_makes_no_sense(make: object, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rates(make, **arguments)
