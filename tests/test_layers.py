"""`distill layers`: what it says of a network, which pairs it proposes, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

from distill_cli.features.layer_summary import inspect, suggest_pairs
from distill_cli.models.classifier import Classifier
from distill_cli.models.cnn1d import CNN1d
from distill_cli.models.resnet1d import ResNet1d
from distill_cli.profiling.model_cost import macs, parameter_count

BEAT = (1, 187)
PAIR = ("layers", "teacher=resnet1d", "student=cnn1d_student", "dataset=heartbeat_synthetic")


def by_path(model: nn.Module, shape: tuple[int, ...] = BEAT) -> dict[str, Any]:
    return {layer.path: layer for layer in inspect(model, shape)}


def test_shapes_parameters_and_macs_are_those_of_a_count_by_hand() -> None:
    found = by_path(Classifier(CNN1d(5, BEAT), "standardize", BEAT))
    assert found["conv1"].shape == (32, 183)
    assert (found["conv1"].parameters, found["conv1"].macs) == (32 * 5 + 32, 183 * 32 * 5)
    assert (found["conv2"].parameters, found["conv2"].macs) == (32 * 32 * 3 + 32, 43 * 32 * 32 * 3)
    assert found["dense"].macs == 32 * 16
    assert found["head"].depth == 1


@pytest.mark.parametrize("network", [CNN1d(5, BEAT), ResNet1d(5, BEAT)])
def test_the_outermost_modules_hold_all_parameters_and_macs(network: nn.Module) -> None:
    top = [layer for path, layer in by_path(network).items() if "." not in path]
    inside = [layer for path, layer in by_path(network).items() if path.count(".") == 1]
    assert sum(layer.parameters for layer in top) == parameter_count(network)
    held = [layer for layer in top if not layer.container] + [layer for layer in inside if layer.path.startswith("blocks.")]
    assert sum(layer.macs for layer in held) == macs(network.eval(), BEAT)


class Odd(nn.Module):
    """A network of which little can be tapped."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.pair, self.unused = nn.Linear(4, 4), nn.GRU(4, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pair(self.shared(self.shared(x)))[0])


def test_what_cannot_be_tapped_says_why() -> None:
    found = by_path(Odd(), (4,))
    assert {path: layer.remark for path, layer in found.items()} == {
        "shared": "runs 2 times", "pair": "returns a tuple", "unused": "does not run", "last": "",
    }  # fmt: skip
    assert found["shared"].macs == 2 * 16
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in Odd().modules())


def test_looking_leaves_no_hooks_and_no_changed_statistics() -> None:
    model = ResNet1d(5, BEAT)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inspect(model, BEAT)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_pairs_are_nearest_in_space_then_in_depth_and_no_teacher_layer_twice() -> None:
    student, teacher = inspect(CNN1d(5, BEAT), BEAT), inspect(ResNet1d(5, BEAT), BEAT)
    assert [(s.path, t.path) for s, t in suggest_pairs(student, teacher)] == [("conv1", "stem"), ("conv2", "blocks.1")]
    same = suggest_pairs(student, student)
    assert [(s.path, t.path) for s, t in same] == [(s.path, s.path) for s, _ in same]


def test_the_command_lists_proposes_and_leaves_nothing(distill: Any) -> None:
    ran = distill(*PAIR)
    assert ran.code == 0, ran.err
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "conv2 Conv1d [32, 43] 3,104 132,096" in lines
    assert "blocks.1 Block [48, 46] 23,232 1,059,840" in lines
    assert "pool MaxPool1d [48, 23] 0 0 runs 3 times" in lines
    assert (
        "conv2 [32, 43] blocks.1 [48, 46] space 43 to 46 interpolated, channels 32 to 48 by a linear map at every position"
        in lines
    )
    assert lines[-2:] == ["loss=hint loss.features=[[conv2,blocks.1]]", "loss=hint loss.features=[[conv1,stem],[conv2,blocks.1]]"]
    assert not Path("outputs").exists()


def test_the_proposed_line_can_be_typed(distill: Any) -> None:
    line = distill("layers", *TINY).out.splitlines()[-1]
    assert line == "loss=hint loss.features=[[body.1,body.1]]"
    ran = distill("distill", *TINY, *line.split())
    assert ran.code == 0, ran.err
    assert ran.report["cache"]["features"] == ["body.1"]


def test_an_ensembles_layers_have_their_members_paths(distill: Any) -> None:
    ran = distill("layers", *TINY, "teacher.ensemble.size=2")
    assert "members.1.body.1" in ran.out


def test_a_checkpoints_model_is_listed(distill: Any) -> None:
    trained = distill("train-teacher", "device=cpu", "teacher.epochs=1", "teacher.model.hidden=[16]", "bootstrap.resamples=50")
    ran = distill("layers", *TINY, f"teacher.run={trained.folder}", "teacher.model.hidden=[99]")
    assert ran.code == 0, ran.err
    assert "[16]" in ran.out
    assert "[99]" not in ran.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--json",), "--json: layers makes no report; drop it"),
        (("-m",), "-m: layers makes no report; drop it"),
        (
            ("teacher.logits_file=x.npy",),
            "teacher.logits_file=x.npy: a table of outputs has no layers; choose a teacher with weights",
        ),
        (("teacher.run=nowhere",), "teacher.run=nowhere: no such folder"),
    ],
)
def test_wrong_input_is_one_line(distill: Any, words: tuple[str, ...], line: str) -> None:
    ran = distill("layers", *words)
    assert ran.err.splitlines() == [f"distill layers: error: {line}"]
    assert ran.code == 2
    assert not Path("outputs").exists()


def test_layers_need_no_outputs(distill: Any, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file in the folder's place")
    assert distill(*PAIR).code == 0
    assert distill(*PAIR, "teacher.logits_file=x.npy").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
