"""Spoiled files and random override lines: each must end in exit 0, or in exit 2 with one line on stderr.

    python benchmarks/fuzz.py                # 1,000 files and 300 lines
    python benchmarks/fuzz.py --cases 130    # as many of them, drawn by the seed
    python benchmarks/fuzz.py --case 417     # one of them, with all that it printed

A case is a small sound file (CSV, WFDB, idx, safetensors: weights, training rows, training states), spoiled in one to three
ways, and a real command that reads it; or a real command with one to three random overrides. Everything follows from (seed,
number of the case).

Starting a process with torch costs seconds, so every case is a fork of one parent that has imported what a run imports (a
first child tells it what), and nothing else: no thread is running in it that a fork would lose. The child gets a folder of its
own, its stdout and stderr go into files, and it is ended after 20 s of processor time or 60 s on the clock (cores may be
shared with other jobs). Its memory is the peak of resident pages (getrusage), the parent's own, about 0.4 GB, included; an
address space of 8 GB beyond the parent's keeps the machine safe.

Failed is a case that ends in another way: exit 1 or a signal, a traceback, no line or several, over 20 s, over 2 GB, a file
outside its folder, a temporary file left behind, a run folder with neither report nor resumable states, or exit 2 with a
report. Lines that tell how far a training is do not count as lines: a loss may turn out not to be finite after some epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from fuzz_mutations import override
from fuzz_sources import KINDS, PAIR, RESUMED, RUN, TEACHER, UNFINISHED, make_sources
from safetensors import SafetensorError

FILES, LINES = 1000, 300
CPU_SECONDS, WALL_SECONDS, GIGABYTE = 20, 60, 1 << 30
MEMORY, ADDRESSES = 2 * GIGABYTE, 8 * GIGABYTE
# What a mutation raises of a file that is spoiled beyond what it can spoil.
BEYOND = (ValueError, IndexError, KeyError, TypeError, OSError, EOFError, zlib.error, SafetensorError)
PROGRESS = re.compile(r"^(teacher|student|scratch)[^:]*: |: (damaged|of another data set).*passed over$|^resume: going on in ")


@dataclass
class Ended:
    """How a command ended."""

    code: int
    seconds: float
    memory: int
    out: str
    err: str


@dataclass
class Case:
    """A number, what it is of, what was done, and the line that reads it."""

    number: int
    kind: str
    what: str
    words: tuple[str, ...]
    faults: list[str] = field(default_factory=list)


def in_child(work: Path, target: Callable[[], int]) -> Ended:
    """Call `target` in a fork, in the folder `work`."""
    streams = [work.parent / "stdout", work.parent / "stderr"]
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(work)
            for number, path in enumerate(streams, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(WALL_SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
            code = target()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status, used = os.wait4(pid, 0)
    out, err = (path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in streams)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - began, used.ru_maxrss * 1024, out, err)


def distill(*words: str) -> int:
    """Run a command line, as the console script does."""
    from distill_cli.cli.main import main

    sys.argv = ["distill", *words]
    try:
        return main()
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1


COMPOSED: dict[tuple[str, ...], Any] = {}


def compose_here() -> Callable[[Sequence[str]], None]:
    """Let forks take what this process has composed; return what composes a line here.

    A spoiled file does not change the config of the line that reads it, and composing is half the time of a case. Lines with
    random overrides are composed by their own process. Hydra's first composition, for ``hydra.mode``, is left out: no line
    has one.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode
    from omegaconf import flag_override

    from distill_cli.config.composing import OptionLoader
    from distill_cli.config.options import conf_dir

    Hydra.get_mode = lambda *_, **__: RunMode.RUN
    compose = ConfigLoaderImpl.load_configuration

    def load(self: ConfigLoaderImpl, config_name: str, overrides: list[str], **others: Any) -> Any:
        cfg = COMPOSED.get((config_name, *overrides))
        if cfg is None:
            return compose(self, config_name, overrides, **others)
        with flag_override(cfg, ["struct", "readonly"], False):
            cfg.hydra.runtime.cwd = os.getcwd()
        return cfg

    def line(words: Sequence[str]) -> None:
        if tuple(words) not in COMPOSED:
            loader = OptionLoader(config_search_path=create_config_search_path(str(conf_dir())))
            COMPOSED[tuple(words)] = compose(loader, words[0], list(words[1:]), run_mode=RunMode.RUN)

    ConfigLoaderImpl.load_configuration = load
    return line


def broken_off() -> int:
    """Run a training that dies at its fourth state."""
    from distill_cli.runs.training_checkpoint import CheckpointManager

    save, saved = CheckpointManager.save, []

    def dying(self: CheckpointManager, state: dict[str, object]) -> None:
        save(self, state)
        saved.append(1)
        if len(saved) == 4:
            os._exit(0)

    CheckpointManager.save = dying  # type: ignore[method-assign]
    return distill(*UNFINISHED, "outputs=begun")


def prepare(place: Path) -> Path:
    """Make the sources, and import into this process what runs import; return the folder of the sources."""
    sources = place / "sources"
    sources.mkdir()
    make_sources(sources)
    listed = place / "modules"

    def first_runs() -> int:
        code = distill(*RUN, "hydra.run.dir=run")
        listed.write_text("\n".join(sys.modules))
        return code

    for target in (first_runs, broken_off):
        ended = in_child(sources, target)
        if ended.code:
            raise RuntimeError(f"a sound command failed: {ended.err}")
    for name in [*listed.read_text().split("\n"), "wfdb", "scipy.signal"]:
        if not name.startswith(("__", "_main")):
            with contextlib.suppress(ImportError, AttributeError, ValueError):
                importlib.import_module(name)
    shutil.rmtree(sources / "outputs", ignore_errors=True)
    return sources


def make_case(number: int, seed: int, sources: Path, work: Path) -> Case:
    """Lay out the files of a case in `work`, and return it."""
    draw = Random(f"{seed}/{number}")
    if number >= FILES:
        return _line(number, draw, sources, work)
    name = list(KINDS)[number % len(KINDS)]
    kind = KINDS[name]
    for needed in kind.needs:
        shutil.copytree(sources / needed, work / needed)
    found = sorted(sources.glob(draw.choice(kind.files)))
    path = draw.choice(found).relative_to(sources)
    top = path.parts[0]
    if not (work / top).exists():
        shutil.copytree(sources / top, work / top)
    data, done = (sources / path).read_bytes(), []
    if draw.random() < 0.07:
        other = draw.choice([p for k in KINDS.values() for pattern in k.files for p in sorted(sources.glob(pattern))])
        data, done = other.read_bytes(), [f"swapped with {other.relative_to(sources)}"]
    else:
        for mutation in draw.choices(kind.fitting(path), k=draw.choice((1, 1, 1, 2, 3))):
            try:
                data = mutation(draw, data)
                done.append(mutation.__name__)
            except (
                ValueError,
                IndexError,
                KeyError,
                TypeError,
                OSError,
                EOFError,
                zlib.error,
                SafetensorError,
            ):  # spoiled beyond what this one can spoil
                done.append(f"not {mutation.__name__}")
    (work / path).write_bytes(data)
    line = RESUMED if top == "begun" else draw.choice(kind.lines)
    words = tuple(word.format(file=path, folder=path.parent) if word.endswith("}") else word for word in line)
    return Case(number, name, f"{path}: {', '.join(done)}", words)


def _line(number: int, draw: Random, sources: Path, work: Path) -> Case:
    import yaml

    from distill_cli.config.options import conf_dir, options
    from distill_cli.config.trust import iter_leaves

    shutil.copytree(sources / "run", work / "run")
    shutil.copytree(sources / "csv", work / "csv")
    config = yaml.safe_load((sources / "run/config.yaml").read_text())
    keys = [key for key, _ in iter_leaves(config, "", "") if "_target_" not in key]
    choices = {group: list(files) for group, files in options([conf_dir()]).items() if group not in ("experiment", "dataset")}
    base = draw.choice((RUN, RUN, ("train-teacher", *TEACHER), ("eval", "run=run", "device=cpu"), ("layers", *PAIR)))
    words = [override(draw, keys, choices) for _ in range(draw.choice((1, 1, 2, 3)))]
    return Case(number, "override lines", " ".join(words)[:300], (*base, *words))


def faults_of(ended: Ended, before: set[Path], work: Path, words: Sequence[str]) -> list[str]:
    """Return in what a case has failed."""
    lines = [line for line in ended.err.splitlines() if not PROGRESS.search(line)]
    faults = []
    if ended.code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL) or ended.seconds > WALL_SECONDS:
        faults.append("hang")
    elif ended.code not in (0, 2):
        faults.append(f"exit {ended.code}")
    if "Traceback" in ended.err:
        faults.append("traceback")
    if ended.code == 2 and len(lines) != 1:
        faults.append(f"{len(lines)} lines")
    if ended.memory > MEMORY:
        faults.append(f"{ended.memory / GIGABYTE:.1f} GB")
    return faults + partial_results(before, work, ended.code, words)


def partial_results(before: set[Path], work: Path, code: int, words: Sequence[str]) -> list[str]:
    """Return what a command has left that it must not leave."""
    faults = [f"escaped: {p.name}" for p in work.parent.iterdir() if p.name not in ("work", "stdout", "stderr")]
    new = [p for p in work.rglob("*") if p not in before]
    faults += [f"left {p.relative_to(work)}" for p in new if p.suffix == ".tmp" or ".tmp" in p.name]
    runs = {p.parent for p in new if p.name == ".hydra"}
    for folder in sorted(runs):
        own = folder.parent.name == words[0] or "report.json" not in [p.name for p in folder.iterdir()]
        try:
            json.loads((folder / "report.json").read_text())
            if code == 2 and own:
                faults.append(f"a report of a failed command in {folder.relative_to(work)}")
        except (OSError, ValueError):
            if not list(folder.glob("resume/*/state-*")):
                faults.append(f"half a run in {folder.relative_to(work)}")
    return faults


def run_case(number: int, seed: int, sources: Path, place: Path, compose: Callable[[Sequence[str]], None]) -> tuple[Case, Ended]:
    """Run one case in a folder that is removed before the next."""
    home = place / "case"
    shutil.rmtree(home, ignore_errors=True)
    work = home / "work"
    work.mkdir(parents=True)
    case = make_case(number, seed, sources, work)
    if number < FILES:
        compose(case.words)
    before = set(work.rglob("*"))
    ended = in_child(work, lambda: distill(*case.words))
    case.faults = faults_of(ended, before, work, case.words)
    return case, ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=FILES + LINES, help="how many of all, drawn by the seed")
    parser.add_argument("--case", type=int, help="only this one")
    asked = parser.parse_args()
    began = time.monotonic()
    total = FILES + LINES
    numbers = [asked.case] if asked.case is not None else sorted(Random(asked.seed).sample(range(total), min(asked.cases, total)))
    table: dict[str, Counter[str]] = {}
    most, longest = 0, 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        place = Path(temporary)
        sources = prepare(place)
        compose = compose_here()
        gc.freeze()
        for done, number in enumerate(numbers, 1):
            case, ended = run_case(number, asked.seed, sources, place, compose)
            outcome = "failed" if case.faults else f"exit {ended.code}"
            table.setdefault(case.kind, Counter())[outcome] += 1
            most, longest = max(most, ended.memory), max(longest, ended.seconds)
            if case.faults or asked.case is not None:
                said = ended.err if asked.case is not None else "\n".join(ended.err.splitlines()[-3:])
                print(f"case {number} ({case.kind}) {', '.join(case.faults) or outcome}: {case.what}", flush=True)
                print(f"  {' '.join(case.words)}\n{said}", flush=True)
            if done % 50 == 0:
                print(f"{done} of {len(numbers)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{'':16}{'cases':>8}{'exit 0':>8}{'exit 2':>8}{'failed':>8}")
    for kind, counts in sorted(table.items()):
        print(f"{kind:16}{sum(counts.values()):8}{counts['exit 0']:8}{counts['exit 2']:8}{counts['failed']:8}")
    print(
        f"seed {asked.seed}, {time.monotonic() - began:.0f} s, longest case {longest:.1f} s, most memory {most / GIGABYTE:.2f} GB"
    )
    return int(any(counts["failed"] for counts in table.values()))


if __name__ == "__main__":
    sys.exit(main())
