"""Generations between teacher and student: each a run of its own, found again by its key, and the next one's teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Ran
from omegaconf import OmegaConf
from safetensors.torch import load_file

from distill_cli.config.validation.generations import generations
from distill_cli.data.digits import digits
from distill_cli.errors import UserError
from distill_cli.models.classifier import Classifier
from distill_cli.models.mlp import MLP
from distill_cli.rng import seeded
from distill_cli.runs import layout
from distill_cli.runs.checkpoint import ModelSpec
from distill_cli.teachers.output_cache import weights_hash
from distill_cli.teachers.train import ResolvedTeacher
from distill_cli.utils import files

Distill = Callable[..., Ran]
TWO = (
    "generations=[{name: large, model: {hidden: [12]}, epochs: 3}, {name: small, model: {hidden: [10]}, loss: {temperature: 1}}]"
)


def folders(ran: Ran) -> dict[str, Path]:
    return {part["name"]: Path(part["source"].split()[-1]) for part in ran.report["generations"][1:-1]}


def found(ran: Ran) -> dict[str, bool]:
    return {part["name"]: "found" in part["source"] for part in ran.report["generations"][1:-1]}


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_each_links_student_teaches_the_next(distill: Distill) -> None:
    ran = distill("distill", *TINY, TWO)
    assert ran.code == 0, ran.err
    assert [part["name"] for part in ran.report["generations"]] == ["teacher", "large", "small", "student"]
    large, small = (report(folders(ran)[name]) for name in ("large", "small"))
    learners = [
        large["models"]["teacher"],
        large["models"]["student"],
        small["models"]["student"],
        ran.report["models"]["student"],
    ]
    teachers = [small["models"]["teacher"], ran.report["models"]["teacher"]]
    assert [part["test"]["macro_f1"] for part in ran.report["generations"]] == [m["test"]["macro_f1"] for m in learners]
    assert [part["parameters"] for part in ran.report["generations"]] == [1210, 910, 760, 610]
    assert [m["test"]["per_class"] for m in teachers] == [m["test"]["per_class"] for m in learners[1:3]]
    weights = [
        load_file(folders(ran)["small"] / "checkpoint/student.safetensors"),
        load_file(ran.folder / "checkpoint/teacher.safetensors"),
    ]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    assert "generations, test macro F1: teacher " in ran.out and "## Generations" in (ran.folder / "report.md").read_text()
    assert large["models"]["student"]["epochs"] == 3 and small["models"]["student"]["epochs"] == 2
    assert small["config"]["loss"]["temperature"] == 1 and small["config"]["loss"]["alpha"] == 0.9
    assert small["config"]["teacher"]["run"] == str(folders(ran)["large"])
    assert set(large["models"]) == {"teacher", "student"}
    again = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false").report
    assert again["models"]["student"]["test"] == ran.report["models"]["student"]["test"]
    assert again["generations"] == ran.report["generations"]


ALONE = (*TINY, "controls=[]")


@pytest.mark.slow
def test_a_link_is_found_by_its_teacher_its_settings_and_its_data(distill: Distill) -> None:
    first = distill("distill", *ALONE, TWO)
    assert found(first) == {"large": False, "small": False}
    other_seed = distill("distill", *ALONE, TWO, "seed=1")
    assert found(other_seed) == {"large": True, "small": True} and folders(other_seed) == folders(first)
    changed = distill("distill", *ALONE, TWO.replace("temperature: 1", "temperature: 3"))
    assert found(changed) == {"large": True, "small": False}
    renamed = distill("distill", *TINY, TWO.replace("name: small", "name: tiny"), "eval_batch_size=64")
    assert found(renamed) == {"large": True, "tiny": True}
    for word in ("teacher.seed=5", "dataset.label_fraction=0.5", "dataset.split_seed=1", "batch_size=32"):
        assert found(distill("distill", *ALONE, TWO, word)) == {"large": False, "small": False}, word
    longer = distill("distill", *ALONE, TWO.replace("epochs: 3", "epochs: 4"))
    assert found(longer) == {"large": False, "small": False}  # its teacher is another


def test_a_sweep_over_seeds_shares_its_links(distill: Distill) -> None:
    ran = distill("distill", *TINY, TWO, "-m", "seed=0,1")
    assert ran.code == 0, ran.err
    assert len(list(Path("outputs/generations").glob("*/report.json"))) == 2
    assert "2 runs: 2 finished" in ran.out


@pytest.mark.slow
def test_a_chain_goes_on_from_a_checkpoint_that_has_no_key(distill: Distill) -> None:
    run = distill("distill", *TINY).folder
    words = (TWO, f"teacher.run={run}", "teacher.run_model=student")
    assert found(distill("distill", *TINY, *words)) == {"large": False, "small": False}
    assert found(distill("distill", *TINY, *words)) == {"large": True, "small": True}
    assert found(distill("distill", *TINY, *words[:2], "teacher.run_model=scratch")) == {"large": False, "small": False}


def test_the_rows_of_the_chains_teacher_are_remembered_with_every_student_it_reached(distill: Distill) -> None:
    ran = distill("distill", *TINY, TWO, "dataset.exclude_classes=[3]")
    data = digits()
    excluded = set(data.train.index[data.train.y == 3].tolist())
    for folder in (*folders(ran).values(), ran.folder):
        assert excluded <= set(layout.read_train_record(folder, "student").index.tolist())
    assert not excluded & set(layout.read_train_record(ran.folder, "scratch").index.tolist())


def config(chain: Any) -> dict[str, Any]:
    return {
        "seed": 0, "epochs": 2, "generations": chain, "controls": ["scratch"], "teacher": {"seed": 7, "ensemble": {"size": 1, "average": "logits", "weights": None}},
        "student": {"model": {"_target_": "distill_cli.models.mlp.MLP", "hidden": [8], "dropout": 0.5}, "preprocessing": None},
        "loss": {"_target_": "distill_cli.losses.soft_target.SoftTarget", "weight": 1.0, "temperature": 2.0},
        "terms": {"extra": {"_target_": "x"}}, "monitor": "macro_f1", "early_stopping": {"patience": None},
    }  # fmt: skip


def test_a_teacher_has_one_fingerprint_and_its_content_another_hash() -> None:
    spec = ModelSpec({"hidden": [2]}, "none", 2, (2,))
    with seeded(0, "init"):
        model = Classifier(MLP(3, (4,), (2,)), "none", (4,))
    weights = weights_hash(model)
    loaded = ResolvedTeacher("weights x", model, spec)
    assert (loaded.content_hash(), loaded.fingerprint()) == (weights, f"{weights}-{files.hash_json(spec.model)}")
    trained = replace(loaded, key="key")
    assert (trained.content_hash(), trained.fingerprint()) == (weights, "key")
    index, values = np.arange(2), np.eye(2)
    table = ResolvedTeacher("logits_file x", None, None, outputs=(index, values))
    assert table.content_hash() == table.fingerprint() == files.hash_bytes(index.tobytes(), values.tobytes())


def test_a_link_is_laid_over_the_students_settings() -> None:
    a, b = generations(config([{"name": "a"}, {"name": "b", "seed": 3, "epochs": 9, "terms": {}, "loss": "cross_entropy", "controls": ["scratch"],
                                         "model": {"hidden": [4]}, "early_stopping": {"patience": 2}, "preprocessing": "none"}]))  # fmt: skip
    assert (a.name, a.config["seed"], a.config["epochs"], a.config["controls"], a.config["generations"]) == ("a", 1007, 2, [], [])
    assert a.config["student"] == config([])["student"] and a.config["loss"] == config([])["loss"]
    assert (b.config["seed"], b.config["epochs"], b.config["terms"], b.config["controls"]) == (3, 9, {}, ["scratch"])
    assert b.config["loss"] == OmegaConf.to_container(OmegaConf.load("conf/loss/cross_entropy.yaml"))
    assert b.config["student"] == {"model": {**config([])["student"]["model"], "hidden": [4]}, "preprocessing": "none"}
    assert (b.config["monitor"], b.config["early_stopping"]) == ("macro_f1", {"patience": 2})


def test_another_class_takes_nothing_from_the_students() -> None:
    (link,) = generations(config([{"name": "a", "model": {"_target_": "my.Net", "width": 3}}]))
    assert link.config["student"]["model"] == {"_target_": "my.Net", "width": 3}


@pytest.mark.parametrize("value", [{"name": "x"}, "ta", 3])
def test_a_chain_is_a_list(value: Any) -> None:
    with pytest.raises(
        UserError, match=r"^generations=.*: expected a list such as \[\{name: assistant, model: mlp_small\}\], or \[\] for none$"
    ):
        generations(config(value))


NAMED = "expected keys, with a name of letters, digits, '.', '_' and '-' that is not teacher or student, such as {name: assistant, model: mlp_small}"  # fmt: skip
WRONG = [
    (f"generations.0={{'model': 'mlp'}}: {NAMED}", "[{model: mlp}]"),
    (f"generations.0=ta: {NAMED}", "[ta]"),
    (f"generations.0={{'name': 'student'}}: {NAMED}", "[{name: student}]"),
    (f"generations.0={{'name': 'a/b'}}: {NAMED}", "[{name: a/b}]"),
    ("generations.1.name=a: there is such a link already; each needs a name of its own", "[{name: a},{name: a}]"),
    ("unknown key 'generations.a.epoch'; did you mean 'epochs'?", "[{name: a, epoch: 3}]"),
    ("generations.a: epochs=0: must be >= 1", "[{name: a, epochs: 0}]"),
    ("generations.a.seed=-1: must be >= 0", "[{name: a, seed: -1}]"),
    ("generations.a.seed=null: expected int", "[{name: a, seed: null}]"),
    ("generations.a.mixup=bta: no such option; did you mean 'beta'? (available: beta, none)", "[{name: a, mixup: bta}]"),
    ("generations.a: loss.temprature: SoftTarget has no such parameter; did you mean 'temperature'?", "[{name: a, loss: {temprature: 2}}]"),
    ("generations.a: loss: temperature must be > 0, got -1", "[{name: a, loss: {temperature: -1}}]"),
    ("generations.a: student.model: a 1-d network takes samples of shape (channels, length), the data has (64,)",
     "[{name: a, model: cnn1d_student}]"),
    ("generations.a: optimizer: Invalid learning rate: -1", "[{name: a, optimizer: {lr: -1}}]"),
    ("generations.a: controls.0=scrach: expected scratch, tuned or {name: ...}; did you mean 'scratch'?", "[{name: a, controls: [scrach]}]"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "chain"), WRONG, ids=[chain for _, chain in WRONG])
def test_a_wrong_link_is_found_before_anything_is_trained(distill: Distill, line: str, chain: str) -> None:
    ran = distill("distill", "device=cpu", f"generations={chain}")
    assert ran.err.splitlines() == [f"distill distill: error: {line}"]
    assert ran.code == 2 and not list(Path("outputs").rglob("*.json"))
