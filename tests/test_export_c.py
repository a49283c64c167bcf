"""`distill export format=c`: what gcc makes of the files says what PyTorch says, and what has no C is refused by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_cli.errors import UserError
from distill_cli.exports import c
from distill_cli.exports.c_source import real, string
from distill_cli.exports.lowering import plan_of
from distill_cli.exports.memory_plan import places
from distill_cli.exports.operations import rounded
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.models.classifier import Classifier, LogitOffset, ReorderClasses
from distill_cli.models.cnn1d import CNN1d
from distill_cli.models.cnn2d import CNN2d
from distill_cli.models.mlp import MLP
from distill_cli.models.resnet1d import ResNet1d
from distill_cli.rng import seeded
from distill_cli.runs.checkpoint import ModelSpec

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


class Names:
    """As much of a data set as an exporter of C looks at."""

    class_names = ('N "?"', "S\\", "ä", "b", "c")
    columns = None


def subject(model: Classifier, shape: tuple[int, ...], temperature: float = 1.0) -> ExportSource:
    about = {"run": "a */ b ??/"}
    return ExportSource("stu-dent.2", model, ModelSpec({}, "none", 5, shape), Names(), temperature, True, about)  # type: ignore[arg-type]


def classifier(network: nn.Module, shape: tuple[int, ...], prepare: str = "none") -> Classifier:
    """An untrained classifier whose statistics and norms are not those that leave everything as it is."""
    with seeded(0, "test"):
        model = Classifier(network, prepare, shape).eval()
        for name, buffer in model.named_buffers():
            if name.endswith(("mean", "std", "var")):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


def rows(shape: tuple[int, ...], n: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def logits_of(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = model(torch.from_numpy(x))
    return (found if isinstance(found, Tensor) else found.logits).numpy()


def exported(model: Classifier, shape: tuple[int, ...], folder: Path, temperature: float = 1.0) -> list[Artifact]:
    return c.write(subject(model, shape, temperature), folder, None)


class Mixed(nn.Module):
    """Layers and calls that the tool's own networks do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.mean = nn.AvgPool2d(2, padding=1)
        self.most = nn.MaxPool2d(3, stride=1, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding="same", bias=False)
        self.after = nn.BatchNorm2d(8, affine=False)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.mean(self.first(x))))
        y = self.second(x)
        return self.head(self.after(y + self.most(x)) + y.relu())


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 5, 3, stride=2, padding="valid")
        self.pool = nn.AvgPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.pool(self.conv(x)).mean(dim=2, keepdim=True), 1)


NETWORKS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda s: MLP(5, s, hidden=(7, 6), dropout=0.5, input_dropout=0.2), (8,)),
    (lambda s: MLP(5, s, hidden=()), (2, 3)),
    (lambda s: CNN1d(5, s, filters=6, hidden=4), (2, 61)),
    (lambda s: ResNet1d(5, s, width=6, blocks=2), (1, 40)),
    (lambda s: CNN2d(5, s, filters=(4, 6), pool_after=(1,), dropout=0.1), (2, 9, 7)),
    (lambda s: Mixed(), (4, 11, 10)),
    (lambda s: Means(), (2, 30)),
    (lambda s: nn.Linear(4, 5), (4,)),
    (lambda s: LogitOffset(ReorderClasses(MLP(5, s, hidden=(4,)), [4, 2, 0, 1, 3]), [0.5, -1.0, 0.0, 2.0, 0.25]), (6,)),
]


@needs_gcc
@pytest.mark.parametrize(
    ("make", "shape", "prepare"),
    [*((*network, "standardize") for network in NETWORKS), (*NETWORKS[4], "standardize_per_element")],
)
def test_the_compiled_files_say_what_pytorch_says(make: Any, shape: tuple[int, ...], prepare: str, tmp_path: Path) -> None:
    with seeded(1, "test"):
        network = make(shape)
    model = classifier(network, shape, prepare)
    whole, small = exported(model, shape, tmp_path, temperature=1.7)
    x = rows(shape)
    wanted = logits_of(model, x)
    logits, probabilities = whole.run(x)
    assert np.abs(logits - wanted).max() <= 1e-4
    assert np.abs(probabilities - torch.softmax(torch.from_numpy(wanted) / 1.7, 1).numpy()).max() <= 1e-5
    assert np.abs(small.run(x)[0] - wanted).max() < 0.2 * np.abs(wanted).max() + 0.1
    assert small.weight_bytes < whole.weight_bytes


@needs_gcc
@pytest.mark.parametrize("count", [1, 95, 200])
def test_rows_come_back_in_order_from_several_processes(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    whole, _ = exported(classifier(nn.Linear(4, 5), (4,)), (4,), tmp_path)
    x = rows((4,), count)
    alone = [np.concatenate(part) for part in zip(*(whole.run(x[n : n + 1]) for n in range(count)), strict=True)]
    assert all(np.array_equal(one, many) for one, many in zip(alone, whole.run(x), strict=True))


@needs_gcc
@pytest.mark.parametrize(
    ("network", "shape"), [(CNN1d(5, (1, 60), 6, 4), (1, 60)), (CNN2d(5, (1, 8, 8), (4, 6), (1,)), (1, 8, 8))]
)
def test_int8_is_the_network_with_rounded_weights(network: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = classifier(network, shape)
    _, small = exported(model, shape, tmp_path)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                whole, scale = rounded(module.weight.numpy())
                module.weight.copy_(torch.from_numpy(whole * scale.reshape(-1, *[1] * (whole.ndim - 1))))
    x = rows(shape)
    assert np.abs(small.run(x)[0] - logits_of(model, x)).max() <= 1e-4
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    assert small.weight_bytes == sum(w.numel() + 4 * len(w) for w in weights) + sum(4 * b.numel() for b in biases)


@needs_gcc
def test_the_files_compile_without_a_warning_and_say_their_names(tmp_path: Path) -> None:
    shape = (1, 40)
    exported(classifier(ResNet1d(5, shape, width=4, blocks=1), shape), shape, tmp_path)
    (tmp_path / "main.c").write_text(
        '#include "stu-dent.2.h"\n#include <stdio.h>\nint main(void) { int i; for (i = 0; i < STU_DENT_2_CLASSES; i++) '
        'printf("%s\\n", stu_dent_2_class_names[i]); return 0; }\n'
    )
    for flags in ([], ["-DSTU_DENT_2_INT8"]):
        strict = [
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-Wshadow",
            "-Wconversion",
            "-Wno-sign-conversion",
            "-O2",
        ]
        subprocess.run(["gcc", *strict, *flags, "main.c", "stu-dent.2.c", "-lm", "-o", "main"], cwd=tmp_path, check=True)
        said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout.decode()
        assert tuple(said.splitlines()) == Names.class_names
    assert not [w for w in ("malloc", "calloc", "alloca", "free(") if w in (tmp_path / "stu-dent.2.c").read_text()]


class Data(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "layer '1' (LayerNorm): there is no C for layers of this type"),
        (nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Linear(4, 5)), "layer '0' (Unflatten): there is no C for layers of this type"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU()), "layer '1' (GELU): there is no C"),
        (Data(), "Data cannot be followed layer by layer ("),
        (Numbers(), "layer 'bias' ("),
    ],
)
def test_what_has_no_c_is_refused_by_the_name_of_its_layer(network: nn.Module, said: str) -> None:
    with pytest.raises(UserError) as refused:
        plan_of(Classifier(network, "none", (4,)).eval(), (4,))
    assert str(refused.value).startswith("format=c: ")
    assert str(refused.value).endswith("; format=onnx may take it")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"), "padding with circular has no C"),
        (nn.Conv1d(2, 2, 3, padding="same", dilation=1, bias=True, groups=1, padding_mode="reflect"), "padding with reflect"),
        (nn.MaxPool1d(2, ceil_mode=True), "ceil_mode"),
        (nn.MaxPool1d(2, dilation=2), "pools with holes"),
        (nn.AvgPool1d(3, padding=1, count_include_pad=False), "a mean over what is not padding"),
        (nn.AdaptiveAvgPool1d(2), "only an adaptive pool to one number"),
        (nn.BatchNorm1d(2, track_running_stats=False), "without running statistics"),
        (nn.Linear(9, 3), "takes more than one vector a sample"),
    ],
)
def test_settings_that_have_no_c_are_refused(layer: nn.Module, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        plan_of(Classifier(nn.Sequential(layer), "none", (2, 9)).eval(), (2, 9))
    assert "layer '0' (" in str(refused.value)


@needs_gcc
def test_statistics_of_channels_reach_the_channels_they_are_of(tmp_path: Path) -> None:
    shape = (3, 5, 4)
    model = classifier(MLP(5, shape, hidden=(6,)), shape, "standardize")
    model.preprocessing.get_buffer("mean").copy_(torch.tensor([1.0, -2.0, 30.0]).reshape(3, 1, 1))
    model.preprocessing.get_buffer("std").copy_(torch.tensor([0.5, 2.0, 9.0]).reshape(3, 1, 1))
    whole, _ = exported(model, shape, tmp_path)
    x = rows(shape)
    assert np.abs(whole.run(x)[0] - logits_of(model, x)).max() <= 1e-4
    assert next(op for op in plan_of(model, shape).operations if op.kind == "standardise").arrays["mean"].tolist() == [1, -2, 30]


def test_inputs_of_four_axes_are_refused() -> None:
    with pytest.raises(UserError, match="format=c: the input has 4 axes a sample; C is written for up to three"):
        plan_of(Classifier(MLP(5, (2, 2, 2, 2)), "none", (2, 2, 2, 2)).eval(), (2, 2, 2, 2))


def test_without_a_compiler_nothing_is_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(c.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no C compiler here"):
        exported(classifier(MLP(5, (4,)), (4,)), (4,), tmp_path)
    assert not list(tmp_path.iterdir())


def test_values_that_live_at_once_never_share_memory() -> None:
    for make, shape in NETWORKS:
        plan = plan_of(classifier(make(shape), shape, "standardize"), shape)
        where = places(plan)
        last = {value: n for n, op in enumerate(plan.operations) for value in op.inputs}
        for n, op in enumerate(plan.operations):
            for other, made in where.owner.items():
                alive = made in where.offset and last.get(other, -1) > n and any(o.output == other for o in plan.operations[:n])
                mine = where.owner[op.output]
                if alive and mine in where.offset and made != mine:
                    (a, long), (b, wide) = ((where.offset[v], int(np.prod(plan.shape(v)))) for v in (mine, made))
                    assert a + long <= b or b + wide <= a, (op, other)
                assert not (alive and made == mine and op.kind != "reshape"), (op, other)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=200)
def test_numbers_come_back_to_the_same_bits(value: float) -> None:
    assert np.float32(real(value).removesuffix("f")) == np.float32(value)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_rounded_weights_are_off_by_half_a_step_at_most(values: list[float]) -> None:
    weight = np.array([values], np.float32)
    whole, scale = rounded(weight)
    assert np.abs(whole * scale[0] - weight).max() <= 0.5001 * scale[0] + 1e-6
    assert np.abs(whole.astype(int)).max() <= 127


def test_a_string_in_c_holds_no_quote_and_no_trigraph() -> None:
    assert string('a"\\??/ä') == '"a\\042\\134\\077\\077/\\303\\244"'
