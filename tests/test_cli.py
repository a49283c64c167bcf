"""The door: what a user types, the line that comes back, the exit code, and what is left on disk."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conftest import TINY
from omegaconf import OmegaConf

from distill_cli import RECIPE_VERSION, __version__
from distill_cli.cli import hydra_app
from distill_cli.cli import main as cli
from distill_cli.config.options import RUN_COMMANDS, conf_dir, options
from distill_cli.config.overrides import normalize_override, split_arguments, sweep_key
from distill_cli.errors import UserError
from distill_cli.factory.context import Job

TOUCHED = ("HYDRA_FULL_ERROR", "DISTILL_FULL_ERROR", "DISTILL_JSON", "DISTILL_INVOCATION", "DISTILL_SWEEP_KEY")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Door = Callable[..., Said]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Door]:
    """Type a command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in TOUCHED:  # set first, so that whatever a command leaves is undone
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    root = logging.getLogger()
    kept = root.level, root.handlers[:]

    def type_line(*argv: str) -> Said:
        hydra_app.output_dirs.clear()
        monkeypatch.setattr(sys, "argv", ["distill", *argv])
        code = cli.main()
        return Said(code, *capsys.readouterr())

    yield type_line
    root.setLevel(kept[0])
    root.handlers[:] = kept[1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Put a command in place of `distill` that writes a report at once, or fails as `seed` says; return what it was given."""
    seen: list[dict] = []

    def run(settings, out: Path, job: Job) -> dict:
        cfg = OmegaConf.create(settings.resolved)
        seen.append({"seed": cfg.seed, "out": out, "cfg": cfg})
        if cfg.seed == 13:
            raise RuntimeError("a bug\nin two lines")
        if cfg.seed == 14:
            raise UserError("dataset: nothing to learn from")
        if cfg.seed == 15:
            raise KeyboardInterrupt
        report = {
            "recipe_version": RECIPE_VERSION,
            "command": "distill",
            "config": OmegaConf.to_container(cfg, resolve=True),
            "seed": cfg.seed,
            "models": {
                "student": {
                    "val": {"macro_f1": 0.5},
                    "test": {"macro_f1": 0.73124, "per_class": {"V": {"f1": 0.25}}},
                    "weight_bytes": 4840,
                    "latency_ms": {"1": {"p50": 0.02, "p99": 0.5}},
                },
                "teacher": {"test": {"macro_f1": None}},
            },
        }
        (out / "report.json").write_text(json.dumps(report))
        return report

    module = types.ModuleType("distill_cli.commands.distill")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distill_cli.commands.distill", module)
    table = types.ModuleType("distill_cli.reports.sweep.write_sweep")
    table.sweep_report = lambda folder: print(f"table of {folder}")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distill_cli.reports.sweep.write_sweep", table)
    return seen


def left(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def modules_after(*argv: str) -> set[str]:
    """Return the top-level modules that a command line has loaded when it ends, in a fresh interpreter."""
    code = f"import sys; sys.argv = {['distill', *argv]!r}\nfrom distill_cli.cli.main import main\nmain()\n"
    code += "sys.stderr.write(' '.join({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


# --- help, at no cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["distill", "--help"], ["eval", "-h"], ["ls"], ["ls", "loss/cross_entropy"]]
)
def test_help_and_ls_load_nothing_heavy(argv: list[str]) -> None:
    assert not modules_after(*argv) & {"torch", "hydra", "omegaconf", "numpy", "pandas", "rich", "yaml"}


def test_composing_loads_no_torch() -> None:
    loaded = modules_after("distill", "--cfg", "job")
    assert "hydra" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "sklearn"}


def test_help_names_every_command(door: Door) -> None:
    said = door("--help")
    assert said.code == 0
    for command in (*cli.COMMANDS, *cli.COMMANDS_WITHOUT_HYDRA):
        assert f"\n  {command} " in said.out
    assert door() == said


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_a_commands_help_shows_its_groups_options_and_keys(door: Door, command: str) -> None:
    said = door(command, "--help")
    assert said.code == 0
    assert "auto, cpu, cuda, mps" in said.out
    assert ("soft_target" in said.out) == (command not in RUN_COMMANDS)
    assert "\n  seed: 0 " in said.out
    assert "hydra:" not in said.out
    assert "defaults:" not in said.out


@pytest.mark.parametrize("command", ["distill", "train-teacher"])
def test_help_lists_the_keys_of_teacher_student_and_data(door: Door, command: str) -> None:
    out = door(command, "--help").out
    for key in (
        "teacher.epochs: 30",
        "teacher.preprocessing: null",
        "dataset.label_fraction: 1.0",
        "teacher.optimizer=adam|adamw|sgd",
    ):
        assert f"\n  {key}" in out
    for key in (
        "student.bias_correction: false",
        "epochs: 30",
        "student.model=cnn1d",
        "teacher.rename: {}",
        "teacher.run: null",
        "loss ",
    ):
        assert (f"\n  {key}" in out) == (command == "distill"), key
    assert "with every option of student:\n" in door("ls", "student").out
    assert "dataset.exclude_classes: []" in door("ls", "dataset/csv").out


def test_help_lists_nothing_that_is_not_read(door: Door) -> None:
    assert "\n  require: " not in door("predict", "--help").out
    assert "read by nothing" not in door("bench", "--help").out


def test_every_group_says_what_it_is_for() -> None:
    from distill_cli.config.options import GROUP_HELP

    assert set(options([conf_dir()])) <= set(GROUP_HELP)


def test_version_and_train_are_words_too(door: Door) -> None:
    assert door("version") == door("--version") == Said(0, f"distill {__version__}\n", "")
    assert door("train", "--help") == door("distill", "--help")


def test_version_and_module() -> None:
    done = subprocess.run([sys.executable, "-m", "distill_cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"distill {__version__}\n")


# --- ls ----------------------------------------------------------------------------------------------------------


def test_ls_shows_groups_options_and_files(door: Door, tmp_path: Path) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "odd.yaml").write_text("# Only odd rows count\n_target_: my.Odd\n")
    assert "soft_target" in door("ls").out
    assert re.search(r"^cross_entropy +Cross-entropy with the labels$", door("ls", "loss").out, re.M)
    assert "_common" not in door("ls", "teacher").out
    assert door("ls", "loss/cross_entropy").out == (conf_dir() / "loss" / "cross_entropy.yaml").read_text()
    assert re.search(r"^odd +Only odd rows count$", door("ls", "loss", "--config-dir", "mine").out, re.M)
    assert door("ls", "loss/odd", "--config-dir=mine").out.endswith("_target_: my.Odd\n")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder of configs with one model."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text("# A tiny one\n_target_: my.Tiny\nwidth: 4\n")
    return tmp_path / "mine"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_every_model_is_an_option_of_both_roles(door: Door, tiny: Path, role: str) -> None:
    assert list(options([conf_dir()])[role]) == list(options([conf_dir()])["model"])
    assert re.search(r"^tiny +A tiny one$", door("ls", role, "--config-dir", "mine").out, re.M)
    shown = door("ls", f"{role}/tiny", "--config-dir", "mine").out
    assert f"{role}.model.width: 4\n" in shown and f"\n{role}.preprocessing: null" in shown
    composed = yaml.safe_load(door("distill", "--cfg", "job", "--config-dir", "mine", f"{role}=tiny").out)[role]
    assert composed["model"] == {"_target_": "my.Tiny", "width": 4} and composed["preprocessing"] is None
    info = shell(tiny.parent, "distill", "--info", "defaults", "--config-dir", "mine", f"{role}=tiny").out
    assert re.search(rf"\| model/tiny +\| {role}\.model +\|[^|]*\| {role}/tiny +\|", info)
    refused = door("distill", f"{role}=tinny", "--config-dir", "mine")
    assert refused.code == 2 and "did you mean 'tiny'?" in refused.err


@pytest.mark.parametrize("name", ["tiny", "mlp"])
def test_a_file_of_the_role_goes_before_the_model(door: Door, tiny: Path, name: str) -> None:
    (tiny / "student").mkdir()
    (tiny / "student" / f"{name}.yaml").write_text(
        "# As student\ndefaults: [_common, /model@model: mlp_small, _self_]\nbias_correction: true\n"
    )
    line = ("distill", "--cfg", "job", "--config-dir", "mine", f"student={name}", f"teacher={name}")
    composed = yaml.safe_load(door(*line).out)
    assert composed["student"]["model"]["hidden"] == [16] and composed["student"]["bias_correction"] is True
    assert composed["teacher"]["model"] == yaml.safe_load(options([conf_dir(), tiny])["model"][name].read_text())
    assert re.search(rf"^{name} +As student$", door("ls", "student", "--config-dir", "mine").out, re.M)


def test_a_part_of_a_model_is_no_option_of_a_role(door: Door, tiny: Path) -> None:
    (tiny / "model" / "_part.yaml").write_text("width: 4\n")
    assert door("distill", "student=_part", "--cfg", "job", "--config-dir", "mine").code == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["los"], "no group 'los'; did you mean 'loss'?"),
        (["los/cross_entropy"], "no group 'los'; did you mean 'loss'?"),
        (["mixup/bta"], "no option 'bta' in mixup; did you mean 'beta'? (available: beta, none)"),
        (["mixup", "loss"], "'loss': expected one GROUP or GROUP/OPTION; see distill ls --help"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["--config-dir"], "--config-dir/-cd: expected one argument; see distill ls --help"),
        (["--config-dir="], "--config-dir .: no such folder"),
        (["--jsn"], "unknown flag '--jsn'; see distill ls --help"),
        (["mixup/../loss/cross_entropy"], "no group 'mixup/../loss'"),
    ],
)
def test_ls_of_what_is_not_there(door: Door, argv: list[str], said: str) -> None:
    code, out, err = door("ls", *argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"distill ls: error: {said}")
    assert err.count("\n") == 1


# --- wrong input: one line, exit 2, nothing left -----------------------------------------------------------------

LINES = {
    "distil": "distill: error: unknown command 'distil'; did you mean 'distill'?",
    "xyzzy": "distill: error: unknown command 'xyzzy'; see distill --help",
    "distill loss.temprature=3": "distill distill: error: unknown key 'loss.temprature'; did you mean 'loss.temperature'?",
    "distill loss=kl_mae loss.mea=3": "distill distill: error: unknown key 'loss.mea'; did you mean 'loss.mae'?",
    "distill teacher.epocs=3": "distill distill: error: unknown key 'teacher.epocs'; did you mean 'teacher.epochs'?",
    "distill lss=cross_entropy": "distill distill: error: unknown key 'lss'; did you mean 'loss'?",
    "distill ~nothing": "distill distill: error: unknown key 'nothing'",
    "distill loss=soft": "distill distill: error: loss=soft: no such option; did you mean 'soft_target'? (available: ",
    "distill temperature=3": "distill distill: error: unknown key 'temperature'; did you mean 'loss.temperature'?",
    "distill optimizer.epsilon=1": "distill distill: error: unknown key 'optimizer.epsilon'; did you mean 'optimizer.eps'?",
    "distill teacher.model.width=24": "distill distill: error: unknown key 'teacher.model.width'; MLP takes hidden, dropout, "
    "input_dropout, max_norm, num_classes, input_shape",
    "distill --dataset digits": "distill distill: error: --dataset digits: keys have no dashes, and values follow '='; "
    "did you mean 'dataset=digits'?",
    "distill --dataset": "distill distill: error: --dataset: unknown flag; keys have no dashes: dataset=VALUE",
    "distill digits": "distill distill: error: 'digits' is not key=value; did you mean 'dataset=digits' or 'experiment=digits'?",
    "teach": "distill: error: unknown command 'teach'; did you mean 'train-teacher'?",
    "train epocs=3": "distill distill: error: unknown key 'epocs'; did you mean 'epochs'?",
    "distill +lss@terms.x=cross_entropy": "distill distill: error: unknown group 'lss'; did you mean 'loss'?",
    "distill epochs=abc": "distill distill: error: epochs=abc: expected int",
    "distill device.threads=1.5": "distill distill: error: device.threads=1.5: expected int",
    "distill monitor=[1]": "distill distill: error: monitor=[1]: expected str",
    "distill epochs=null": "distill distill: error: epochs=null: a value is required",
    "distill seed=": "distill distill: error: seed=: expected int",
    "distill bootstrap=3": "distill distill: error: bootstrap=3: has keys of its own; set bootstrap.KEY=VALUE",
    "distill terms=[1]": "distill distill: error: terms=[1]: has keys of its own; set terms.KEY=VALUE",
    "distill +seed=1": "distill distill: error: +seed: there is such a key already; drop the +",
    "distill loss=softtarget": "distill distill: error: loss=softtarget: no such option; did you mean 'soft_target'? "
    f"(available: {', '.join(options([conf_dir()])['loss'])})",
    "distill +loss@terms.x=cross_entrpy": "distill distill: error: loss=cross_entrpy: no such option; did you mean 'cross_entropy'? "
    f"(available: {', '.join(options([conf_dir()])['loss'])})",
    "distill teacher.optimizer=sdg": "distill distill: error: optimizer=sdg: no such option; did you mean 'sgd'? "
    "(available: adam, adamw, sgd)",
    "distill mixup=null": "distill distill: error: mixup=null: no such option (available: beta, none)",
    "distill mixup=3": "distill distill: error: mixup=3: no such option (available: beta, none)",
    "distill experiment=smok": "distill distill: error: experiment=smok: no such option; did you mean 'smoke'? (available: ",
    "distill hydra/launcher=basicc": "distill distill: error: hydra/launcher=basicc: no such option; did you mean 'basic'?",
    "distill loss=[": "distill distill: error: loss=[: cannot be read; "
    "quote values with brackets, commas, or letters and signs that are no a-z: key='\"...\"', in a list '[\"...\"]'",
    "distill student.epochs=3": "distill distill: error: unknown key 'student.epochs'; did you mean 'epochs'?",
    "distill report.html=perhaps": "distill distill: error: report.html=perhaps: expected true or false",
    "predict drop=id": "distill predict: error: drop=id: expected a list: drop=[id]",
    "predict run=r input=i header=maybe": "distill predict: error: header=maybe: expected auto or true or false",
    "distill loss": "distill distill: error: 'loss' is not key=value; did you mean 'loss=VALUE'?",
    "distill =3": "distill distill: error: '=3' is not key=value; did you mean 'KEY=VALUE'?",
    "eval outputs/distill": "distill eval: error: 'outputs/distill' is not key=value; did you mean 'run=outputs/distill'?",
    "eval": "distill eval: error: run is required: pass run=...",
    "distill student=custom": "distill distill: error: student.model._target_ is required: pass student.model._target_=...",
    "distill seed=1,2": "distill distill: error: seed=1,2: several values make a sweep, which needs -m; a list is written [1,2]",
    "distill seed=range(3)": "distill distill: error: seed=range(3): several values make a sweep, which needs -m; "
    "a list is written [1,2]",
    "distill loss=cross_entropy,dkd": "distill distill: error: loss=cross_entropy,dkd: several options make a sweep, which needs -m; "
    "for a second term: loss=cross_entropy +loss@terms.dkd=dkd",
    "distill teacher.optimizer=sgd,adam": "distill distill: error: teacher.optimizer=sgd,adam: several options make a sweep, "
    "which needs -m",
    "distill loss=[soft_target,dkd]": "distill distill: error: loss=[soft_target,dkd]: takes one option, not a list; "
    "for a second term: loss=soft_target +loss@terms.dkd=dkd; to compare them, sweep: -m loss=soft_target,dkd",
    "distill loss=[dkd]": "distill distill: error: loss=[dkd]: takes one option, not a list; write loss=dkd",
    "distill mixup=[]": "distill distill: error: mixup=[]: takes one option, not a list; choose one with mixup=OPTION; "
    "see distill ls mixup",
    "distill -m student=[mlp,cnn2d],mlp": "distill distill: error: student=[mlp,cnn2d]: takes one option, not a list; "
    "to compare them, sweep: -m student=mlp,cnn2d",
    "distill seed=${nothing}": "distill distill: error: seed: there is no key 'nothing' to take it from",
    "distill --seed=3": "distill distill: error: --seed=3: drop the dashes: seed=3",
    "distill --cfg nonsense": "distill distill: error: --cfg: invalid choice: 'nonsense' (choose from ",
    "distill --multrun seed=1": "distill distill: error: --multrun: unknown flag; did you mean '--multirun'?",
    "distill --jsno": "distill distill: error: --jsno: unknown flag; did you mean '--json'?",
    "distill --config-dir": "distill distill: error: --config-dir: expected one argument",
    "distill --json --cfg job": "distill distill: error: --json prints a report, and --cfg runs nothing; drop one of them",
    "distill --config-name x": "distill distill: error: --config-name: the command chooses the config; "
    "use experiment=NAME with --config-dir DIR",
    "distill epochs=0": "distill distill: error: epochs=0: must be >= 1",
    "distill batch_size=0": "distill distill: error: batch_size=0: must be >= 1",
    "distill seed=-1": "distill distill: error: seed=-1: must be >= 0",
    "distill loss.temperature=abc": "distill distill: error: loss.temperature=abc: expected float",
    "distill +loss.temprature=3": "distill distill: error: loss.temprature: SoftTarget has no such parameter; "
    "did you mean 'temperature'?",
    "distill loss.temperature=0": "distill distill: error: loss: temperature must be > 0, got 0",
    "distill loss.temperature=-1": "distill distill: error: loss: temperature must be > 0, got -1",
    "distill loss.alpha=1.5": "distill distill: error: loss: alpha must be in [0, 1], got 1.5",
    "distill require.macrof1=0.8": "distill distill: error: require.macrof1: a report has no 'macrof1'; did you mean 'macro_f1'?",
    "train-teacher epochs=3": "distill train-teacher: error: epochs belongs to the student; did you mean 'teacher.epochs'?",
    "train-teacher student=mlp": "distill train-teacher: error: student belongs to the student; train-teacher has no student",
    "train-teacher student.model=cnn2d": "distill train-teacher: error: student.model belongs to the student; "
    "train-teacher has no student",
    "train-teacher +loss@terms.x=cross_entropy": "distill train-teacher: error: loss@terms.x belongs to the student; "
    "train-teacher has no loss",
    "train-teacher teacher.class_order=[a]": "distill train-teacher: error: teacher.class_order: train-teacher does not read it; "
    "distill does",
    "train-teacher dataset.exclude_classes=[1]": "distill train-teacher: error: dataset.exclude_classes: train-teacher does not "
    "read it; distill and eval and export and bench do",
    "eval run=r epochs=3": "distill eval: error: epochs: eval does not read it; distill and train-teacher do",
    "eval run=r +epochs=3": "distill eval: error: epochs: eval does not read it; distill and train-teacher do",
    "export run=r loss=cross_entropy": "distill export: error: loss: export does not read it; distill and train-teacher do",
    "bench run=r experiment=smoke": "distill bench: error: experiment: bench does not read it; distill and train-teacher do",
    "bench run=r eval_batch_size=3": "distill bench: error: eval_batch_size: bench does not read it; "
    "distill and train-teacher and eval and export and predict do",
    "predict run=r input=i require.macro_f1=0.5": "distill predict: error: require.macro_f1: predict does not read it; "
    "distill and train-teacher and eval and export and bench do",
    "distill format=onnx": "distill distill: error: format: distill does not read it; export does",
    "distill -m loss=cross_entropy,nope": "distill distill: error: loss=nope: no such option (available: ",
}


@pytest.mark.parametrize("typed", LINES)
def test_a_mistake_is_one_line_and_leaves_nothing(door: Door, tmp_path: Path, typed: str) -> None:
    code, out, err = door(*typed.split())
    assert code == 2
    assert out == ""
    assert err.startswith(LINES[typed])
    assert err == LINES[typed] + "\n" or "(choose from " in err or "(available: " in err
    assert err.count("\n") == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("group", sorted(set(options([conf_dir()])) - {"logger", "model"}))
def test_a_list_is_refused_for_every_group_that_takes_one(door: Door, group: str) -> None:
    names = list(options([conf_dir()])[group])[:2]
    said = door("distill", f"{group}=[{','.join(names)}]")
    assert said.code == 2
    assert said.err.startswith(f"distill distill: error: {group}=[{','.join(names)}]: takes one option, not a list; ")
    nested = door("train-teacher", f"teacher.{group}=[{','.join(names)}]") if group in ("optimizer", "augment") else said
    assert "takes one option, not a list" in nested.err


def test_a_list_in_a_users_experiment_is_refused_too(door: Door, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/two.yaml").write_text("# @package _global_\ndefaults:\n  - override /loss: [soft_target, dkd]\n")
    said = door("distill", "--config-dir", "mine", "experiment=two")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "loss=[soft_target,dkd]: takes one option, not a list; for a second term: " in said.err
    assert door("distill", "logger=[csv,tensorboard]", "--cfg", "job").code == 0


def test_a_mistake_in_a_users_own_file_names_the_file(door: Door, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "key.yaml").write_text("# @package _global_\nepcohs: 3\n")
    (folder / "type.yaml").write_text("# @package _global_\nepochs: abc\n")
    (folder / "yaml.yaml").write_text("# @package _global_\nepochs: [1\n")
    (folder / "below.yaml").write_text("# mine\n# @package _global_\nepochs: 3\n")
    (folder / "bom.yaml").write_text("\ufeff# @package _global_\nepochs: 3\n")
    (folder / "without.yaml").write_text("epochs: 3\n")
    said = {o.stem: door("distill", "--config-dir", "mine", f"experiment={o.stem}").err for o in folder.iterdir()}
    for name, remedy in (
        ("below", "take away what stands above it"),
        ("bom", "take away the byte order mark above it"),
        ("without", "add it"),
    ):
        line = f"experiment/{name}: '# @package _global_' must be the first line of this file; {remedy}"
        assert said[name] == f"distill distill: error: {line}\n"
    assert said["key"] == "distill distill: error: experiment/key: unknown key 'epcohs'; did you mean 'epochs'?\n"
    assert said["type"] == "distill distill: error: experiment/type: epochs=abc: expected int\n"
    assert said["yaml"].startswith(f"distill distill: error: {folder / 'yaml.yaml'}: not YAML in line 3: ")
    absent = door("distill", "--config-dir", "nowhere")
    assert absent.err == f"distill distill: error: --config-dir {tmp_path / 'nowhere'}: no such folder\n"


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_outputs_that_cannot_be_written(door: Door, tmp_path: Path, fake: list[dict], flags: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = door("distill", *flags, "outputs=file")
    assert code == 2
    assert err.startswith("distill distill: error: file/")
    assert err.endswith(": cannot write there (Not a directory); choose another folder with outputs=\n")
    assert err.count("\n") == 1
    assert left(tmp_path) == ["file"]
    assert fake == []


def test_a_mistake_leaves_other_runs_and_a_used_folder_alone(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    assert door("distill", "hydra.run.dir=kept").code == 0
    before = left(tmp_path)
    assert door("distill", "hydra.run.dir=other/new", "seed=14").code == 2
    assert left(tmp_path) == before
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    assert door("distill", "hydra.run.dir=used", "seed=14").code == 2
    assert (tmp_path / "used" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("word", ["seed=13", "seed=14", "seed=0", "nonsense=1"])
def test_a_finished_folder_is_left_as_it_is(door: Door, tmp_path: Path, fake: list[dict], word: str) -> None:
    assert door("distill", "hydra.run.dir=x").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()}
    code, _, err = door("distill", "hydra.run.dir=x", word)
    assert code == 2
    assert err.count("\n") == 1
    if word != "nonsense=1":
        said = "hydra.run.dir=x: holds a finished run, and nothing finished is overwritten; choose another folder"
        assert err == f"distill distill: error: {said}\n"
    assert {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()} == before


def test_a_mistake_leaves_a_users_log_alone(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.log").write_text("mine")
    assert door("distill", "hydra.run.dir=used", "seed=14").code == 2
    assert (tmp_path / "used" / "notes.log").read_text() == "mine"


# --- exit codes --------------------------------------------------------------------------------------------------


def test_a_bug_shows_a_traceback_from_the_task_on(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    code, _, err = door("distill", "seed=13", "hydra.run.dir=x")
    assert code == 1
    assert err.startswith("Traceback (most recent call last):\n")
    assert "site-packages/hydra" not in err
    assert err.endswith("RuntimeError: a bug\nin two lines\n")
    assert "RuntimeError: a bug" in (tmp_path / "x" / "distill.log").read_text()


def test_an_interrupt_is_130(door: Door, fake: list[dict]) -> None:
    code, _, err = door("distill", "seed=15")
    assert code == 130
    said = r"\ndistill distill: interrupted by SIGINT; .+ is unfinished: run the same line with resume=auto to resume\n"
    assert re.fullmatch(said, err)


def test_hydra_full_error_is_a_raw_escape(door: Door, fake: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        door("distill", "seed=13")


@pytest.mark.parametrize(
    ("require", "code", "said"),
    [
        ("macro_f1=0.73", 0, ""),
        ("macro_f1=0.8", 3, "distill distill: require.macro_f1=0.8 missed: 0.7312\n"),
        ("macro_f1=0.731241", 3, "distill distill: require.macro_f1=0.731241 missed: 0.7312\n"),
        ("macro_f1=0.73125", 3, "distill distill: require.macro_f1=0.73125 missed: 0.7312\n"),
        ("models.student.val.macro_f1=0.5", 0, ""),
        ("test.macro_f1=>=0.7", 0, ""),
        ("val.macro_f1=>0.5", 3, "distill distill: require.val.macro_f1=>0.5 missed: 0.5\n"),
        ("student.test.macro_f1=<=70%", 3, "distill distill: require.student.test.macro_f1=<=70% missed: 0.7312\n"),
        ("weight_bytes=<=4.84kB", 0, ""),
        ("weight_bytes=<=4kB", 3, "distill distill: require.weight_bytes=<=4kB missed: 4840\n"),
        ("latency_ms=<=1", 0, ""),
        ("latency_ms.1.p99=<0.1ms", 3, "distill distill: require.latency_ms.1.p99=<0.1ms missed: 0.5\n"),
        ("per_class.V.f1=0.3", 3, "distill distill: require.per_class.V.f1=0.3 missed: 0.25\n"),
        ("test.per_class.V.f1=>=0.2", 0, ""),
        ("models.student.val.macro_f1=0.51", 3, "distill distill: require.models.student.val.macro_f1=0.51 missed: 0.5\n"),
        ("models.teacher.test.macro_f1=0.1", 3, "distill distill: require.models.teacher.test.macro_f1=0.1 missed: null\n"),
        ("models.student.tset.macro_f1=0.1", 2, "distill distill: error: require.models.student.tset.macro_f1: "
         "report.json has no number there; did you mean 'models.student.test.macro_f1'?\n"),
    ],
)  # fmt: skip
def test_the_gate(door: Door, tmp_path: Path, fake: list[dict], require: str, code: int, said: str) -> None:
    assert door("distill", f"require.{require}", "hydra.run.dir=x") == (code, "", said)
    assert (tmp_path / "x" / "report.json").exists()


def test_a_number_that_rounds_to_its_bound_is_shown_in_full() -> None:
    from distill_cli.config.requirements import format_value

    assert format_value(0.79999, 0.8) == "0.79999"


# --- sweeps ------------------------------------------------------------------------------------------------------


def jobs(folder: Path) -> dict[int, Path]:
    found = {}
    for file in folder.glob("outputs/sweeps/*/*/.hydra/overrides.yaml"):
        seed = next(line for line in file.read_text().splitlines() if "seed=" in line)
        found[int(seed.partition("seed=")[2])] = file.parent.parent
    return found


def test_a_sweep_runs_every_job_and_says_which_failed(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    code, out, err = door("distill", "seed=14,0,1", "-m")
    assert code == 2
    assert err == "distill distill: error: seed=14: dataset: nothing to learn from\n"
    assert [job["seed"] for job in fake] == [14, 0, 1]
    failed = json.loads((jobs(tmp_path)[14] / "failed.json").read_text())
    assert failed["error"] == "dataset: nothing to learn from"
    assert not (jobs(tmp_path)[0] / "failed.json").exists()
    assert out.count("table of outputs/sweeps/") == 1


def test_a_bug_outweighs_mistakes_and_is_one_line_in_a_sweep(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    code, _, err = door("distill", "-m", "seed=13,14,0")
    log = jobs(tmp_path)[13] / "distill.log"
    assert code == 1
    assert err.splitlines() == [
        f"distill distill: error: seed=13: RuntimeError: a bug in two lines (traceback in {log})",
        "distill distill: error: seed=14: dataset: nothing to learn from",
    ]
    assert "Traceback" in log.read_text()
    assert [job["seed"] for job in fake] == [13, 14, 0]


def test_the_same_line_skips_finished_jobs_and_runs_failed_ones_again(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    assert door("distill", "-m", "seed=0,14", "epochs=3").code == 2
    first = jobs(tmp_path)
    fake.clear()
    code, out, _ = door("distill", "epochs=3", "seed=0,14", "--multirun", "hydra.verbose=false")
    assert code == 2
    assert [job["seed"] for job in fake] == [14]
    assert f"skip {first[0].relative_to(tmp_path)} (finished)\n" in out
    assert jobs(tmp_path) == first


def test_a_job_is_known_by_its_key_and_not_by_its_folder(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    line = ("distill", "hydra.sweep.dir=sw", "hydra.sweep.subdir=${hydra.job.num}", "-m")
    for seeds in ("0,1", "5,6", "5,6", "0,1"):
        assert door(*line, f"seed={seeds}", "loss.temperature=9").code == 0
    assert [one["seed"] for one in fake] == [0, 1, 5, 6]
    folders = {json.loads(file.read_text())["seed"]: file.parent for file in tmp_path.glob("sw/*/report.json")}
    assert [folders[seed].name.partition("-")[0] for seed in (0, 1, 5, 6)] == ["0", "1", "0", "1"]
    for seed, folder in folders.items():  # nor does Hydra write another job's settings beside a finished report
        assert f"seed={seed}" in (folder / ".hydra" / "overrides.yaml").read_text()


def test_a_finished_job_of_another_recipe_is_run_again(
    door: Door, tmp_path: Path, fake: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    door("distill", "-m", "seed=0,1")
    report = jobs(tmp_path)[0] / "report.json"
    report.write_text(report.read_text().replace(f'"recipe_version": {RECIPE_VERSION}', '"recipe_version": 0'))
    (jobs(tmp_path)[1] / "report.json").write_text('{"recipe_ver')
    fake.clear()
    assert door("distill", "-m", "seed=0,1").code == 0
    assert [job["seed"] for job in fake] == [0, 1]
    monkeypatch.setattr(hydra_app, "RECIPE_VERSION", RECIPE_VERSION + 1)
    fake.clear()
    door("distill", "-m", "seed=0")
    assert len(fake) == 1


def test_a_gate_over_a_sweep_also_holds_for_skipped_jobs(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    assert door("distill", "-m", "seed=0,1").code == 0
    fake.clear()
    code, _, err = door("distill", "-m", "seed=0,1", "require.macro_f1=0.9")
    assert code == 3
    assert fake == []
    assert err.splitlines()[0].endswith("require.macro_f1=0.9 missed: 0.7312")
    assert door("distill", "-m", "seed=0,1", "require.macro_f1=0.1").code == 0
    assert not list(tmp_path.rglob("missed.json"))
    assert door("distill", "-m", "seed=0,14", "require.macro_f1=0.9").code == 2


def test_each_job_of_a_sweep_has_the_values_of_its_option(door: Door, fake: list[dict]) -> None:
    assert door("distill", "-m", "experiment=digits", "loss=soft_target,dkd,dist").code == 0
    assert [job["cfg"].loss.get("alpha") for job in fake] == [0.5, 1.0, None]
    assert [job["cfg"].loss.temperature for job in fake] == [4.0, 4.0, 1.0]


def test_an_old_failure_in_a_shared_folder_does_not_fail_a_good_sweep(door: Door, fake: list[dict]) -> None:
    assert door("distill", "-m", "seed=14", "sweep=shared").code == 2
    assert door("distill", "-m", "seed=0", "sweep=shared").code == 0


def test_a_sweeper_gets_the_objective_and_a_word_where_there_is_none(door: Door, fake: list[dict], capsys) -> None:
    from distill_cli.config.requirements import optimized_metric

    report = {"models": {"student": {"val": {"macro_f1": 0.5}}}}
    assert optimized_metric(report, "models.student.val.macro_f1") == 0.5
    assert optimized_metric(report, "models.student.val.macrof1") != 0.5
    assert capsys.readouterr().err.startswith(
        "optimized_metric=models.student.val.macrof1: report.json has no number there; did you mean"
    )


@pytest.mark.slow
def test_jobs_are_named_by_what_can_move_a_result(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    same = [
        [],
        ["outputs=elsewhere"],
        ["++require.macro_f1=0.1"],
        ["optimized_metric=models.student.test.macro_f1"],
        ["hydra.verbose=true"],
    ]
    others = [["seed=1"], ["loss=cross_entropy"], ["loss.temperature=3.5"], ["dataset.split_seed=1"], ["experiment=smoke"]]
    for line in [*same, *others]:
        assert door("distill", "-m", "sweep=s", *line).code == 0
        names = {file.parent.parent.name for file in tmp_path.rglob("overrides.yaml")}
        assert len(names) == 1 + (others.index(line) + 1 if line in others else 0), line


def test_run_folders_of_one_second_do_not_collide(door: Door, fake: list[dict]) -> None:
    for _ in range(4):
        door("distill")
    assert len({job["out"] for job in fake}) == 4


def test_a_sweeps_folder_is_named_by_its_line_whatever_the_order() -> None:
    base = sweep_key("distill", ["-m"], ["seed=0,1", "loss=cross_entropy"])
    assert base == sweep_key(
        "distill", [], ["loss=cross_entropy", "seed=0,1", "hydra.launcher.n_jobs=2", "hydra/launcher=joblib"]
    )
    assert base == sweep_key("distill", ["--multirun"], ["loss=cross_entropy", "seed=0,1", "++require.macro_f1=0.8"])
    others = [
        sweep_key("train-teacher", ["-m"], ["seed=0,1", "loss=cross_entropy"]),
        sweep_key("distill", ["-m"], ["seed=0,2", "loss=cross_entropy"]),
        sweep_key("distill", ["-m", "--config-dir", "mine"], ["seed=0,1", "loss=cross_entropy"]),
    ]
    assert len({base, *others}) == 4


# --- words in, words out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "flags", "overrides"),
    [
        (["seed=1", "-m", "loss=a,b"], ["-m"], ["seed=1", "loss=a,b"]),
        (["--config-dir", "a=b", "seed=1"], ["--config-dir", "a=b"], ["seed=1"]),
        (["seed=1", "--config-dir=mine"], ["--config-dir", "mine"], ["seed=1"]),
        (["--info", "defaults", "seed=1"], ["--info", "defaults"], ["seed=1"]),
        (["--info", "seed=1"], ["--info"], ["seed=1"]),
        (["--info", "defaults", "--config-dir", "a", "seed=1"], ["--info", "defaults", "--config-dir", "a"], ["seed=1"]),
        (["~mixup", "--cfg", "job"], ["--cfg", "job"], ["~mixup"]),
    ],
)
def test_overrides_come_after_flags(argv: list[str], flags: list[str], overrides: list[str]) -> None:
    assert split_arguments(argv) == (flags, overrides)


@pytest.mark.parametrize(
    ("command", "typed", "handed_on"),
    [
        ("distill", "require.macro_f1=0.8", "++require.macro_f1=0.8"),
        ("distill", "teacher.rename.old=new", "++teacher.rename.old=new"),
        ("distill", "teacher.rename={a.b:c}", "++teacher.rename={a.b:c}"),
        ("eval", "dataset.root=x", "++dataset.root=x"),
        ("eval", "dataset=mnist", "dataset=mnist"),
        ("distill", "dataset.root=x", "dataset.root=x"),
        ("distill", "teacher.optimizer=sgd", "optimizer@teacher.optimizer=sgd"),
        ("distill", "teacher.optimizer=sgd,adam", "optimizer@teacher.optimizer=sgd,adam"),
        ("distill", "student.model=mlp", "model@student.model=mlp"),
        ("distill", "teacher.optimizer={lr:1}", "teacher.optimizer={lr:1}"),
        ("distill", "teacher.optimizer.lr=1", "teacher.optimizer.lr=1"),
        ("distill", "student.optimizer=sgd", "student.optimizer=sgd"),
        ("distill", "++require.x=1", "++require.x=1"),
        ("distill", "~require", "~require"),
        ("predict", "input=/home/müller/ä b.csv", 'input="/home/müller/ä b.csv"'),
        ("predict", "delimiter=;", 'delimiter=";"'),
        ("eval", "dataset.root=ü", '++dataset.root="ü"'),
        ("predict", "drop=[ä]", "drop=[ä]"),
        ("predict", "input='ä'", "input='ä'"),
    ],
)
def test_an_override_is_rewritten_where_new_keys_are_welcome(command: str, typed: str, handed_on: str) -> None:
    assert normalize_override(command, typed) == handed_on


PATHS = (
    "1_000",
    "0x10",
    "007",
    "2024-01-01",
    "1e3",
    "true",
    "null",
    "nan",
    "on",
    "lr=0.1",
    "data (1)",
    "a(b)",
    "it's",
    "#5",
    'say "x"',
)


@pytest.mark.parametrize("key", ["outputs", "hydra.run.dir", "dataset.path", "+dataset.path", "teacher.run", "cache.folder"])
def test_a_path_is_the_text_that_was_typed(key: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in PATHS:
        if text != "null" or key in ("outputs", "hydra.run.dir", "cache.folder"):
            assert OverridesParser.create().parse_override(normalize_override("distill", f"{key}={text}")).value() == text
    several = OverridesParser.create().parse_override(normalize_override("distill", "teacher.run=[007,~/a b,c]")).value()
    assert several == ["007", str(Path.home() / "a b"), "c"]


def test_paths_are_expanded_and_other_values_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/there/1_0")
    monkeypatch.setenv("HOME", "/home/me")
    assert normalize_override("distill", "hydra.run.dir=~/x") == "hydra.run.dir=/home/me/x"
    assert (
        normalize_override("distill", "outputs=$PLACE")
        == "outputs=/there/1_0"
        == normalize_override("distill", "outputs=${PLACE}")
    )
    assert normalize_override("distill", "outputs=~,$PLACE/1,007") == 'outputs=/home/me,/there/1_0/1,"007"'
    assert normalize_override("distill", "hydra.run.dir=$PLACE/${seed}") == "hydra.run.dir=/there/1_0/${seed}"
    assert (
        normalize_override("distill", "tuned_from=null") == "tuned_from=null"
        and normalize_override("distill", "seed=1_000") == "seed=1_000"
    )
    assert normalize_override("eval", "dataset.path=~/007") == "++dataset.path=/home/me/007"
    assert split_arguments(["--config-dir=~/c"])[0] == ["--config-dir", "/home/me/c"]


def test_paths_of_a_file_are_expanded_as_well(
    door: Door, tmp_path: Path, fake: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = tmp_path / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\noutputs: ~/runs\n")
    assert door("distill", "--config-dir", "own", "experiment=mine").code == 0
    assert fake[0]["out"].is_relative_to(tmp_path / "home" / "runs" / "distill")
    assert fake[0]["cfg"].cache.folder == str(tmp_path / "home" / "runs" / "cache")
    assert door("distill", "outputs=1_000", "sweep=007", "-m", "seed=0").code == 0
    assert len(list(tmp_path.glob("1_000/sweeps/007/*/report.json"))) == 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra.output_subdir=null", "hydra.output_subdir=null: tables read there what was typed; leave it out"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true: relative paths are those of the folder that you stand in; leave it out"),
        ("~hydra.callbacks", "~hydra.callbacks: by these the tool learns where Hydra writes; leave them as they are"),
    ],
)
def test_a_setting_of_hydra_that_tables_need_stays(door: Door, tmp_path: Path, fake: list[dict], word: str, said: str) -> None:
    for flags in ((), ("-m",)):
        code, _, err = door("distill", word, *flags)
        assert (code, err) == (2, f"distill distill: error: {said}\n")
    assert not fake and not left(tmp_path)


@pytest.mark.parametrize("option", ["disabled", "none", "stdout"])
def test_hydras_logging_may_be_chosen(door: Door, tmp_path: Path, fake: list[dict], option: str) -> None:
    code, out, err = door(
        "distill", f"hydra/job_logging={option}", f"hydra/hydra_logging={option.replace('stdout', 'none')}", "-m", "seed=0,1"
    )
    assert code == 0 and "table of outputs/sweeps/" in out, err
    code, out, err = door("distill", f"hydra/job_logging={option}", "seed=13")
    assert code == 1 and "a bug" in next(tmp_path.glob("outputs/distill/*/distill.log")).read_text()


def test_jobs_in_folders_below_folders_have_a_table_and_a_code(door: Door, fake: list[dict]) -> None:
    code, out, _ = door("distill", "hydra.sweep.dir=sw", "hydra.sweep.subdir=a/${hydra.job.num}", "-m", "seed=0,14")
    assert code == 2 and "table of sw" in out


def test_a_failed_job_is_the_worst_for_a_sweeper_and_never_no_number(door: Door, fake: list[dict]) -> None:
    settings = {
        -math.inf: (
            {},
            {"direction": "maximize"},
            {"optim": {"maximize": True}},
            {"ax_config": {"experiment": {"minimize": False}}},
        ),
        math.inf: ({"direction": "minimize"}, {"optim": {"maximize": False}}, {"ax_config": {"experiment": {"minimize": True}}}),
    }
    for value, nodes in settings.items():
        assert [hydra_app.worst(OmegaConf.create(node)) for node in nodes] == [value] * len(nodes)


def test_a_sweep_goes_on_when_a_worker_was_killed(door: Door, fake: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    run, kills = hydra_app.hydra.main, iter((True, True, False))

    def main(*words: object, **named: object) -> Callable[..., object]:
        def start(task: object) -> Callable[[], object]:
            def go() -> None:
                run(*words, **named)(task)()
                if next(kills, True):
                    raise BrokenProcessPool

            return go

        return start

    monkeypatch.setattr(hydra_app.hydra, "main", main)
    code, out, err = door("distill", "-m", "seed=0,1")
    assert code == 0 and "table of " in out
    assert err.count("a worker process was killed; the unfinished jobs are resumed") == 2
    code, out, err = door("distill", "-m", "seed=0,1")
    assert code == 2 and "Traceback" not in err and "table of " in out
    assert "error: hydra/launcher: a worker process was killed (out of memory? run the same line again" in err


def test_work_goes_on_when_nobody_reads(tmp_path: Path) -> None:
    """A closed pipe at stdout and stderr, as after `2>&1 | head -1`, and in a sweep: the exit code is the work's."""
    reader, writer = os.pipe()
    os.close(reader)
    root = str(Path(__file__).resolve().parent.parent)
    line = [
        sys.executable,
        "-m",
        "distill_cli",
        "distill",
        *TINY,
        "controls=[]",
        "sweep=s",
        "require.macro_f1=0",
        "-m",
        "seed=0,1",
    ]
    done = subprocess.run(line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, stdout=writer, stderr=writer, timeout=500)
    os.close(writer)
    assert done.returncode == 0
    assert len(list(tmp_path.glob("outputs/sweeps/s/*/report.json"))) == 2
    assert (tmp_path / "outputs" / "sweeps" / "s" / "results.csv").is_file()
    shell = f"{shlex.join([sys.executable, '-m', 'distill_cli', 'ls'])} >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], cwd=root).returncode == 0


def test_composed_overrides_arrive(door: Door) -> None:
    said = door("distill", "teacher.optimizer=sgd", "teacher.rename={net.a:b}", "require.macro_f1=0.5", "--cfg", "job")
    assert said.code == 0
    assert "_target_: torch.optim.SGD" in said.out
    assert "net.a: b" in said.out
    assert "macro_f1: 0.5" in said.out
    assert "dataset:\n  root: x" in door("eval", "run=r", "dataset.root=x", "--cfg", "job").out


def test_a_users_code_in_the_working_folder_is_found(door: Door, tmp_path: Path, fake: list[dict]) -> None:
    (tmp_path / "my_little_models.py").write_text("class Tiny:\n    def __init__(self, num_classes: int, width: int = 4): ...\n")
    line = ["student=custom", "student.model._target_=my_little_models.Tiny"]
    for plus in ("", "+"):
        assert door("distill", *line, f"{plus}student.model.width=8").code == 0
        assert fake[-1]["cfg"].student.model.width == 8
    said = door("distill", *line, "student.model.widht=8")
    assert said.err == "distill distill: error: unknown key 'student.model.widht'; did you mean 'student.model.width'?\n"
    said = door("distill", *line, "+student.model.widht=8")
    assert said.err == "distill distill: error: student.model.widht: Tiny has no such parameter; did you mean 'width'?\n"


@pytest.mark.parametrize(
    ("line", "place", "value"),
    [
        (("optimizer.eps=1e-4",), "optimizer.eps", 1e-4),
        (("teacher=resnet1d", "teacher.model.num_classes=3"), "teacher.model.num_classes", 3),
        (("teacher.optimizer=sgd", "teacher.optimizer.dampening=0.5"), "teacher.optimizer.dampening", 0.5),
        (("+loss@terms.more=hint", "terms.more.features=[a,b]"), "terms.more.features", ["a", "b"]),
        (("stages=hint_then_soft_target", "stages.soft_target.loss.alpha=0.3"), "stages.soft_target.loss.alpha", 0.3),
    ],
)
def test_any_parameter_of_a_target_is_set_without_a_plus(
    door: Door, fake: list[dict], line: tuple[str, ...], place: str, value: object
) -> None:
    from omegaconf import OmegaConf

    features = ["stages.hint.loss.features=[body.1,body.1]"] if line[0].startswith("stages") else []
    assert door("distill", *line, *features, "-m", "seed=0").code == 0
    assert OmegaConf.select(fake[0]["cfg"], place) == value


def complete(line: str) -> list[str]:
    env = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-m", "distill_cli", "-sc", "query=bash"], capture_output=True, text=True, env=env)
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_of_commands_groups_and_options() -> None:
    assert complete("distill ") == [*cli.COMMANDS, *cli.COMMANDS_WITHOUT_HYDRA]
    assert "loss=" in complete("distill distill ")
    assert {"loss=cross_entropy", "loss=soft_target"} <= set(complete("distill distill loss="))
    assert complete("distill train-teacher teacher.epo") == ["teacher.epochs="]
    assert complete("distill report ") == []
    assert not [word for word in complete("distill distill teacher=") if "=_" in word]


def test_completion_offers_the_models_of_a_folder_to_both_roles(tiny: Path) -> None:
    for role in ("student", "teacher"):
        assert complete(f"distill distill --config-dir {tiny} {role}=ti") == [f"{role}=tiny"]
        assert f"{role}=mlp" in complete(f"distill distill {role}=")


# --- whole processes ---------------------------------------------------------------------------------------------

SMALL = ("experiment=smoke", "dataset.n=600", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20")


def shell(folder: Path, *argv: str) -> Said:
    env = {k: v for k, v in os.environ.items() if k not in TOUCHED} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "distill_cli", *argv], cwd=folder, capture_output=True, text=True, env=env)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_json_stands_alone_on_stdout(tmp_path: Path) -> None:
    said = shell(tmp_path, "distill", *SMALL, "--json", "require.macro_f1=0.99")
    assert said.code == 3
    folder = next(tmp_path.glob("outputs/distill/*"))
    assert said.out == (folder / "report.json").read_text()
    assert "run folder" in said.err
    refused = shell(tmp_path, "distill", "--json", "epochs=0")
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.slow
def test_a_parallel_sweep_shares_its_folder_and_hears_of_failures(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra `sweep`")
    line = ("distill", *SMALL, "-m", "seed=0,1", "loss.temperature=2,-1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    said = shell(tmp_path, *line, "--json")
    assert said.code == 2, said.err  # a job that fails for a reason of its own is named there
    reports = json.loads(said.out)
    assert sorted(r["seed"] for r in reports) == [0, 1]
    assert said.err.count("loss: temperature must be > 0, got -1\n") >= 2
    assert len(list(tmp_path.glob("outputs/sweeps/*"))) == 1
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/failed.json"))) == 2
    again = shell(tmp_path, "distill", *SMALL, "-m", "loss.temperature=2,-1", "seed=0,1")
    assert again.out.count("(finished)") == 2, again.out + again.err
