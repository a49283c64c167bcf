"""Features tapped by module path: what is heard, what is refused, and that nothing of a tap stays behind."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from conftest import TINY, make_batch
from torch import Tensor, nn

from distill_cli.features.hooks import named_layers, resolve_modules
from distill_cli.models.classifier import Classifier, ReorderClasses
from distill_cli.models.resnet1d import ResNet1d
from distill_cli.rng import seeded
from distill_cli.teachers.frozen import FrozenTeacher
from distill_cli.types import ModelOutput


def classifier(*modules: tuple[str, nn.Module]) -> Classifier:
    with seeded(0, "init"):
        return Classifier(nn.Sequential(OrderedDict(modules)), "standardize", (4,))


def in_place() -> Classifier:
    return classifier(("first", nn.Linear(4, 6)), ("relu", nn.ReLU(inplace=True)), ("last", nn.Linear(6, 3)))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_tap_keeps_what_an_in_place_layer_overwrites() -> None:
    model, x = in_place(), torch.randn(5, 4)
    model.set_feature_layers(["first", "relu"])
    output = model(x)
    first = model.network.get_submodule("first")(x)
    assert (first < 0).any()
    assert torch.equal(output.features["first"], first)
    assert torch.equal(output.features["relu"], first.relu())
    model.set_feature_layers(())
    assert torch.equal(model(x).logits, output.logits)
    assert model(x).features == {}


def test_gradients_of_a_tapped_feature_are_those_of_the_layer() -> None:
    model, x = in_place(), torch.randn(5, 4)
    model.set_feature_layers(["first"])
    model(x).features["first"].square().sum().backward()
    layer = model.network.get_submodule("first")
    wanted = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    assert all(torch.equal(p.grad, g) for p, g in zip(layer.parameters(), wanted, strict=True))


def test_taps_leave_nothing_in_a_model() -> None:
    model = in_place()
    before = list(model.state_dict())
    model.set_feature_layers(["first"])
    model(torch.randn(2, 4))
    assert list(model.state_dict()) == before
    assert hooks(model) == 0
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.network.get_submodule("first").weight.zero_()
        twin.network.get_submodule("first").bias.zero_()
    assert twin(torch.ones(2, 4)).features["first"].abs().sum() == 0  # the copy's own layer, not the first model's
    assert model(torch.ones(2, 4)).features["first"].abs().sum() > 0


def test_hooks_are_gone_after_a_forward_pass_that_failed() -> None:
    model = in_place()
    model.set_feature_layers(["first"])
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 9))
    assert hooks(model) == 0


def test_a_frozen_teacher_tells_features_and_its_model_does_not() -> None:
    model, batch = in_place(), make_batch(4)
    output = FrozenTeacher(model, ["relu", "first"])(batch)
    assert set(output.features) == {"relu", "first"}
    assert not output.features["first"].requires_grad
    assert model(batch.inputs).features == {}
    assert FrozenTeacher(model)(batch).features == {}


def test_paths_are_those_of_the_users_network_through_every_shell() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList([in_place(), in_place()])

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([member(x).logits for member in self.members]).mean(0)

    model = Classifier(ReorderClasses(Mean(), [2, 1, 0]), "none", (4,))
    model.set_feature_layers(["members.1.first"])
    assert set(model(torch.randn(2, 4)).features) == {"members.1.first"}
    resnet = ResNet1d(5, (1, 187))
    assert [path for path, _ in named_layers(Classifier(resnet, "none", (1, 187)))] == [n for n, _ in resnet.named_modules() if n]


def test_a_networks_own_features_stay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(self.last(x), {"input": x})

    model = Classifier(Own(), "none", (4,))
    model.set_feature_layers(["last"])
    assert set(model(torch.randn(2, 4)).features) == {"input", "last"}


class Odd(nn.Module):
    """A network with modules that cannot be tapped."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.pair, self.unused = nn.Linear(4, 4), nn.GRU(4, 4), nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 3)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](self.pair(self.twice(self.twice(x)))[0])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("twice", "module 'twice' runs more than once in a forward pass, so it has no one output; tap one that runs once"),
        ("pair", "module 'pair' returns a tuple, not a tensor; tap a module inside it, or the one after it"),
        ("unused", "module 'unused' does not run in a forward pass, so it has no output to tap"),
        ("blocks", "module 'blocks' does not run in a forward pass"),
        ("block.0", "no module 'block.0' in this network; did you mean 'blocks.0'? (distill layers lists them)"),
        ("", "no module '' in this network (distill layers lists them)"),
    ],
)
def test_what_cannot_be_tapped_is_said_in_one_line(path: str, said: str) -> None:
    model = Classifier(Odd(), "none", (4,))
    with pytest.raises(ValueError) as caught:
        model.set_feature_layers([path])
        model(torch.randn(2, 4))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_path_is_tapped_once() -> None:
    assert list(resolve_modules(in_place(), ["first", "relu", "first"])) == ["first", "relu"]


LOSS = """
import torch
from torch import nn

class Norms(nn.Module):
    uses_teacher = True

    def __init__(self, features):
        super().__init__()
        self.pairs = [tuple(pair) for pair in features]

    def forward(self, student, teachers, batch):
        norms = [student.features[s].norm(dim=1) - teachers[0].features[t].norm(dim=1) for s, t in self.pairs]
        return torch.stack(norms).square().sum(0) + student.logits.square().sum(1)
"""


@pytest.fixture
def norms(distill: Any, tmp_path: Any) -> Any:
    """Run a distillation with a loss on features of the user's own."""
    (tmp_path / "norms.py").write_text(LOSS)
    (tmp_path / "own" / "loss").mkdir(parents=True)

    def run(features: str, *words: str) -> Any:
        (tmp_path / "own" / "loss" / "norms.yaml").write_text(f"_target_: norms.Norms\nweight: 1.0\nfeatures: {features}\n")
        return distill("distill", "--config-dir", "own", "loss=norms", *TINY, *words)

    return run


def test_a_run_taps_student_and_teacher_and_saves_neither(norms: Any) -> None:
    ran = norms("[[body.1, body.1], [head, head]]")
    assert ran.code == 0, ran.err
    assert set(ran.report["models"]) == {"teacher", "student", "scratch"}
    assert ran.report["terms"]["loss"]["value"] > 0


@pytest.mark.parametrize(
    ("features", "words", "said"),
    [
        ("[[bodi.1, body.1]]", (), "features of the student: no module 'bodi.1' in this network; did you mean 'body.1'?"),
        ("[[body.1, haed]]", (), "features of the teacher: no module 'haed' in this network; did you mean 'head'?"),
        (
            "[[body.1, body.1]]",
            ("teacher.logits_file=x.npy",),
            "teacher.logits_file: has logits only, and the loss compares features (the teacher's 'body.1'); "
            "use a teacher with weights, or a loss on logits",
        ),
    ],
)
def test_wrong_paths_end_before_anything_is_trained(norms: Any, features: str, words: tuple[str, ...], said: str) -> None:
    ran = norms(features, *words)
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert "training one" not in ran.out + ran.err
