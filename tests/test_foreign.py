"""Networks and teachers that others have made: taken where one reading fits, else refused in one line before any training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Ran
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distill_cli.errors import UserError
from distill_cli.models.classifier import LogitOffset, ReorderClasses
from distill_cli.models.mlp import MLP
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec, build_model
from distill_cli.teachers.weight_files import read_weights
from distill_cli.utils import files

Distill = Callable[..., Ran]

NETWORKS = """
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.size = 1
        for n in input_shape:
            self.size *= n
        self.head = nn.Linear(self.size, num_classes)

    def logits(self, x):
        return self.head(x.flatten(1))

    def forward(self, x):
        return self.logits(x)


class Keyed(Base):
    def forward(self, x):
        return {"logits": self.logits(x), "hidden": x}


class Unkeyed(Base):
    def forward(self, x):
        return {"out": self.logits(x)}


class Pair(Base):
    def forward(self, x):
        return self.logits(x), x


class Listed(Base):
    def forward(self, x):
        return [self.logits(x)]


class PairInTraining(Base):
    def forward(self, x):
        return (self.logits(x), x) if self.training else self.logits(x)


class Attribute(Base):
    def forward(self, x):
        return self.logits(x).no_such_thing


class Asserting(Base):
    def forward(self, x):
        assert x.shape[1] == 3
        return self.logits(x)


class Tied(Base):
    def __init__(self, num_classes, input_shape):
        super().__init__(num_classes, input_shape)
        self.first, self.second = nn.Linear(self.size, self.size), nn.Linear(self.size, self.size)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


class Viewed(Base):
    def __init__(self, num_classes, input_shape):
        super().__init__(num_classes, input_shape)
        self.register_buffer("view", self.head.weight.detach()[:1])
        self.scale = nn.Parameter(self.head.bias[:1])


class Computed(Base):
    def __init__(self, num_classes, input_shape):
        super().__init__(num_classes, input_shape)
        self.register_buffer("row", self.head.weight[:1])


class Extra(Base):
    def get_extra_state(self):
        return {"steps": 3}

    def set_extra_state(self, state):
        pass


class ExtraTensor(Base):
    def get_extra_state(self):
        return torch.ones(2)

    def set_extra_state(self, state):
        self.restored = state


class Lazy(Base):
    def __init__(self, num_classes, input_shape):
        super().__init__(num_classes, input_shape)
        self.spare = nn.LazyLinear(3)


class Softmax(Base):
    def forward(self, x):
        return self.logits(x).softmax(1)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of networks, importable from the folder where the line runs."""
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))


def spec_of(name: str, shape: tuple[int, ...] = (4,)) -> ModelSpec:
    return ModelSpec({"_target_": f"my_networks.{name}"}, "none", 3, shape)


def refusal(name: str, shape: tuple[int, ...] = (4,)) -> str:
    with pytest.raises(UserError) as error:
        build_model(spec_of(name, shape), "student.model")
    assert "\n" not in str(error.value)
    return str(error.value)


# What a network returns


@pytest.mark.parametrize(
    ("name", "what"),
    [("Unkeyed", "a dict with the keys out"), ("Pair", "a tuple of 2 (Tensor, Tensor)"), ("Listed", "a list of 1 (Tensor)")],
)
def test_a_network_without_logits_is_one_line(networks: None, name: str, what: str) -> None:
    assert refusal(name) == (
        f"student.model: this network cannot take the data's samples of shape (4,): it returns {what}; "
        "expected the logits [B, C] as a tensor, or an object or a dict with 'logits'"
    )


def test_other_faults_of_a_network_are_one_line(networks: None) -> None:
    assert "samples of shape (4,): 'Tensor' object has no attribute 'no_such_thing'" in refusal("Attribute")
    assert refusal("Asserting").endswith("of shape (4,): AssertionError")


def test_logits_in_a_dictionary_will_do(networks: None) -> None:
    model, x = build_model(spec_of("Keyed"), "student.model"), torch.rand(2, 4)
    assert torch.equal(model(x).logits, model.network.head(x))
    assert torch.equal(ReorderClasses(model.network, [2, 0, 1])(x), model.network.head(x)[:, [2, 0, 1]])
    assert torch.equal(LogitOffset(model.network, [1.0, 2.0, 3.0])(x), model.network.head(x) + torch.tensor([1.0, 2.0, 3.0]))


def test_a_network_that_returns_something_else_in_training_is_one_line(networks: None, distill: Distill) -> None:
    ran = distill("distill", *TINY[:1], "epochs=1", "student=custom", "student.model._target_=my_networks.PairInTraining")
    text = "student: this network cannot train on batches of 64: it returns a tuple of 2 (Tensor, Tensor)"
    assert ran.code == 2 and text in ran.err.splitlines()[-1] and "Traceback" not in ran.err


def test_images_with_channels_last_are_asked_about() -> None:
    cnn = {"_target_": "distill_cli.models.cnn2d.CNN2d", "filters": [4, 4, 4], "pool_after": [1, 2, 3]}
    with pytest.raises(
        UserError,
        match=r"3 pools leave nothing of images of 32 x 3; channels last\? images are \[channels, height, width\], here \[3, 32, 32\]",
    ):
        build_model(ModelSpec(cnn, "none", 3, (32, 32, 3)), "student.model")
    with pytest.raises(UserError) as error:
        build_model(ModelSpec(cnn, "none", 3, (3, 4, 4)), "student.model")
    assert "3 pools leave nothing" in str(error.value) and "channels last" not in str(error.value)


# What a file of weights can hold


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Extra", "'_extra_state' is a dict (get_extra_state), and a file of weights holds tensors alone"),
        ("Computed", "'row' is computed from parameters when the network is built"),
        ("Lazy", "'spare.weight' is of a lazy layer that the network never calls"),
    ],
)
def test_what_no_file_of_weights_holds_is_refused_before_training(networks: None, name: str, text: str) -> None:
    assert refusal(name).startswith(f"student.model: {text}")


@pytest.mark.parametrize("name", ["Tied", "Viewed", "ExtraTensor"])
def test_tied_weights_and_views_are_saved_and_come_back(networks: None, name: str, tmp_path: Path) -> None:
    model = build_model(spec_of(name), "student.model")
    layout.save_model(tmp_path, "student", model)
    again = build_model(spec_of(name), "student.model", seed=1)
    layout.load_weights(again, layout.read_tensors(layout.weights_file(tmp_path, "student")), "here")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    x = torch.rand(2, 4)
    assert torch.equal(model(x).logits, again(x).logits)


def test_a_student_with_tied_weights_is_trained_and_scored_again(networks: None, distill: Distill) -> None:
    ran = distill(
        "distill", *(w for w in TINY if "student" not in w), "student=custom", "student.model._target_=my_networks.Tied"
    )
    assert ran.code == 0, ran.err
    tensors = load_file(ran.folder / "checkpoint/student.safetensors")
    assert torch.equal(tensors["network.first.weight"], tensors["network.second.weight"])


def test_shared_memory_is_written_twice(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    files.write_arrays(tmp_path / "w.safetensors", {"whole": whole, "part": whole[2:4], "same": whole})
    loaded = load_file(tmp_path / "w.safetensors")
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        "whole": [0, 1, 2, 3, 4, 5], "part": [2, 3], "same": [0, 1, 2, 3, 4, 5],
    }  # fmt: skip


# Checkpoints of other programs

NETWORK = MLP(3, (4,), (5,))
WEIGHTS: dict[str, Tensor] = {name: torch.full_like(tensor, 0.5) for name, tensor in NETWORK.state_dict().items()}
OTHER: dict[str, Tensor] = {name: torch.full_like(tensor, 0.25) for name, tensor in WEIGHTS.items()}
MOMENTS = {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1}]}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def saved(tmp_path: Path, content: Any, suffix: str = ".pt") -> Path:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (WEIGHTS, ""),
        (under("module.", WEIGHTS), " (names without 'module.')"),
        (under("module._orig_mod.", WEIGHTS), " (names without 'module._orig_mod.')"),
        ({"model": WEIGHTS, "optimizer": MOMENTS, "epoch": 7}, " (its 'model')"),
        ({"model_state_dict": WEIGHTS, "loss": 0.1}, " (its 'model_state_dict')"),
        ({"state_dict": under("model.", WEIGHTS), "epoch": 7}, " (its 'state_dict', names without 'model.')"),
        ({"ema": {**under("module.", WEIGHTS), "n_averaged": torch.tensor(3)}}, " (its 'ema', names without 'module.')"),
        ({"state": {"net": WEIGHTS}, "args": {"lr": 0.1}}, " (its 'state.net')"),
    ],
)
def test_the_reading_that_fits_is_taken(tmp_path: Path, content: Any, text: str) -> None:
    reading = read_weights(saved(tmp_path, content), NETWORK, None, {})
    assert reading.described == text
    assert {name: tensor.flatten()[0].item() for name, tensor in reading.tensors.items()} == dict.fromkeys(WEIGHTS, 0.5)


def test_a_prefix_in_safetensors_is_taken_off(tmp_path: Path) -> None:
    reading = read_weights(saved(tmp_path, under("model.", WEIGHTS), ".safetensors"), NETWORK, None, {})
    assert set(reading.tensors) == set(WEIGHTS) and reading.described == " (names without 'model.')"


def test_a_key_chooses_among_several(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": WEIGHTS, "ema": OTHER})
    with pytest.raises(
        UserError, match=r"holds several weights of this architecture; choose one: teacher.weights_key=model or ema"
    ):
        read_weights(path, NETWORK, None, {})
    assert float(read_weights(path, NETWORK, "ema", {}).tensors["head.bias"][0]) == 0.25
    with pytest.raises(UserError, match=r"teacher.weights_key=emma: .* has none; did you mean 'ema'\? \(it holds model, ema\)"):
        read_weights(path, NETWORK, "emma", {})


def test_what_does_not_fit_names_the_first_difference(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": under("module.", {**WEIGHTS, "head.bias": torch.ones(9)})})
    with pytest.raises(UserError, match=r"\(its 'model', names without 'module.'\): .* 'head.bias' has shape \(9,\)"):
        read_weights(path, NETWORK, None, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file_is_one_line_without_a_warning(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(4, 3), torch.ones(1, 4)).save(str(tmp_path / "script.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            UserError, match="a TorchScript file, which holds code, and none of it is run; save the weights alone"
        ):
            read_weights(tmp_path / "script.pt", NETWORK, None, {})
