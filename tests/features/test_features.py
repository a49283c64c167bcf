"""Pairs of layers and the adapters between them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_cli.features.adapters import IdentityAdapter, adapter, adapters
from distill_cli.features.numerics import distances, l2_norm, l2_normalize
from distill_cli.features.pairs import Pair, Tokens, paired, read_pairs
from distill_cli.types import ModelOutput


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def output(**features: torch.Tensor) -> ModelOutput:
    return ModelOutput(torch.zeros(2, 3), {name.replace("__", "."): x for name, x in features.items()})


@pytest.mark.parametrize("given", [["a", "b.0"], [["a", "b.0"]], ("a", "b.0"), [[" a ", "b.0"]]])
def test_one_pair_is_written_with_or_without_a_list_around_it(given: object) -> None:
    assert read_pairs(given) == (Pair("a", "b.0"),)


def test_several_pairs_keep_their_order() -> None:
    assert read_pairs([["a", "b"], ["c", "d"]]) == (Pair("a", "b"), Pair("c", "d"))


@pytest.mark.parametrize("given", [None, [], "a", ["a"], ["a", "b", "c"], [["a", "b"], "c"], [["a", ""]], [["a", 1]], {"a": "b"}])
def test_what_is_no_pair_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"expected \[STUDENT_LAYER, TEACHER_LAYER\] or a list of such pairs"):
        read_pairs(given)


def test_a_loss_may_need_more_pairs_than_one() -> None:
    with pytest.raises(ValueError, match="expected at least 2 pairs, got 1"):
        read_pairs(["a", "b"], least=2)


def test_each_layer_is_found_in_the_first_teacher_that_has_it() -> None:
    a, b, c = tensor(2, 4), tensor(2, 5).requires_grad_(), tensor(2, 6)
    found = paired(read_pairs([["x", "t"], ["x", "u"]]), output(x=a), [output(t=b), output(t=c, u=c)])
    assert [tuple(t.shape) for _, t in found] == [(2, 5), (2, 6)]
    assert not found[0][1].requires_grad
    assert found[0][0] is a


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (["y", "t"], "features: the student has no layer 'y' among its outputs; there is conv.0, x"),
        (["x", "y"], "features: the teacher has no layer 'y' among its outputs; there is t"),
    ],
)
def test_a_missing_layer_is_named_with_what_there_is(pair: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired(read_pairs(pair), output(x=tensor(2, 4), conv__0=tensor(2, 4)), [output(t=tensor(2, 4))])


def test_half_precision_features_become_float32_and_double_ones_stay() -> None:
    for dtype, wanted in {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float64: torch.float64}.items():
        x = tensor(2, 4).to(dtype)
        assert [f.dtype for f in paired([Pair("x", "x")], output(x=x), [output(x=x)])[0]] == [wanted, wanted]


@pytest.mark.parametrize(("tokens", "turned"), [("none", (0, 0)), ("student", (1, 0)), ("teacher", (0, 1)), ("both", (1, 1))])
def test_tokens_get_their_channels_on_axis_1(tokens: Tokens, turned: tuple[int, int]) -> None:
    x = tensor(2, 7, 4)
    pair = paired([Pair("x", "x")], output(x=x), [output(x=x)], tokens)[0]
    assert [tuple(f.shape) == (2, 4, 7) for f in pair] == [bool(t) for t in turned]


def test_vectors_are_refused_where_a_loss_compares_maps() -> None:
    said = r"features \[x, y\]: this loss compares maps \[B, C, ...\], and these are \[B, 4\] and \[B, 6\]; choose layers before"
    with pytest.raises(ValueError, match=said):
        adapters([Pair("x", "y")], output(x=tensor(2, 4)), [output(y=tensor(2, 6))], maps=True)


SHAPES = [
    ((2, 4), (2, 4), "as it is"),
    ((2, 4), (2, 6), "channels 4 to 6 by a linear map at every position"),
    ((2, 4, 10), (2, 4, 10), "as it is"),
    ((2, 4, 10), (2, 6, 10), "channels 4 to 6 by a linear map at every position"),
    ((2, 4, 10), (2, 4, 5), "space 10 to 5 averaged"),
    ((2, 4, 10), (2, 6, 23), "space 10 to 23 interpolated, channels 4 to 6 by a linear map at every position"),
    ((2, 4, 8, 8), (2, 6, 4, 4), "space 8x8 to 4x4 averaged, channels 4 to 6 by a linear map at every position"),
    ((2, 4, 8, 3), (2, 4, 4, 6), "space 8x3 to 4x6 averaged and interpolated"),
    ((2, 4, 3, 3, 3), (2, 4, 5, 5, 5), "space 3x3x3 to 5x5x5 interpolated"),
    ((2, 4, 10), (2, 6), "averaged over all positions, channels 4 to 6 by a linear map at every position"),
    ((2, 4, 8, 8), (2, 4), "averaged over all positions"),
]


@pytest.mark.parametrize(("student", "teacher", "said"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_student_gets_the_teachers_shape(
    student: tuple[int, ...], teacher: tuple[int, ...], said: str, dtype: torch.dtype
) -> None:
    x = tensor(*student, dtype=dtype)
    made = adapter(x, tensor(*teacher))
    assert made.description == said
    assert isinstance(made, IdentityAdapter) == (said == "as it is")
    assert made(tensor(5, *student[1:], dtype=dtype)).shape == (5, *teacher[1:])
    assert made(x).dtype == dtype


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 4), (2, 4, 10)), ((2, 4, 10), (2, 4, 8, 8)), ((2, 4, 8, 8), (2, 4, 10)), ((2,), (2, 4))]
)
def test_a_pair_that_cannot_match_is_refused_with_both_shapes(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    here, there = (str(["B", *shape[1:]]).replace("'", "") for shape in (student, teacher))
    with pytest.raises(ValueError) as refused:
        adapters([Pair("a", "b")], output(a=tensor(*student)), [output(b=tensor(*teacher))])
    assert str(refused.value) == (
        f"features [a, b]: a student layer of shape {here} cannot be brought to the teacher's {there}; "
        "choose layers with as many axes, or a teacher layer after its pooling"
    )


def test_channels_or_space_may_be_left_as_they_are() -> None:
    x, y = tensor(2, 4, 10), tensor(2, 6, 5)
    assert adapter(x, y, channels=False)(x).shape == (2, 4, 5)
    assert adapter(x, y, space=False)(x).shape == (2, 6, 10)


def test_an_adapter_is_a_1x1_convolution_of_averages() -> None:
    x = tensor(2, 4, 8, 8)
    made = adapter(x, tensor(2, 6, 4, 4))
    by_hand = nn.functional.conv2d(nn.functional.avg_pool2d(x, 2), made.linear.weight[:, :, None, None], made.linear.bias)
    assert torch.allclose(made(x), by_hand, atol=1e-6)


def test_tokens_are_mapped_along_their_width() -> None:
    x, y = tensor(2, 7, 4), tensor(2, 7, 6)
    made = adapters([Pair("x", "y")], output(x=x), [output(y=y)], "both")
    assert made[0].description == "channels 4 to 6 by a linear map at every position"
    assert torch.allclose(made[0](x.transpose(1, 2)).transpose(1, 2), made[0].linear(x))


def test_zero_vectors_have_zero_gradients() -> None:
    for function in (l2_normalize, l2_norm, distances):
        x = torch.zeros(3, 4, requires_grad=True)
        value = function(x)
        value.sum().backward()
        assert value.abs().max() == 0
        assert x.grad is not None and x.grad.abs().max() == 0


def test_unit_vectors_and_distances_are_those_of_their_definitions() -> None:
    x = tensor(5, 4, dtype=torch.float64)
    assert torch.allclose(l2_normalize(x), x / x.square().sum(1, keepdim=True).sqrt())
    assert torch.allclose(l2_normalize(x, 0), x / x.square().sum(0, keepdim=True).sqrt())
    assert torch.allclose(distances(x), (x[:, None] - x[None]).square().sum(-1).sqrt())
