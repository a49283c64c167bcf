"""All losses together in one run: each is bound, trained with and reported, and none is left in the student's checkpoint."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from safetensors.torch import load_file

from distill_cli.verify.select_losses import select_losses

LAYERS = "[[conv1,conv1],[conv2,conv2]]"
SMALL = ("experiment=smoke", "dataset.n=200", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20", "student.model.filters=4",
         "teacher.model.filters=6", "teacher.model.hidden=8")  # fmt: skip


@pytest.mark.slow
def test_every_loss_takes_part_in_a_run(distill: Callable[..., Ran]) -> None:
    of_labels = ("binary_cross_entropy", "binary_soft_target")  # for a task of labels: tests/test_multilabel.py
    losses = {name: node for name, node in select_losses([], {}, []).items() if name not in of_labels}
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


FT_ALONE = ("dataset=heartbeat_synthetic", "student=cnn1d_student", "teacher=cnn1d_teacher", "device=cpu", "batch_size=32",
            *SMALL[1:], "loss=ft", "loss.features=[conv2,conv2]", "loss.rate=0.5", "loss.pretrain_steps=10", "loss.weight=1")  # fmt: skip


def test_a_loss_that_trains_itself_first_can_be_the_only_one(distill: Callable[..., Ran]) -> None:
    ran = distill("distill", *FT_ALONE, "epochs=8", "log_gradients.every=1")
    assert ran.code == 0, ran.err
    with open(ran.folder / "metrics.csv", newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["model"] == "student"]
    steps, losses = [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    learning = [loss for step, loss in zip(steps, losses, strict=True) if step - steps[0] >= 10]
    assert len(learning) > 2 and learning[-1] < learning[0]
    never = distill("distill", *FT_ALONE, "loss.pretrain_steps=1000")
    assert (never.code, never.err.count("\n")) == (2, 1)
    assert "error: loss.pretrain_steps=1000: the stage has " in never.err and "would never reach the student" in never.err
    assert not list(Path("outputs").rglob("report.json"))[
        2:
    ]  # the teacher was not trained for it: that of the first run and its own


def test_a_loss_that_trains_itself_first_is_balanced_by_what_it_will_ask_of_the_student(distill: Callable[..., Ran]) -> None:
    words = ("+loss@terms.cross_entropy=cross_entropy", "balance_gradients=at_start", "log_gradients.every=1", "epochs=8")
    ran = distill("distill", *FT_ALONE, *words)
    assert ran.code == 0, ran.err
    terms = ran.report["terms"]
    assert terms["loss"]["gradient_share"]["first"] == 0 and terms["loss"]["gradient_share"]["last"] > 0
    assert terms["loss"]["balance"] * terms["cross_entropy"]["balance"] > 0
