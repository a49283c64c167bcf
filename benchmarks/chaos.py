"""Kill real runs at random moments, let them go on, and compare what they leave with runs that nobody killed.

    python benchmarks/chaos.py [--kills 50] [--seed 0] [--only WORD]
    python benchmarks/chaos.py --every-write "written, not renamed"

Each run is a process forked from this one, so that torch is imported once. It dies by SIGKILL: at a random time, or inside a
write of a state or a result (half of the bytes on disk; all of them, but under the temporary name; just renamed). Then the same
line is given again until it ends, and weights, predictions and scores are compared to the bit. Further trials follow: signals, a
full disk, a folder that cannot be written, a process killed for its memory, a clock that jumps, two processes on one folder, a
folder moved between kill and resume. What follows from (seed, trial) can be repeated. Exits 1 when anything is lost or differs.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra  # noqa: F401  (imported before the forks, as is torch)
import torch

from distill_cli.cli.main import main
from distill_cli.utils import files
from distill_cli.utils import signals as stop_signals

SMALL = (
    "dataset=digits", "device=cpu", "device.threads=1", "bootstrap.resamples=50", "teacher.epochs=6", "teacher.model.hidden=[64]",
    "teacher.batch_size=50", "save_every=3", "report.html=false",
)  # fmt: skip
STUDENT = ("epochs=8", "batch_size=50", "student.model.hidden=[16,16]", "student.model.dropout=0.2")
LINES = {
    "train-teacher": ("train-teacher", *SMALL),
    "distill with control": ("distill", *SMALL, *STUDENT, "mixup=beta", "sampling.class_balance_power=0.5"),
    "two stages": (
        "distill", *SMALL, *STUDENT, "stages=hint_then_soft_target", "stages.hint.loss.features=[body.2,body.2]",
        "stages.hint.epochs=4",
    ),
    "sweep": ("distill", *SMALL, *STUDENT, "controls=[]", "sweep=all", "-m", "seed=0,1"),
}  # fmt: skip
PLACES = ("half written", "written, not renamed", "just renamed")
LIMIT_SECONDS = 300
Prepare = Callable[[], object]


def words_of(name: str, outputs: Path) -> tuple[str, ...]:
    """Return the command line of a run that goes on where it can."""
    first, *rest = LINES[name]
    return (first, f"outputs={outputs}", *(() if name == "sweep" else ("resume=auto",)), *rest)


def start(words: tuple[str, ...], log: Path, prepare: Prepare = lambda: None) -> int:
    """Fork a process that runs a command line, after `prepare`; return its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with open(log, "a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        prepare()
        sys.argv = ["distill", *words]
        try:
            code = main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
    finally:
        os._exit(code)


def end(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that killed it."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


def run(words: tuple[str, ...], log: Path, prepare: Prepare = lambda: None) -> int:
    """Run a command line to its end; return the exit code."""
    return end(start(words, log, prepare))


def die_at_write(number: int, place: str) -> Prepare:
    """Return what lets a process kill itself at its write of that number."""

    def prepare() -> None:
        count = iter(range(1, 1_000_000))
        replace = os.replace

        def replacing(source: Any, target: Any) -> None:
            if next(count) != number:
                replace(source, target)
                return
            if place == "half written":
                os.truncate(source, os.path.getsize(source) // 2)
            elif place == "just renamed":
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)

        files.os.replace = replacing  # type: ignore[attr-defined]

    return prepare


def left_by(outputs: Path) -> dict[str, list[dict[str, Any]]]:
    """Return everything below a folder of finished runs that times and names do not decide, by command and seed.

    A run that dies after its report is there is finished: the same line then makes another.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(outputs.glob("**/report.json")):
        report, folder = json.loads(path.read_text()), path.parent
        with open(folder / "metrics.csv") as f:
            epochs = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]
        left = {
            "weights": {p.name: p.read_bytes() for p in sorted((folder / "checkpoint").glob("*.safetensors"))},
            "predictions": (folder / "predictions.csv").read_text(),
            "scores": {name: (model.get("val"), model.get("test")) for name, model in report["models"].items()},
            "epochs": epochs,
        }
        found.setdefault(f"{report['command']} {report['seed']}", []).append(left)
    return found


def differences(whole: dict[str, list[dict[str, Any]]], left: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return where finished runs differ from those that nobody killed; a missing one differs."""
    missing = [f"{key}: missing" for key in whole if key not in left]
    return missing + [
        f"{key}: {part}" for key, runs in left.items() for one in runs for part in one if one[part] != whole[key][0][part]
    ]


class Trials:
    """Runs trials in a folder, and counts how they end."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.counts: Counter[tuple[str, str]] = Counter()
        self.whole: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.seconds: dict[str, float] = {}
        self.log = folder / "log"

    def reference(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """Return what a run leaves that nobody kills; run it once."""
        if name not in self.whole:
            outputs, began = self.folder / f"whole-{name.replace(' ', '-')}", time.monotonic()
            assert run(words_of(name, outputs), self.log) == 0, self.log.read_text()[-2000:]
            self.seconds[name] = time.monotonic() - began
            self.whole[name] = left_by(outputs)
        return self.whole[name]

    def note(self, kind: str, fault: str) -> None:
        """Count a trial; `fault` is empty where all is as it should be."""
        self.counts[kind, "failed" if fault else "as it should be"] += 1
        print(f"{kind}: {fault or 'as it should be'}", flush=True)

    def finish(self, kind: str, name: str, outputs: Path) -> None:
        """Let a run that was broken off go on to its end, and compare."""
        whole = self.reference(name)
        code = run(words_of(name, outputs), self.log)
        different = differences(whole, left_by(outputs))
        litter = [p.name for p in outputs.glob("**/*.tmp")]
        self.note(kind, f"exit {code}" if code else ", ".join(different) or (f"left {litter}" if litter else ""))
        shutil.rmtree(outputs)

    def kill(self, number: int) -> None:
        """One trial: kill a run once to three times, each time at a place or a moment of its own, then let it go on."""
        draw = random.Random(f"{self.seed}/{number}")
        name = draw.choice(list(LINES))
        self.reference(name)
        outputs = self.folder / f"killed-{number}"
        how = "at a random moment"
        for _ in range(draw.randint(1, 3)):
            if draw.random() < 0.5:
                how = draw.choice(PLACES)
                code = run(words_of(name, outputs), self.log, die_at_write(draw.randint(1, 60), how))
            else:
                how = "at a random moment"
                pid = start(words_of(name, outputs), self.log)
                time.sleep(draw.random() * self.seconds[name])
                os.kill(pid, signal.SIGKILL)
                code = end(pid)
            self.counts["kills", "made" if code == -signal.SIGKILL else "too late: the run had ended"] += 1
        self.finish(f"killed, {how}", name, outputs)

    def kill_at_every_write(self, name: str, place: str) -> None:
        """One trial for each write of a run: kill it there, then let it go on."""
        self.reference(name)
        for number in itertools.count(1):
            outputs = self.folder / f"write-{number}"
            code = run(words_of(name, outputs), self.log, die_at_write(number, place))
            self.finish(f"{name} killed at a write, {place}", name, outputs)
            if code != -signal.SIGKILL:
                return


def signals(trials: Trials) -> None:
    """SIGINT and SIGTERM: exit codes, and the run goes on."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        outputs = trials.folder / f"signal-{code}"

        def ring(number: int = number) -> None:
            due = stop_signals.stop_requested
            count = iter(range(1, 1_000_000))

            def heard() -> int | None:
                if next(count) == 40:
                    os.kill(os.getpid(), number)
                return due()

            stop_signals.stop_requested = heard

        found = run(words_of("distill with control", outputs), trials.log, ring)
        if found != code:
            trials.note(signal.Signals(number).name, f"exit {found}, expected {code}")
        trials.finish(signal.Signals(number).name, "distill with control", outputs)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """Mount a file system of that size; None where this user may not."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def full_disk(trials: Trials) -> None:
    """A disk that is full: one line, exit 2; with room again the run goes on, and nothing finished is lost."""
    with small_disk(trials.folder / "disk", 2000) as disk:
        if disk is None:
            trials.counts["full disk", "not tried: mounting needs root"] += 1
            return
        outputs = disk / "outputs"
        filler = disk / "filler"
        filler.write_bytes(b"x" * 1_900_000)
        code = run(words_of("distill with control", outputs), trials.log)
        last = trials.log.read_text().splitlines()[-1]
        if code != 2 or "No space left" not in last:
            trials.note("full disk", f"exit {code}: {last}")
        filler.unlink()
        trials.finish("full disk", "distill with control", outputs)


def read_only(trials: Trials) -> None:
    """A folder that cannot be written: one line, exit 2, nothing left."""
    with small_disk(trials.folder / "readonly", 1000) as disk:
        if disk is None or subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode:
            trials.counts["read-only folder", "not tried: mounting needs root"] += 1
            return
        code = run(words_of("distill with control", disk / "outputs"), trials.log)
        trials.note("read-only folder", "" if code == 2 else f"exit {code}: {trials.log.read_text()[-300:]}")


def out_of_memory(trials: Trials) -> None:
    """A process that the system kills for its memory goes on with more: a cgroup with a limit, where one can be made."""
    first_version = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    home, limit = (first_version.parent, first_version.name) if first_version.exists() else (Path("/sys/fs/cgroup"), "memory.max")
    group = home / f"distill-chaos-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(1 << 40))
        (group / limit).stat()
    except OSError:
        trials.counts["killed for its memory", "not tried: no cgroup can be made"] += 1
        with suppress(OSError):
            group.rmdir()
        return
    outputs = trials.folder / "memory"

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        number, save = iter(range(1, 1000)), files.write_arrays

        def hungry(*words: Any, **more: Any) -> Path:
            path = save(*words, **more)
            if next(number) == 4:
                (group / limit).write_text(str(900 << 20))
                _ = torch.ones(1 << 29)
            return path

        files.write_arrays = hungry

    code = run(words_of("distill with control", outputs), trials.log, join)
    with suppress(OSError):
        group.rmdir()
    if code != -signal.SIGKILL:
        trials.note("killed for its memory", f"exit {code}")
    trials.finish("killed for its memory", "distill with control", outputs)


def clock_jump(trials: Trials) -> None:
    """The clock goes back a day in the middle, and the run is killed and goes on."""
    outputs, clock = trials.folder / "clock", time.time

    def jump() -> None:
        count = iter(range(1, 1_000_000))
        time.time = lambda: clock() - 86_400 * (next(count) > 5)
        die_at_write(12, "just renamed")()

    run(words_of("distill with control", outputs), trials.log, jump)
    trials.finish("clock jump", "distill with control", outputs)


def two_processes(trials: Trials) -> None:
    """The second process on a run folder refuses, and says who runs there; the first ends as if alone."""
    outputs, folder = trials.folder / "two", trials.folder / "two" / "distill" / "mine"
    first, *rest = words_of("distill with control", outputs)
    words = (first, f"hydra.run.dir={folder}", *rest)
    pid = start(words, trials.log)
    while not (folder / ".owner").exists() or not (folder / ".owner").read_text():
        time.sleep(0.01)
    code = run(words, second := trials.folder / "second.log")
    said = second.read_text()
    named = f"process {pid} on " in said and said.count("\n") == 1
    if code != 2 or not named:
        trials.note("two processes on one folder", f"exit {code}: {said}")
    if first_code := end(pid):
        trials.note("two processes on one folder", f"the first ended with {first_code}")
    trials.finish("two processes on one folder", "distill with control", outputs)


def moved(trials: Trials) -> None:
    """The folder of all runs is moved between kill and resume."""
    before, after = trials.folder / "before", trials.folder / "after"
    for name in LINES:
        run(words_of(name, before), trials.log, die_at_write(25, "just renamed"))
        before.rename(after)
        trials.finish("moved between kill and resume", name, after)


OTHERS = (signals, full_disk, read_only, out_of_memory, clock_jump, two_processes, moved)


def table(trials: Trials) -> int:
    """Print how all ended; return 1 if anything failed."""
    for (kind, outcome), count in sorted(trials.counts.items()):
        print(f"{count:4d}  {kind}: {outcome}")
    return int(any(outcome == "failed" for _, outcome in trials.counts))


def chaos() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="runs that are killed, each once to three times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="of the further trials those with this word in their name")
    parser.add_argument("--every-write", choices=PLACES, help="instead: kill each line at each of its writes, at that place")
    parser.add_argument("--short", action="store_true", help="6 kills, signals and two processes: for continuous integration")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    kills, others = (6, (signals, two_processes)) if wanted.short else (wanted.kills, OTHERS)
    if wanted.every_write:
        kills, others = 0, ()
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), wanted.seed)
        for name in LINES if wanted.every_write else ():
            trials.kill_at_every_write(name, wanted.every_write)
        for number in range(kills):
            trials.kill(number)
        for other in others:
            if wanted.only in other.__name__:
                other(trials)
        code = table(trials)
        if code:
            shutil.copy(trials.log, "chaos.log")
    print(f"{time.monotonic() - began:.0f} s, seed {wanted.seed}")
    return code


if __name__ == "__main__":
    sys.exit(chaos())
