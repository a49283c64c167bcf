"""A run that was broken off goes on as if it had not been: weights, predictions, scores and epochs to the bit."""

from __future__ import annotations

import contextlib
import csv
import glob
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Ran
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_cli.config.resume_policy import parse_interval
from distill_cli.errors import UserError
from distill_cli.runs import layout, resume, training_checkpoint
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.utils import files, locks
from distill_cli.utils import signals as stop_signals
from distill_cli.utils.serialization import flatten_state, unflatten_state

Run = Callable[..., Ran]
DIGITS = ("dataset=digits", *TINY, "batch_size=100", "teacher.batch_size=100", "device.threads=1")
TWO_LAYERS = ("student.model.hidden=[8,8]", "teacher.model.hidden=[16,16]", "student.model.dropout=0.2")
HINT = "[body.2,body.2]"
LINES = {
    "plain": ("distill",),
    "drawn": ("distill", "mixup=beta", "sampling.class_balance_power=0.5", "lr_scheduler=one_cycle", "student.model.dropout=0.3", "clip_grad_norm=1"),
    "stages": (
        "distill", *TWO_LAYERS, "stages=hint_then_soft_target", f"stages.hint.loss.features={HINT}", "stages.hint.epochs=2",
        "+loss@terms.cross_entropy=cross_entropy", "loss.weight={from: 2, to: 1}", "balance_gradients=at_start",
    ),
    "stateful losses": (
        "distill", *TWO_LAYERS, "+loss@terms.crd=crd", f"terms.crd.features={HINT}", "+loss@terms.ft=ft", f"terms.ft.features={HINT}",
        "terms.ft.rate=0.5", "terms.ft.pretrain_steps=9", "+loss@terms.vid=vid", f"terms.vid.features={HINT}",
    ),
    "ensemble": ("distill", "teacher.ensemble.size=2", "student.bias_correction=true", "dataset.exclude_classes=[3]"),
    "chain": ("distill", "generations=[{name: assistant, model: {hidden: [12]}}]"),
    "teacher": ("train-teacher",),  # takes no keys of the student
}  # fmt: skip
LONG = ("drawn", "stages", "stateful losses", "ensemble", "chain")  # run with the slow tests


class Killed(BaseException):
    """What no handler of ours sees."""


def kill_at_save(monkeypatch: pytest.MonkeyPatch, number: int, *, written: bool) -> None:
    """Let the process die at a save of a state, before or after it is written."""
    save, count = CheckpointManager.save, iter(range(1, 1000))

    def saving(self: CheckpointManager, state: Any) -> None:
        last = next(count) == number
        if last and not written:
            raise Killed
        save(self, state)
        assert len(list(self.folder.glob("state-*"))) <= 2
        if last:
            raise Killed

    monkeypatch.setattr(CheckpointManager, "save", saving)


def results(folder: Path) -> dict[str, Any]:
    """Everything of a finished run but times and places."""
    report = json.loads((folder / "report.json").read_text())
    with open(folder / "metrics.csv") as f:
        epochs = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]
    weights = {p.name: p.read_bytes() for p in (folder / "checkpoint").glob("*.safetensors")}
    scores = {name: (model.get("val"), model.get("test")) for name, model in report["models"].items()}
    return {
        "weights": weights, "scores": scores, "epochs": epochs, "predictions": (folder / "predictions.csv").read_text(),
        "comparison": report["comparison"], "terms": report.get("terms"),
    }  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in LINES])
def test_a_killed_run_goes_on_to_the_bit(name: str, distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (*LINES[name], *DIGITS, "save_every=5")
    if name == "teacher":
        line = tuple(word for word in line if not word.startswith(("epochs", "student", "optimizer", "batch")))
    whole = distill(*line, "outputs=whole")
    assert whole.code == 0, whole.err
    kills = 0
    for number in itertools.cycle((3, 4, 5)):
        with monkeypatch.context() as patch:
            kill_at_save(patch, number, written=number % 2 == 0)
            try:
                ran = distill(*line, "outputs=broken", "resume=auto")
                break
            except Killed:
                kills += 1
    assert kills
    assert ran.code == 0, ran.err
    assert results(ran.folder) == results(whole.folder)
    assert not (ran.folder / "resume").exists()
    assert not (ran.folder / ".owner").exists()


# --- signals, owners, wrong words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(number: int, code: int, tmp_path: Path, distill: Run) -> None:
    line = ["distill", *DIGITS, "epochs=3000", "controls=[]", "save_every=null"]
    with subprocess.Popen(
        [sys.executable, "-m", "distill_cli", *line], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        while "student " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        said = process.communicate(timeout=60)[1].splitlines()[-1]
        assert process.returncode == code
    folder = next((tmp_path / "outputs" / "distill").iterdir())
    assert said == (
        f"distill distill: interrupted by {signal.Signals(number).name}; {folder} is unfinished: "
        "run the same line with resume=auto to resume"
    )
    assert len(list((folder / "resume" / "student").glob("state-*.safetensors"))) == 1
    assert not (folder / "report.json").exists()


def test_two_processes_do_not_share_a_run_folder(distill: Run, tmp_path: Path) -> None:
    with resume.lock_run_dir(tmp_path / "mine"):
        ran = distill("distill", *DIGITS, "hydra.run.dir=mine")
    assert ran.code == 2
    who = f"{tmp_path / 'mine'}: process {os.getpid()} on {socket.gethostname()}, since "
    assert ran.err.startswith(f"distill distill: error: {who}")
    assert ran.err.endswith(" is running in this folder; wait for it, or choose another folder\n")
    assert ran.err.count("\n") == 1


def test_a_mistake_takes_back_nothing_that_another_run_has_finished(distill: Run, tmp_path: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e30", "epochs=9", "save_every=null", "controls=[]")
    ran = distill("distill", *DIGITS, *words, "hydra.run.dir=.")
    assert ran.code == 2 and "term 'loss' is" in ran.err
    assert len(list(tmp_path.glob("outputs/train-teacher/*/report.json"))) == 1
    assert not (tmp_path / "checkpoint").exists()


def test_a_run_is_gone_on_with_by_its_folder_and_by_nothing_else(
    distill: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = ("distill", *DIGITS, "controls=[]", "save_every=5", "hydra.run.dir=mine")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_save(patch, 4, written=True)
        distill(*line)
    for words, said in {
        ("resume=nowhere",): "resume=nowhere: no such folder; use resume=auto, resume=never, or the folder of an unfinished run",
        ("resume=outputs",): "resume=outputs: holds no unfinished run (no resume/run.json); leave resume out to make a new one",
        ("resume=mine", "seed=3"): "resume=mine: started with other settings; its own command line was: "
        + shlex.join(["distill", *line]),
        ("save_every=0",): "save_every=0: expected a number of steps (1000), a time (30s, 5min, 1h) or null",
    }.items():
        ran = distill("distill", *DIGITS, "controls=[]", *words)
        assert (ran.code, ran.err.splitlines()[-1]) == (2, f"distill distill: error: {said}")
    ran = distill("distill", *DIGITS, "controls=[]", "resume=mine")
    assert ran.code == 0
    assert ran.folder.name == "mine"
    assert "resuming in mine" in ran.err and ": going on after epoch" in ran.err
    again = distill("distill", *DIGITS, "controls=[]", "resume=mine")
    assert again.err == "distill distill: error: resume=mine: this run is finished; leave resume out to make a new one\n"


def test_a_sweep_goes_on_by_itself(distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("distill", *DIGITS, "controls=[]", "save_every=5", "sweep=mine", "-m", "seed=0,1")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_save(patch, 8, written=True)
        distill(*line)
    ran = distill(*line)
    assert ran.code == 0
    assert "finished before; its state is taken up" in ran.err or "going on after epoch" in ran.err


def test_a_teacher_that_died_before_it_was_registered_is_found(distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("distill", *DIGITS, "controls=[]")

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(layout, "register", die)
        distill(*line)
    finished = next(Path("outputs/train-teacher").glob("*/report.json"))
    before = finished.stat().st_mtime_ns
    ran = distill(*line)
    assert ran.code == 0
    assert f"teacher: found {finished.parent}" in ran.err and finished.stat().st_mtime_ns == before


@pytest.mark.parametrize("link", [".owner", "checkpoint", "resume/student", "distill.log", "report.md"])
def test_a_run_writes_through_no_link(link: str, distill: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = ("distill", *DIGITS, "controls=[]", "save_every=5")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_save(patch, 4, written=True)
        distill(*line, "hydra.run.dir=mine")
    victim = tmp_path / "victim"
    if link in ("checkpoint", "resume/student"):
        victim.mkdir()
        (victim / ".mine.tmp").write_text("dear")
        (victim / "student.safetensors").write_text("dear")
    else:
        victim.write_text("dear")
    files.remove([Path("mine", link)])
    Path("mine", link).symlink_to(victim)
    for words in (("resume=mine",), ("hydra.run.dir=mine",)):
        ran = distill(*line, *words)
        assert ran.code == 2
        assert ran.err.endswith(
            f"{link}: is a symbolic link, and a run writes through none; remove it, or choose another folder\n"
        )
    found = [victim] if victim.is_file() else list(victim.iterdir())
    assert len(found) in (1, 2) and all(path.read_text() == "dear" for path in found)


# --- states ----------------------------------------------------------------------------------------------------------


def kept(folder: Path, key: str = "k", **more: Any) -> CheckpointManager:
    return CheckpointManager(folder / "s", key, **more)


def test_the_newest_whole_state_of_this_training_is_taken(tmp_path: Path) -> None:
    for number in range(4):
        kept(tmp_path).save({"n": number, "x": torch.full((2,), number)})
    names = sorted(p.name for p in (tmp_path / "s").iterdir())
    assert names == ["state-000000002.safetensors", "state-000000003.safetensors"]
    assert kept(tmp_path).load_latest()[0]["n"] == 3
    newest = tmp_path / "s" / names[1]
    newest.write_bytes(newest.read_bytes()[:50])
    (tmp_path / "s" / ".state-000000004.safetensors.1.abc.tmp").write_bytes(b"half")
    state, said = kept(tmp_path).load_latest()
    assert state["n"] == 2
    assert said == f"{newest}: damaged, skipped"
    assert len(list((tmp_path / "s").iterdir())) == 2
    assert kept(tmp_path, "other").load_latest()[0] is None
    assert kept(tmp_path, resume=False).load_latest() == (None, "")
    assert not list((tmp_path / "s").iterdir())


def test_going_on_with_other_threads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path).save({"n": 1})
    monkeypatch.setattr(training_checkpoint, "get_num_threads", lambda: 77)
    state, said = kept(tmp_path).load_latest()
    assert state == {"n": 1}
    newest = tmp_path / "s" / "state-000000000.safetensors"
    assert said == f"{newest}: written with threads={torch.get_num_threads()}, resuming with 77: last digits may differ"


def test_a_state_is_due_by_steps_by_time_and_at_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_steps = kept(tmp_path, every_steps=3)
    assert [by_steps.should_save() for _ in range(3)] == [False, False, True]
    now = [0.0]
    by_time = CheckpointManager(tmp_path, "k", every_seconds=2.0, clock=lambda: now[0])
    assert not by_time.should_save()
    now[0] = 2.0
    assert by_time.should_save()
    with pytest.raises(stop_signals.Interrupted), stop_signals.install_handlers(), stop_signals.defer_signals():
        never = kept(tmp_path)
        assert not never.should_save()
        os.kill(os.getpid(), signal.SIGTERM)
        assert never.should_save()
        never.save({})
    assert (tmp_path / "s" / "state-000000000.safetensors").exists()


def broken_off(distill: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, ...], CheckpointManager]:
    """Return the line of a killed training, and its states."""
    line = (
        "train-teacher", "dataset=digits", *TINY[:1], "teacher.epochs=2", "teacher.model.hidden=[4]", "save_every=5", "outputs=o",
    )  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_save(patch, 2, written=True)
        distill(*line)
    folder = next(Path("o").glob("*/*/resume/teacher"))
    return line, CheckpointManager(folder, json.loads(read_metadata(next(folder.glob("state-*"))))["key"])


@pytest.mark.parametrize(
    "course",
    [{"stage": "x"}, {"stage": 9}, {"step_in_epoch": -1}, {"epoch_in_stage": 10**9}, {"loss_sums": ["x"], "step_in_epoch": 1}],
)
def test_a_strangers_state_is_one_line(course: dict[str, Any], distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line, training_checkpoint = broken_off(distill, monkeypatch)
    state, _ = training_checkpoint.load_latest()
    assert state is not None
    training_checkpoint.save({**state, "progress": {**state["progress"], **course}})
    ran = distill(*line, "resume=auto")
    assert ran.code == 2
    assert f"{training_checkpoint.folder}: a state there is of another training (" in ran.err.splitlines()[-1]


def test_the_state_of_another_teachers_student_is_passed_over(distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in DIGITS if not word.startswith(("epochs", "student", "optimizer", "batch"))]
    for seed in (0, 1):
        assert distill("train-teacher", *words, f"teacher.seed={seed}", f"hydra.run.dir=t{seed}").code == 0
    Path("t").symlink_to("t0")
    line = ("distill", *DIGITS, "controls=[]", "teacher.run=t", "loss.alpha=0.001", "save_every=5")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_save(patch, 2, written=True)
        distill(*line)
    Path("t").unlink()
    Path("t").symlink_to("t1")
    ran = distill(*line, "resume=auto")
    assert ran.code == 0
    assert "of another data set, teacher, setting or version, skipped" in ran.err and "going on after" not in ran.err


def test_without_states_nothing_needs_to_be_kept(tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "s", "k").save({"a": {1, 2}})
    assert not (tmp_path / "s").exists()


def test_what_a_state_cannot_hold_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot keep a set in a training state"):
        kept(tmp_path, every_steps=1).save({"a": {1, 2}})


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(torch.arange(3.0))
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.text(max_size=2), st.integers()), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(NESTED)
def test_what_is_packed_comes_back(value: Any) -> None:
    packed, tensors = flatten_state(value)
    assert same(unflatten_state(json.loads(json.dumps(packed)), tensors), value)


def same(one: Any, other: Any) -> bool:
    """Equal values of equal types; tensors by content."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("value", ["", 0, -1, True, "5 days", "min", "0s", "1e9min", 1.5])
def test_no_such_time(value: Any) -> None:
    with pytest.raises(UserError, match="expected a number of steps"):
        parse_interval(value)


def test_an_owner_that_died_owns_nothing(tmp_path: Path) -> None:
    (tmp_path / ".owner").write_text(json.dumps({"pid": 1, "host": "gone"}))
    with locks.try_lock(tmp_path / ".owner", {"pid": 2}) as owner:
        assert owner is None
        assert json.loads((tmp_path / ".owner").read_text()) == {"pid": 2}


def killed_in_the_write_of(path: Path) -> Path:
    """Let another process die between the writing of a file or folder and its renaming; return what it leaves."""
    if not (child := os.fork()):
        with contextlib.ExitStack() as stack:
            stack.callback(os._exit, 70)
            for rename in ("replace", "rename"):
                setattr(os, rename, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            if path.suffix:
                files.write_text(path, "half")
            else:
                with files.atomic_folder(path) as folder:
                    (folder / "file").write_text("half")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = path.parent.glob(f".{glob.escape(path.name)}.*.tmp")
    return left


@pytest.mark.parametrize("name", ["file.json", "file[1]*.json", "folder", "folder[1]"])
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    left = killed_in_the_write_of(path)
    *_, machine, process, drawn, end = left.name.split(".")
    others = [f".{name}.{machine}.{os.getpid()}.{drawn}.{end}", f".f{name}.{machine}.{process}.{drawn}.{end}"]
    others += [f".{name}.000000.{process}.{drawn}.{end}"]  # of another machine, where that process may run
    for other in others:
        (tmp_path / other).write_text("somebody's")
    if path.suffix:
        files.write_text(path, "whole")
    else:
        with files.atomic_folder(path) as folder:
            (folder / "file").write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {name, *others}


def test_a_file_that_is_copied_again_leaves_no_second_name(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("whole")
    for _ in range(2):
        assert files.copy_file(tmp_path / "source", tmp_path / "copy").read_text() == "whole"
    assert {p.name for p in tmp_path.iterdir()} == {"source", "copy"}


def test_a_run_killed_before_it_said_what_it_is_leaves_no_half_of_that(tmp_path: Path) -> None:
    left = killed_in_the_write_of(tmp_path / "distill" / "killed" / layout.RESUME_DIR / resume.RUN)
    assert resume.resolve_run_dir("auto", tmp_path, "distill", tmp_path / "new", "key", sweeping=False) == tmp_path / "new"
    assert not left.exists()


def test_the_register_keeps_nothing_of_killed_writers(tmp_path: Path) -> None:
    for name in ("key.json", "key.begun.json"):
        killed_in_the_write_of(tmp_path / layout.REGISTER / name)
    layout.register(tmp_path, "key", tmp_path / "run")
    assert [p.name for p in (tmp_path / layout.REGISTER).iterdir()] == ["key.json"]


def test_an_owner_that_goes_leaves_nothing_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tmp_path / ".owner", os.open

    def open_then_lose(*words: Any) -> int:
        number = opened(*words)
        monkeypatch.undo()
        path.unlink()  # by the owner before
        return number

    monkeypatch.setattr(os, "open", open_then_lose)
    with locks.try_lock(path, {"pid": 2}) as owner:
        assert owner is None
        assert json.loads(path.read_text()) == {"pid": 2}


def test_whoever_comes_second_is_told_the_owner_and_waits_for_the_lock(tmp_path: Path) -> None:
    code = """
import sys, time
from distill_cli.utils import locks
with locks.try_lock("owner", {"pid": 7}), locks.file_lock("lock"):
    print("both", flush=True)
    sys.stdin.readline()
    time.sleep(0.2)
"""
    other = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == "both\n"
    with locks.try_lock(tmp_path / "owner", {"pid": 8}) as owner:
        assert owner == {"pid": 7}
    go_on = partial(print, file=other.stdin, flush=True)
    with locks.file_lock(tmp_path / "lock", go_on):
        assert not (tmp_path / "owner").exists()  # removed by the other, before it let go of the lock
    assert other.wait() == 0


def test_locks_go_with_their_process(tmp_path: Path) -> None:
    if not (child := os.fork()):
        with locks.try_lock(tmp_path / "owner", {"pid": 7}), locks.file_lock(tmp_path / "lock"):
            os._exit(0)
    os.waitpid(child, 0)
    with locks.try_lock(tmp_path / "owner", {"pid": 8}) as owner, locks.file_lock(tmp_path / "lock", lambda: pytest.fail("held")):
        assert owner is None


def test_a_link_is_no_owner_and_no_lock(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("dear")
    (tmp_path / "link").symlink_to("victim")
    with pytest.raises(UserError, match="link: cannot write"), locks.try_lock(tmp_path / "link", {"pid": 2}):
        pass
    with locks.file_lock(tmp_path / "link"):
        assert (tmp_path / "victim").read_text() == "dear"


def test_what_stands_in_a_states_place_goes(tmp_path: Path) -> None:
    (tmp_path / "s" / "state-999999999.safetensors").mkdir(parents=True)
    for number in range(3):
        kept(tmp_path).save({"n": number})
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["state-1000000001.safetensors", "state-1000000002.safetensors"]
    assert kept(tmp_path).load_latest() == ({"n": 2}, "")


def test_a_flipped_bit_in_a_weight_is_seen(tmp_path: Path) -> None:
    kept(tmp_path).save(
        {"w": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16), "n": torch.empty(0), "s": torch.tensor(3)}
    )
    path = tmp_path / "s" / "state-000000000.safetensors"
    assert kept(tmp_path).load_latest()[1] == ""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert kept(tmp_path).load_latest() == (None, f"{path}: damaged, skipped")


def test_a_state_that_fits_nothing_is_one_line(distill: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line, training_checkpoint = broken_off(distill, monkeypatch)
    training_checkpoint.save({"progress": 3})
    ran = distill(*line, "resume=auto")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == (
        f"distill train-teacher: error: {training_checkpoint.folder}: a state there is of another training ('model'); use resume=never to begin again"
    )


def read_metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as f:
        return f.metadata()["state"]


def test_a_refused_process_touches_nothing_in_the_owners_folder(distill: Run, tmp_path: Path) -> None:
    """Neither the same line nor another command, alone or in a sweep, though the owner has no training state there yet."""
    mine = tmp_path / "mine"
    with resume.lock_run_dir(mine):
        resume.mark_started(mine, "distill", "key", "distill distill")
        for name in ("failed.json", "distill.log", ".hydra/config.yaml"):
            (mine / name).parent.mkdir(exist_ok=True)
            (mine / name).write_text("the owner's")
        before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
        for words in (
            ("hydra.run.dir=mine",),
            ("resume=mine",),
            ("sweep=s", "hydra.sweep.dir=.", "hydra.sweep.subdir=mine", "-m"),
        ):
            ran = distill("distill", *DIGITS, *words)
            assert ran.code == 2, words
            assert "mine: " in ran.err, ran.err
            if "-m" not in words:
                assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before, words
        assert (mine / "failed.json").read_text() == "the owner's"
        assert (mine / "resume" / "run.json").is_file()
        assert not list(tmp_path.glob(".*.json"))
        assert distill("eval", "run=nowhere", "hydra.run.dir=mine").code == 2
        assert (mine / "resume" / "run.json").is_file()


@pytest.mark.slow
def test_a_signal_reaches_the_jobs_of_a_parallel_sweep(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = (
        "controls=[]",
        "save_every=null",
        "epochs=100000",
        "sweep=s",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    )
    line = [sys.executable, "-m", "distill_cli", "distill", *DIGITS, *words, "-m", "seed=0,1,2"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told: list[str] = []
        for text in process.stderr:
            told.append(text)
            if sum("student 1/" in one for one in told) == 2:  # both workers train a student
                process.send_signal(signal.SIGTERM)
                break
        told += process.stderr.readlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert (
        told[-1] == "distill distill: interrupted by SIGTERM; outputs/sweeps/s is unfinished: run the same line again to resume\n"
    )
    assert len(list(tmp_path.glob("outputs/sweeps/s/*/resume/student/state-*.safetensors"))) == 2
    assert "Traceback" not in "".join(told)
    assert not list(tmp_path.glob("outputs/sweeps/s/.*"))
