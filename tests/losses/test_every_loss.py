"""Every option of the group loss, in every variant, through the checks of `distill verify`."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_cli.rng import seeded
from distill_cli.types import Batch, DataFacts, ModelOutput
from distill_cli.verify.run import CHECKS
from distill_cli.verify.select_losses import select_losses, signature, source, verify_loss

ROOT = Path(__file__).resolve().parents[2]
LOSSES = select_losses([], {}, [])
# What would make a factor or a term invisible at an option's own settings.
OTHERWISE: dict[str, dict[str, Any]] = {
    "ab": {"margin": 0.3},
    "attention": {"power": 1.5},
    "correlation": {"kernel": "bilinear"},
    "crd": {"negatives": 50, "temperature": 0.5, "width": 6},
    "hint": {"norm": "l1"},
    "rkd": {"distance": 0.0, "angle": 3.0},
    "vid": {"variance": 0.5},
    "dist": {"temperature": 4.0, "beta": 2.0, "gamma": 3.0},
    "dkd": {"alpha": 3.0, "hard": 0.0},
    "jensen_shannon": {"temperature": 5.0},
    "logit_standardisation": {"temperature": 3.0, "hard": 0.0},
    "soft_cross_entropy": {"temperature": 20.0},
    "soft_target": {"temperature": 20.0, "alpha": 1.0},
    "virtual_teacher": {"alpha": 0.7, "temperature": 2.0},
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_passes_every_check(name: str) -> None:
    for settings in ({}, *([OTHERWISE[name]] if name in OTHERWISE else [])):
        rows = verify_loss(name, LOSSES[name], settings)
        assert not [line for row in rows for line in row.problems]
        assert all(set(row.outcomes) == set(CHECKS) for row in rows)
        assert "no reference" not in {row.outcomes["value"].cell for row in rows}


@pytest.mark.parametrize("name", LOSSES)
def test_an_option_sets_every_parameter_of_its_loss_and_names_its_source(name: str) -> None:
    target, parameters = signature(LOSSES[name]["_target_"])
    named = {n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert named <= {*LOSSES[name]}
    assert source(target) != "-" or name in ("cross_entropy", "binary_cross_entropy", "cosine")
    assert LOSSES[name]["weight"] > 0


@pytest.mark.parametrize("name", [name for name in LOSSES if "variant" in LOSSES[name]])
def test_the_papers_variant_is_the_default_of_class_and_option(name: str) -> None:
    target, _ = signature(LOSSES[name]["_target_"])
    assert LOSSES[name]["variant"] == "paper"
    assert inspect.signature(target).parameters["variant"].default == "paper"


def test_one_file_a_loss_and_no_more_than_twenty_six() -> None:
    modules = {node["_target_"].rpartition(".")[0] for node in LOSSES.values()}
    assert len(modules) <= 26


@pytest.fixture
def outputs() -> dict[str, Any]:
    """What the examples take: made by the code at the top of the page of losses."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "reference" / "losses.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    return names


@pytest.mark.parametrize("name", LOSSES)
def test_the_example_of_a_loss_runs(name: str, outputs: dict[str, Any]) -> None:
    target, _ = signature(LOSSES[name]["_target_"])
    (example,) = doctest.DocTestFinder(recurse=False).find(target, target.__name__, globs={**outputs, target.__name__: target})
    assert 2 <= len(example.examples) <= 5
    printed: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(example, out=printed.append).failed == 0, "".join(printed)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_reads_what_it_requires_and_nothing_else(name: str, outputs: dict[str, Any]) -> None:
    target, parameters = signature(LOSSES[name]["_target_"])
    settings = {"features": [["conv1", "conv1"], ["conv2", "conv2"]]} if "features" in parameters else {}
    values = []
    for fields in (("logits", "features"), target.requires):
        student, teacher = (only(outputs[who], fields) for who in ("student", "teacher"))
        loss = target(**settings).eval()
        with seeded(0, "loss_init"):
            loss.bind(outputs["facts"], student, [teacher])
        values.append(loss(student, [teacher], outputs["batch"]))
    assert torch.equal(*values)


def only(output: ModelOutput, fields: Sequence[str]) -> ModelOutput:
    """Return an output with nothing of use in the other fields."""
    nothing: dict[str, Any] = {"logits": torch.tensor(torch.nan), "features": {}}
    return ModelOutput(**{**nothing, **{field: getattr(output, field) for field in fields}})


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n in LOSSES for v in (("paper", "code") if "variant" in LOSSES[n] else ("",))]
)
def test_a_loss_has_a_gradient_from_its_smallest_batch_and_number_of_classes_on(name: str, variant: str) -> None:
    target, parameters = signature(LOSSES[name]["_target_"])
    settings: dict[str, Any] = {"features": [["a", "a"], ["b", "b"]]} if "features" in parameters else {}
    settings |= {"variant": variant} if variant else {}
    for rows in (1, 2, 3):
        for classes in (2, 3):
            loss = target(**settings)
            steep = reaches(loss, rows, classes)
            parts = loss.part_minimums.values()
            has_part = not parts or any(rows >= batch and classes >= least for batch, least in parts)
            assert steep == (rows >= loss.min_batch_size and classes >= loss.min_classes and has_part), (rows, classes)


@pytest.mark.parametrize("name", ["dist", "dkd"])
@pytest.mark.parametrize("part", ["alpha", "beta", "gamma"])
def test_a_part_of_a_loss_has_a_gradient_from_its_minimum_on(name: str, part: str) -> None:
    target, parameters = signature(LOSSES[name]["_target_"])
    weights = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, part: 1.0}
    if part not in parameters:
        return
    loss = target(**{name: value for name, value in weights.items() if name in parameters})
    ((named, (least_rows, least_classes)),) = loss.part_minimums.items()
    assert named == part
    for rows in (1, 2, 3):
        for classes in (2, 3):
            assert reaches(loss, rows, classes) == (rows >= least_rows and classes >= least_classes)


def reaches(loss: Any, rows: int, classes: int) -> bool:
    """Return whether a loss has a gradient on drawn outputs of so many rows and classes."""
    generator = torch.Generator().manual_seed(rows)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def output() -> ModelOutput:
        return ModelOutput(draw(rows, classes), {"a": draw(rows, 4, 6), "b": draw(rows, 4, 3)})

    student, teacher = output(), output()
    leaves = [x.requires_grad_() for x in (student.logits, *student.features.values())]
    with seeded(0, "loss_init"):
        loss.bind(DataFacts((1,), (20,) * classes, 20 * classes), student, [teacher])
    target = torch.eye(classes, dtype=torch.float64)[torch.arange(rows) % classes]
    value = loss.double()(student, [teacher], Batch(draw(rows, 1), target, torch.arange(rows), torch.ones(rows)))
    slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True) if value.requires_grad else ()
    return any(slope is not None and float(slope.abs().max()) > 1e-9 for slope in slopes)
