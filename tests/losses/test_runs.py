"""All losses together in one run: each is bound, trained with and reported, and none is left in the student's checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable

from conftest import Ran
from safetensors.torch import load_file

from distill_cli.commands.chosen_losses import chosen

LAYERS = "[[conv1,conv1],[conv2,conv2]]"
SMALL = ("experiment=smoke", "dataset.n=200", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20", "student.model.filters=4",
         "teacher.model.filters=6", "teacher.model.hidden=8")  # fmt: skip


def test_every_loss_takes_part_in_a_run(distill: Callable[..., Ran]) -> None:
    losses = chosen([], {}, [])
    words = []
    for name, node in losses.items():
        words += [f"+loss@terms.a_{name}={name}", f"terms.a_{name}.weight=1e-6"]
        words += [f"terms.a_{name}.features={LAYERS}"] if "features" in node else []
    ran = distill("distill", *SMALL, *words, "terms.a_crd.negatives=8")
    assert ran.code == 0, ran.err
    terms = ran.report["terms"]
    assert set(terms) == {"loss", *(f"a_{name}" for name in losses)}
    assert all(math.isfinite(term["value"]) for term in terms.values())
    folder = ran.folder / "checkpoint"
    student, control = load_file(folder / "student.safetensors"), load_file(folder / "scratch.safetensors")
    assert {name: t.shape for name, t in student.items()} == {name: t.shape for name, t in control.items()}
