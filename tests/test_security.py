"""Files from strangers: they run no code, write nowhere else, and are shown, not executed. docs/security.md says what is tested where."""

from __future__ import annotations

import csv
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, Ran

from distill_cli.config import ownership
from distill_cli.config.trust import check_trusted
from distill_cli.errors import UserError
from distill_cli.utils import files
from distill_cli.utils.files import safe_name

Distill = Callable[..., Ran]
HUB = {"_target_": "torch.hub.load", "repo_or_dir": "some/where", "model": "x", "trust_repo": True}
FACTS = {"preprocessing": "none", "num_classes": 10, "input_shape": [64]}
HUGE = FACTS | {"model": {"_target_": "distill_cli.models.mlp.MLP", "hidden": [200_000, 200_000]}}
HUGE_ENSEMBLE = FACTS | {"model": {"_target_": "distill_cli.models.ensemble.Ensemble"}, "members": [HUGE]}
NESTED = {
    "alone": HUB,
    "in a component": {"_target_": "torch.nn.Sequential", "first": HUB},
    "in a list": {"_target_": "torch.nn.Sequential", "layers": [[{"deep": HUB}]]},
    "in arguments": {"_target_": "torch.nn.Sequential", "_args_": [HUB]},
    "a partial": {**HUB, "_partial_": True},
}


def refused(ran: Ran, *said: str) -> None:
    assert ran.code == 2, ran.err
    assert len(ran.err.splitlines()) == 1
    assert all(part in ran.err for part in said), ran.err


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What torch.hub.load was called with."""
    calls: list[object] = []
    monkeypatch.setattr(torch.hub, "load", lambda *words, **named: calls.append((words, named)))
    return calls


@pytest.mark.parametrize("where", NESTED)
@pytest.mark.parametrize("command", ["eval", "export", "distill"])
def test_a_strangers_model_is_not_built(distill: Distill, run: Path, hub: list[object], where: str, command: str) -> None:
    path = run / "checkpoint/model.json"
    content = json.loads(path.read_text())
    content["models"]["teacher"]["model"] = content["models"]["student"]["model"] = NESTED[where]
    path.write_text(json.dumps(content))
    line = {"eval": ("run=run",), "export": ("run=run",), "distill": (*TINY, "controls=[]", "teacher.run=run")}[command]
    refused(distill(command, "device=cpu", *line), f"{path}: ", "not trusted" if where != "in arguments" else "not allowed")
    assert not hub


@pytest.mark.parametrize("where", NESTED)
def test_a_strangers_data_set_is_not_built(distill: Distill, run: Path, hub: list[object], where: str) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["dataset"]["unlabeled"] = NESTED[where]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    refused(distill("eval", "device=cpu", "run=run"), f"{run}/config.yaml: dataset: unlabeled")
    assert not hub


def test_what_the_user_trusts_is_built(distill: Distill, run: Path, hub: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["dataset"] = {"_target_": "my_own_data.mine"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    Path("my_own_data.py").write_text("from distill_cli.data.digits import digits\n\ndef mine():\n    return digits()\n")
    refused(
        distill("eval", "device=cpu", "run=run"),
        "dataset: _target_=my_own_data.mine is not trusted; set DISTILL_TRUST='my_own_data.mine'",
    )
    monkeypatch.setenv("DISTILL_TRUST", "my_own_data.*")
    assert distill("eval", "device=cpu", "run=run").code == 0


# --- whose folder it is ------------------------------------------------------------------------------------------

MINE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, input_shape):
        super().__init__(nn.Linear(input_shape[0], num_classes))
"""


def named(folder: Path, target: str, model: str = "student") -> None:
    """Let a run folder name a class of the user's for one of its models; as strong as a stranger's change, until it is signed."""
    path = folder / "checkpoint/model.json"
    content = json.loads(path.read_text())
    content["models"][model]["model"] = {"_target_": target}
    path.write_text(json.dumps(content))


def test_a_run_of_ones_own_needs_no_trust(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    named(run, "users_own.Net")
    ownership.sign(run)
    key = tmp_path / "state/distill/run.key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert ownership.is_own(run)
    node = json.loads((run / "checkpoint/model.json").read_text())["models"]["student"]
    check_trusted(node, "model.json", own=ownership.is_own(run))
    with pytest.raises(UserError, match="interpolations are not allowed"):
        check_trusted({"model": "${oc.env:HOME}"}, "model.json", own=True)
    for name in ("config.yaml", "checkpoint/model.json"):
        text = (run / name).read_text()
        (run / name).write_text(text + " ")
        assert not ownership.is_own(run)
        (run / name).write_text(text)
    assert ownership.is_own(run)
    (run / "checkpoint/signature.json").write_text("[1]")
    assert not ownership.is_own(run)


@pytest.mark.parametrize("state", ["other", "none", "unwritable", "readable by others", "short", "a link"])
def test_without_the_key_a_run_is_a_strangers(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ownership.sign(run)
    key = tmp_path / "state/distill/run.key"
    assert ownership.is_own(run)
    if state == "other":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        named(run, "users_own.Net")
        assert not ownership.is_own(run)
    elif state == "none":
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.delenv("HOME")
        ownership.sign(run)
    elif state == "unwritable":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        ownership.sign(run)
    elif state == "readable by others":
        key.chmod(0o644)
    elif state == "short":
        key.write_bytes(b"1")
    else:
        key.rename(tmp_path / "key")
        key.symlink_to(tmp_path / "key")
    assert not ownership.is_own(run)


def test_trust_is_asked_for_what_is_used_and_typed_on_the_line(distill: Distill, run: Path, tmp_path: Path) -> None:
    module = f"mine_{tmp_path.name.replace('-', '_')}"
    Path(f"{module}.py").write_text(MINE)
    named(run, f"{module}.Net", "teacher")
    words = ("export", "device=cpu", "run=run", "bootstrap.resamples=20")
    assert distill(*words, "output=student").code == 0
    said = f"teacher: model._target_={module}.Net is not trusted; set DISTILL_TRUST='{module}.Net' if you trust it"
    refused(distill(*words, "model_name=teacher", "output=teacher"), said, f"or type --trust '{module}.Net'")
    trusted = distill(*words, "model_name=teacher", "output=teacher", "--trust", f"{module}.*")
    assert "another architecture" in trusted.err and "DISTILL_TRUST" not in os.environ
    refused(distill(*words, "--trust"), "--trust: expected a class or a pattern")


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("sprung",)


def trap(path: Path) -> None:
    if path.suffix == ".pt":
        torch.save({"weight": Trap()}, path)
    elif path.suffix == ".npy":
        np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Trap()))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("w.pt", ("distill", *TINY, "teacher.weights=w.pt")),
        ("w.safetensors", ("distill", *TINY, "teacher.weights=w.safetensors")),
        ("o.npy", ("distill", *TINY, "teacher.logits_file=o.npy")),
        ("u.npy", ("distill", *TINY, "dataset.unlabeled=u.npy")),
        ("run/checkpoint/student.safetensors", ("eval", "device=cpu", "run=run")),
        ("run/checkpoint/rows/teacher.safetensors", ("distill", *TINY, "teacher.run=run")),
    ],
)
def test_nothing_is_unpickled(distill: Distill, run: Path, file: str, words: tuple[str, ...]) -> None:
    trap(Path(file))
    refused(distill(*words), file)
    assert not Path("sprung").exists()


FORMULA, TAG, UP = "=cmd|'/C calc'!A0", "</script><img src=x onerror=alert(1)>", "../../up"


def hostile_table() -> None:
    draw = np.random.default_rng(0)
    with open("table.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["x", "y", TAG, "patient", "class"])
        for n in range(90):
            label = (FORMULA, TAG, UP)[n % 3]
            writer.writerow([*(f"{v:.3f}" for v in draw.normal(size=3) + n % 3), f"+{UP}{n % 15}", label])


def test_names_from_data_stay_names(distill: Distill, tmp_path: Path) -> None:
    hostile_table()
    words = ("device=cpu", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20", "controls=[]")
    ran = distill("distill", *words, "dataset=csv", "dataset.path=table.csv", "dataset.label=class", "dataset.group=patient")
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in tmp_path.iterdir() if "cache" not in p.name) == ["outputs", "table.csv"]
    assert not [p for p in tmp_path.rglob("*") if "up" in p.relative_to(tmp_path).name and p.parent != tmp_path]
    cells = [cell for row in csv.reader((ran.folder / "predictions.csv").open()) for cell in row]
    assert f"'{FORMULA}" in cells and TAG in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert TAG not in (ran.folder / "report.html").read_text()
    assert "<img" not in (ran.folder / "report.md").read_text()
    shipped = distill(
        "export", "device=cpu", f"run={ran.folder}", "format=safetensors", "output=shipped", "bootstrap.resamples=20"
    )
    assert shipped.code == 0, shipped.err
    assert not [p for p in Path("shipped").rglob("*") if p.suffix in (".md", ".html") and "<img" in p.read_text()]


def test_a_models_name_stays_in_the_run_folder(distill: Distill, run: Path, tmp_path: Path) -> None:
    path, name = run / "checkpoint/model.json", "../../../escaped"
    content = json.loads(path.read_text())
    content["models"][name] = content["models"].pop("student")
    path.write_text(json.dumps(content))
    (run / "checkpoint/student.safetensors").rename(run / f"checkpoint/{safe_name(name)}.safetensors")
    before = {p for p in tmp_path.rglob("*") if "outputs" not in p.parts}
    assert distill("eval", "device=cpu", "run=run", "bootstrap.resamples=20").code == 0
    distill("export", "device=cpu", "run=run", f"model_name={name}", "bootstrap.resamples=20", "output=outputs/shipped")
    assert {p for p in tmp_path.rglob("*") if "outputs" not in p.parts} == before
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_run_folder_does_not_keep_anyone_waiting(distill: Distill, run: Path) -> None:
    laughs = "\n- ".join(
        ["&a [x, x]"] + [f"&{n} [{', '.join([f'*{before}'] * 9)}]" for before, n in zip("abcdefgh", "bcdefghi", strict=True)]
    )
    (run / ".hydra/overrides.yaml").write_text(f"- {laughs}\n")
    assert distill("report", "run").code == 0
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    refused(distill("eval", "device=cpu", "run=run"), f"{run}/config.yaml: cannot read (not a plain file)")
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to("/dev/zero")
    refused(distill("eval", "device=cpu", "run=run"), f"{run}/config.yaml: cannot read (not a plain file)")


@pytest.mark.parametrize(
    "changed",
    [
        {"models": {"student": [1]}}, {"data": 3}, {"models": {"student": {"test": {"macro_f1_ci95": 3}}}},
        {"models": {"student": {"parameters": "many"}}}, {"comparison": [1]}, {"models": {"student": {"test": {"confusion": "x"}}}},
    ],
)  # fmt: skip
def test_a_strangers_report_is_drawn_or_refused(distill: Distill, run: Path, changed: Any) -> None:
    def put(into: Any, change: Any) -> None:
        for key, value in change.items():
            if isinstance(value, dict):
                put(into[key], value)
            else:
                into[key] = value

    report = json.loads((run / "report.json").read_text())
    put(report, changed)
    (run / "report.json").write_text(json.dumps(report))
    ran = distill("report", "run")
    assert ran.code in (0, 2) and "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("file", "place", "value", "said"),
    [
        ("checkpoint/model.json", ("models", "student", "order"), "__class__", "order that is none of 10 classes"),
        ("checkpoint/model.json", ("models", "student", "order"), [0] * 10, "order that is none of 10 classes"),
        # Networks of 160 GB and more: refused by their shapes, before the memory is asked for.
        ("checkpoint/model.json", ("models", "student"), HUGE, "are of another architecture"),
        ("checkpoint/model.json", ("models", "student"), HUGE_ENSEMBLE, "are of another architecture"),
        ("config.yaml", ("bootstrap",), {"resamples": "${oc.env:HOME}"}, "expected int"),
    ],
)
def test_a_strangers_values_are_checked(distill: Distill, run: Path, file: str, place: Any, value: Any, said: str) -> None:
    content = yaml.safe_load((run / file).read_text())
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    (run / file).write_text(json.dumps(content))
    refused(distill("eval", "device=cpu", "run=run"), said)


def test_a_config_without_draws_is_scored_with_the_tools(distill: Distill, run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["bootstrap"], config["eval_batch_size"] = 5, 64
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert distill("eval", "device=cpu", "run=run", "bootstrap.resamples=20", "report.html=false").code == 0


def test_pictures_are_drawn_through_no_link(distill: Distill, run: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    files.remove([run / "plots"])
    (run / "plots").symlink_to(tmp_path / "victim")
    ran = distill("report", "run")
    assert "plots: is a symbolic link" in ran.err
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/b", "/etc/passwd", "a\x00b", "C:\\x", "é", "\n"])
def test_a_safe_name_is_one_file_name(name: str, tmp_path: Path) -> None:
    made = safe_name(name)
    assert (tmp_path / made).resolve().parent == tmp_path and made
    (tmp_path / made).write_text("")
