"""`distill verify` notices each kind of fault, and reaches a user's own losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from torch import Tensor, nn

from distill_cli.verify.run import CHECKS, verify

Distill = Callable[..., Ran]


class Square(nn.Module):
    """``sum_c (z_c - v_c)^2``, without a fault."""

    uses_teacher = True
    uses_labels = False
    zero_at_teacher = True

    def forward(self, student: Any, teachers: Any, batch: Any) -> Tensor:
        return self.of(
            student.logits,
            torch.stack([t.logits.float() if t.logits.dtype != torch.float64 else t.logits for t in teachers]).mean(0),
        )

    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return ((z.float() if z.dtype != torch.float64 else z) - v).square().sum(1)

    def reference(self, student: Any, teachers: Any, batch: Any) -> list[float]:
        rows = []
        for b, z in enumerate(student.logits):
            means = [sum(t.logits[b][c] for t in teachers) / len(teachers) for c in range(len(z))]
            rows.append(sum((a - m) ** 2 for a, m in zip(z, means, strict=True)))
        return rows


class AnotherScale(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z, v) * (1 + 1e-7)


class HalfTheGradient(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z, v) * 0.5 + super().of(z.detach(), v) * 0.5


class OffCentre(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z + 1, v)


class Company(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z, v) * z.detach().std()


class Rooted(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z, v).sqrt()


class Halved(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return (z - v.to(z.dtype)).square().sum(1)


class Hidden(Square):
    """A scale in a plain list, which no optimizer finds."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.ones(1, dtype=torch.float64, requires_grad=True)]

    def of(self, z: Tensor, v: Tensor) -> Tensor:
        return super().of(z, v) * self.scales[0].to(z.dtype)


class Idle(Square):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class InPlace(Square):
    def forward(self, student: Any, teachers: Any, batch: Any) -> Tensor:
        teachers[0].logits.sub_(1)
        return super().forward(student, teachers, batch)


class Peeping(Square):
    uses_labels = True

    def forward(self, student: Any, teachers: Any, batch: Any) -> Tensor:
        return super().forward(student, teachers, batch) * (1 + batch.target[:, 0])


class Denying(Peeping):
    uses_labels = False


class Broken(Square):
    def of(self, z: Tensor, v: Tensor) -> Tensor:
        raise KeyError("oh")


FAULTS = [
    (AnotherScale, "value", "by the reference"),
    (HalfTheGradient, "gradient", "by finite differences"),
    (OffCentre, "at teacher", "where the student equals its teacher"),
    (Company, "alone", "in the batch"),
    (Rooted, "finite", "student and teacher of zeros: the gradient is not finite"),
    (Halved, "finite", "sums need full precision"),
    (Hidden, "own", "not in parameters()"),
    (Idle, "own", "1 of 1 parameter tensors get no gradient"),
    (InPlace, "intact", "changed a tensor"),
    (Peeping, "labels", "reads the targets of rows that have no label"),
    (Denying, "labels", "says uses_labels = False"),
    (Broken, "value", "KeyError: 'oh'"),
]


def test_a_loss_without_a_fault_passes() -> None:
    found = verify(Square)
    assert not [o.problem for o in found.values() if o.problem]
    assert found["at teacher"].cell == "0"
    assert found["alone"].cell == "ok"


@pytest.mark.parametrize(("make", "check", "said"), FAULTS)
def test_a_fault_is_noticed(make: type[nn.Module], check: str, said: str) -> None:
    found = verify(make)[check]
    assert found.cell == "FAIL"
    assert said in found.problem


# --- the command -------------------------------------------------------------------------------------------------

OWN = '''
import torch
from torch import nn


class Margin(nn.Module):
    """max(0, v_c - z_c + margin) for the teacher's first class (arXiv:0000.00000)."""

    uses_teacher = True
    uses_labels = False

    def __init__(self, margin: float = 0.0):
        super().__init__()
        self.margin = margin

    def forward(self, student, teachers, batch):
        z, v = student.logits, teachers[0].logits
        if z.dtype != torch.float64:
            z, v = z.float(), v.float()
        top = v.argmax(1, keepdim=True)
        return torch.relu(v.gather(1, top) - z.gather(1, top) + self.margin).squeeze(1)


class Referred(Margin):
    def reference(self, student, teachers, batch):
        rows = []
        for z, v in zip(student.logits, teachers[0].logits):
            top = v.index(max(v))
            rows.append(max(0.0, v[top] - z[top] + self.margin))
        return rows


class Mistaken(Referred):
    def reference(self, student, teachers, batch):
        return [2 * value for value in super().reference(student, teachers, batch)]


class NoLoss:
    pass
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_losses.py").write_text(OWN)
    for name in ("Margin", "Referred", "Mistaken"):
        file = tmp_path / "mine" / "loss" / f"{name.lower()}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"_target_: own_losses.{name}\nweight: 1.0\nmargin: 0.5\n")
    (tmp_path / "mine" / "loss" / "warm.yaml").write_text("defaults: [soft_target, _self_]\ntemperature: 7.0\n")
    return tmp_path


def test_the_table_has_a_line_a_variant(distill: Distill) -> None:
    ran = distill("verify", "loss=dist,cross_entropy")
    assert ran.code == 0
    head, *lines, last = ran.out.splitlines()
    assert head.split() == ["loss", "variant", "source", *" ".join(CHECKS).split()]
    assert [line.split()[:3] for line in lines] == [
        ["dist", "paper", "arXiv:2205.10536"], ["dist", "code", "arXiv:2205.10536"], ["cross_entropy", "-", "-"],
    ]  # fmt: skip
    assert last == "2 losses in 3 variants: every check holds"


def test_own_losses_are_verified_with_or_without_a_reference(distill: Distill, own: Path) -> None:
    ran = distill("verify", "loss=margin,referred,warm", "--config-dir", "mine")
    assert ran.code == 0, ran.out
    assert "no reference" in ran.out.splitlines()[1]
    assert "no reference" not in ran.out.splitlines()[2]
    bare = distill("verify", "loss._target_=own_losses.Referred", "loss.margin=0.25")
    assert bare.code == 0
    assert bare.out.splitlines()[1].startswith("own_losses.Referred  -        arXiv:0000.00000")


def test_a_reference_that_differs_fails_with_code_1(distill: Distill, own: Path) -> None:
    ran = distill("verify", "loss=mistaken", "--config-dir=mine", "--json")
    assert ran.code == 1
    assert "mistaken: value: one teacher: row 0: " in ran.err
    assert "1 loss in 1 variant: 1 failed checks" in ran.err
    (row,) = json.loads(ran.out)
    assert row["checks"]["value"]["found"] == "FAIL"
    assert row["checks"]["gradient"]["problem"] is None


def test_a_typed_variant_is_the_only_one(distill: Distill) -> None:
    ran = distill("verify", "loss=dist", "loss.variant=code", "loss.temperature=4")
    assert [line.split()[1] for line in ran.out.splitlines()[1:-1]] == ["code"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=dkdd"], "loss=dkdd: no such option; did you mean 'dkd'? (available: "),
        (["loss=own_losses.Margin"], "loss=own_losses.Margin: no such option; a class without a yaml: loss._target_=own_losses.Margin"),
        (["dkd"], "'dkd': expected loss=NAME or loss.KEY=VALUE"),
        (["loss=dkd", "loss.alhpa=1"], "loss.alhpa: DKD has no such parameter; did you mean 'alpha'?"),
        (["loss=dkd", "loss.alpha=-1"], "loss: alpha must be >= 0, got -1"),
        (["loss=dist", "loss.variant=book"], "loss.variant=book: expected "),
        (["--jsn"], "unknown flag '--jsn'; did you mean '--json'?"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["loss._target_=own_losses.NoLoss"], "loss=own_losses.NoLoss: NoLoss is no loss: it needs uses_teacher and a call; see docs/extend.md"),
        (["loss._target_=no.where"], "loss._target_=no.where: not found"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_one_line(distill: Distill, own: Path, words: list[str], said: str) -> None:
    ran = distill("verify", *words)
    assert ran.code == 2
    assert ran.err.startswith(f"distill verify: error: {said}"), ran.err
    assert ran.err.count("\n") == 1
