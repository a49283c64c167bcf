"""Several teachers as one: every member is heard, by its weight, and the report's score is that of their average."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Ran, make_batch, make_pool
from scipy.special import logsumexp
from sklearn.metrics import f1_score
from torch import Tensor, nn

from distill_cli.data.digits import digits
from distill_cli.data.leakage import TrainRecord, merge_records
from distill_cli.models.classifier import Classifier
from distill_cli.models.ensemble import Ensemble
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import load_model
from distill_cli.teachers.frozen import FrozenTeacher

Distill = Callable[..., Ran]


class Says(nn.Module):
    """A network that says the same logits of every sample."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def ensemble(average: str, weights: list[float] | None = None) -> tuple[Ensemble, Tensor]:
    said = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, -2.0]])
    members = [Classifier(Says(*row), "none", (4,)) for row in said.tolist()]
    return Ensemble(members, average, weights), said


@pytest.mark.parametrize("weights", [None, [2.0, 1.0, 0.0], [1e-3, 1e-3, 5.0]])
def test_every_member_reaches_the_average_by_its_weight(weights: list[float] | None) -> None:
    share = torch.tensor(weights or [1.0, 1.0, 1.0])
    share = share / share.sum()
    model, said = ensemble("logits", weights)
    assert torch.allclose(model(torch.zeros(2, 4)), (share[:, None] * said).sum(0).expand(2, 3))
    model, said = ensemble("probabilities", weights)
    assert torch.allclose(model(torch.zeros(2, 4)).exp(), (share[:, None] * said.softmax(1)).sum(0).expand(2, 3))


def test_each_member_prepares_its_own_inputs() -> None:
    members = []
    for scale in (1, 10):
        member = Classifier(nn.Identity(), "standardize", (4,))
        pool = make_pool()
        member.preprocessing.mean.copy_(torch.tensor(pool.x.mean(0) * scale))
        member.preprocessing.std.copy_(torch.tensor(pool.x.std(0) * scale))
        members.append(member)
    x = make_batch().inputs
    by_hand = sum((x - m.preprocessing.mean) / m.preprocessing.std for m in members) / 2
    assert torch.allclose(Ensemble(members)(x), by_hand, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_mean_of_logits_is_the_geometric_mean_at_every_temperature(temperature: float) -> None:
    model, said = ensemble("logits", [1.0, 2.0, 1.0])
    product = (F.log_softmax(said / temperature, dim=1) * torch.tensor([0.25, 0.5, 0.25])[:, None]).sum(0).exp()
    assert torch.allclose((model(torch.zeros(1, 4))[0] / temperature).softmax(0), product / product.sum())


def test_members_that_are_sure_stay_finite() -> None:
    members = [Classifier(Says(1e4, 0.0, -1e4), "none", (4,)), Classifier(Says(-1e4, 0.0, 1e4), "none", (4,))]
    assert Ensemble(members, "probabilities", [1.0, 0.0])(torch.zeros(1, 4)).isfinite().all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 3 numbers >= 0, one a member, not all 0"):
        ensemble("logits", weights)


def test_a_frozen_ensemble_freezes_every_member() -> None:
    teacher = Classifier(ensemble("logits")[0], "none", (4,))
    FrozenTeacher(teacher)
    assert not any(p.requires_grad for p in teacher.parameters())
    for member in teacher.network.members:
        with pytest.raises(RuntimeError, match="train mode"):
            member.network.train()


def test_the_training_rows_of_an_ensemble_are_all_of_its_members() -> None:
    def record(source: str, index: list[int], hashes: list[int], groups: list[str] | None) -> TrainRecord:
        return TrainRecord(source, np.array(index), groups, np.array(hashes, dtype=np.uint64))

    same = merge_records([record("s", [3, 1], [30, 10], ["b"]), record("s", [1, 2], [10, 10], ["a", "b"])])
    assert (same.source_fingerprint, same.index.tolist(), same.row_hashes.tolist()) == ("s", [1, 2, 3], [10, 10, 30])
    assert same.groups == ["a", "b"]
    other = merge_records([record("s", [1], [10], None), record("t", [1], [20], None)])
    assert other.source_fingerprint == "" and other.row_hashes.tolist() == [10, 20] and other.groups is None


# Whole runs


def member_folders(ran: Ran) -> list[Path]:
    return [Path(re.sub(r"^\w+ ", "", part["source"])) for part in ran.report["teacher_members"]]


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_reported_scores_are_those_of_the_average_by_hand(distill: Distill, average: str) -> None:
    ran = distill(
        "distill", *TINY, "teacher.ensemble.size=3", f"teacher.ensemble.average={average}", "teacher.ensemble.weights=[1,2,5]"
    )
    assert ran.code == 0, ran.err
    data, share = digits(), np.array([1, 2, 5]) / 8
    with torch.no_grad():
        said = [load_model(f, "teacher")[0](torch.as_tensor(data.test.x)).logits.double().numpy() for f in member_folders(ran)]
    stacked = np.stack(said)
    if average == "logits":
        by_hand = (share[:, None, None] * stacked).sum(0)
    else:
        probabilities = np.exp(stacked - logsumexp(stacked, axis=2, keepdims=True))
        by_hand = np.log((share[:, None, None] * probabilities).sum(0))
    teacher, members = ran.report["models"]["teacher"], ran.report["teacher_members"]
    assert teacher["test"]["macro_f1"] == pytest.approx(f1_score(data.test.y, by_hand.argmax(1), average="macro"), abs=1e-12)
    nll = (logsumexp(by_hand, axis=1) - by_hand[np.arange(len(by_hand)), data.test.y]).mean()
    assert teacher["test"]["nll"] == pytest.approx(nll, abs=1e-5)
    for part, logits, weight in zip(members, said, share, strict=True):
        assert part["test"]["macro_f1"] == pytest.approx(f1_score(data.test.y, logits.argmax(1), average="macro"), abs=1e-12)
        assert part["test"]["agreement"] == pytest.approx((logits.argmax(1) == by_hand.argmax(1)).mean())
        assert part["weight"] == pytest.approx(weight)
    assert teacher["steps"] == sum(part["steps"] for part in members)
    assert teacher["parameters"] == 3 * (64 * 16 + 16 + 16 * 10 + 10)
    assert "Members of the teacher" in (ran.folder / "report.md").read_text()
    assert "members of the teacher, test macro F1: " in ran.out


@pytest.mark.slow
def test_members_are_shared_between_ensembles_and_with_single_teachers(distill: Distill) -> None:
    two = distill("distill", *TINY, "teacher.ensemble.size=2")
    three = distill("distill", *TINY, "teacher.ensemble.size=3")
    assert [part["source"].split()[0] for part in three.report["teacher_members"]] == ["found", "found", "trained"]
    assert member_folders(three)[:2] == member_folders(two)
    single = distill("distill", *TINY, "teacher.seed=2")
    assert single.report["teacher_source"] == f"found {member_folders(three)[2]}"
    keys = [part["teacher_key"] for part in three.report["teacher_members"]]
    assert len(set(keys)) == 3 and single.report["teacher_key"] == keys[2]
    assert three.report["teacher_key"] not in (*keys, two.report["teacher_key"], None)
    given = distill("distill", *TINY, f"teacher.run=[{','.join(map(str, member_folders(three)))}]")
    for name in ("teacher", "student", "scratch"):
        assert given.report["models"][name]["test"] == three.report["models"][name]["test"]


@pytest.mark.slow
def test_an_ensemble_is_scored_again_and_teaches_again_from_its_run_folder(distill: Distill) -> None:
    ran = distill("distill", *TINY, "teacher.ensemble.size=2", "mixup=beta")
    for folder in member_folders(ran):
        shutil.rmtree(folder)
    again = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false")
    assert again.code == 0, again.err
    assert again.report["models"]["teacher"]["test"] == ran.report["models"]["teacher"]["test"]
    assert again.report["teacher_members"] == ran.report["teacher_members"]
    mixed = distill("distill", *TINY, f"teacher.run=[{ran.folder},{ran.folder}]", "teacher.run_model=[teacher,student]")
    assert mixed.code == 0, mixed.err
    inner = mixed.report["models"]["teacher"]["architecture"]["members"]
    assert [len(member.get("members", [])) for member in inner] == [2, 0]
    rows = layout.read_train_record(mixed.folder, "teacher")
    assert sorted(rows.index.tolist()) == sorted(digits().train.index.tolist())


def test_a_member_that_saw_the_students_test_rows_is_refused(distill: Distill) -> None:
    fine = distill("distill", *TINY).folder
    other = distill("distill", *TINY, "dataset.split_seed=1").folder
    refused = distill("distill", *TINY, f"teacher.run=[{fine},{other}]")
    assert refused.code == 2
    assert refused.err.startswith(f"distill distill: error: teacher (run {other}): its training rows hold")


@pytest.mark.slow
def test_models_that_cannot_be_members_are_named(distill: Distill) -> None:
    folder = distill("distill", *TINY).folder
    twice = distill("distill", *TINY, f"teacher.run=[{folder},{folder}]")
    said = f"teacher.run.1={folder}: its teacher is a member already; let it count more by teacher.ensemble.weights"
    assert twice.err.strip() == f"distill distill: error: {said}"
    foreign = distill(
        "distill", *TINY, f"teacher.weights={folder}/checkpoint/teacher.safetensors", "+teacher.rename={network.: ''}"
    )
    assert foreign.code == 0, foreign.err
    unknown = distill("distill", *TINY, f"teacher.run=[{folder},{foreign.folder}]")
    assert unknown.err.strip() == (
        f"distill distill: error: teacher.run.1={foreign.folder}: its teacher came from foreign weights or outputs, whose "
        "training rows nobody knows; an ensemble is made of models that this tool trained"
    )


def test_a_damaged_member_is_one_line(distill: Distill) -> None:
    ran = distill("distill", *TINY, "teacher.ensemble.size=2")
    path = ran.folder / "checkpoint/model.json"
    content = json.loads(path.read_text())
    content["models"]["teacher"]["members"][1]["model"]["_target_"] = "os.system"
    path.write_text(json.dumps(content))
    said = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false").err.strip()
    assert "members.1.model._target_=os.system is not trusted" in said and len(said.splitlines()) == 1
    del content["models"]["teacher"]["members"][1]["model"]
    path.write_text(json.dumps(content))
    said = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false").err.strip()
    assert said == f"distill eval: error: {path}: teacher.members.1 has no usable 'model'; the file is damaged"


WRONG = [
    ("teacher.ensemble.size=0: must be >= 1", ("teacher.ensemble.size=0",)),
    ("teacher.ensemble.average=median: expected logits or probabilities", ("teacher.ensemble.average=median",)),
    ("teacher.ensemble.weights=[1, 2]: there is one teacher; set teacher.ensemble.size or a list of teacher.run",
     ("teacher.ensemble.weights=[1,2]",)),
    ("teacher.ensemble.weights=[1, 2]: expected 3 numbers >= 0, one a member, not all of them 0",
     ("teacher.ensemble.size=3", "teacher.ensemble.weights=[1,2]")),
    ("teacher.ensemble.weights=[0, 0]: expected 2 numbers >= 0, one a member, not all of them 0",
     ("teacher.run=[a,b]", "teacher.ensemble.weights=[0,0]")),
    ("teacher.ensemble.size=3: members are trained here; teacher.run=[RUN_A,RUN_B] needs no number",
     ("teacher.ensemble.size=3", "teacher.run=a")),
    ("teacher.ensemble.size=3: members are trained here, and teacher.weights is there already; choose one",
     ("teacher.ensemble.size=3", "teacher.weights=a.pt")),
    ("teacher.weights=['a.pt', 'b.pt']: expected one file; an ensemble is made of run folders (teacher.run=[RUN_A,RUN_B]) "
     "or trained here (teacher.ensemble.size=5)", ("teacher.weights=[a.pt,b.pt]",)),
    ("teacher.run=[]: expected a run folder, or a list of them", ("teacher.run=[]",)),
    ("teacher.run_model=['teacher']: expected 2 names, one a folder of teacher.run",
     ("teacher.run=[a,b]", "teacher.run_model=[teacher]")),
    ("teacher.run.0=a: no such folder", ("teacher.run=[a,b]",)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[" ".join(words) for _, words in WRONG])
def test_what_cannot_be_an_ensemble_is_one_line(distill: Distill, line: str, words: tuple[str, ...]) -> None:
    ran = distill("distill", "device=cpu", *words)
    assert ran.err.splitlines() == [f"distill distill: error: {line}"]
    assert ran.code == 2 and not list(Path("outputs").rglob("*.json"))


def test_train_teacher_says_how_members_are_trained(distill: Distill) -> None:
    ran = distill("train-teacher", "device=cpu", "teacher.ensemble.size=5")
    assert ran.err.strip() == (
        "distill train-teacher: error: teacher.ensemble.size=5: train-teacher trains one teacher a run; sweep over its seeds with "
        "-m seed=0,1,..., and distill teacher.ensemble.size=5 finds them"
    )
