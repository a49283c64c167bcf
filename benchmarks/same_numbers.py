"""Run a fixed set of commands and hold every number they write against stored ones, to the last digit.

    python benchmarks/same_numbers.py                     # run all cases, print every difference, exit 1 if there is one
    python benchmarks/same_numbers.py --only digits,smoke --jobs 2
    python benchmarks/same_numbers.py --write             # store what this revision gives (with --only: of these cases alone)

Each case is a list of command lines, run one after the other as processes of their own in a temporary outputs folder: fixed
seeds, CPU, one thread. What they leave becomes a flat mapping `case/run/file.path.to.key -> value` in `same_numbers.json`,
one key a line. A refactoring keeps all of them; a rename is said in `RENAMED_KEYS` and `RENAMED_VALUES`, a deliberate change in
`CHANGED`. Another processor or another version of torch may give other last digits: the file says where it was written.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import itertools
import json
import os
import platform
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
STORED = Path(__file__).with_suffix(".json")

# What is run. Every line gets COMMON, and `outputs={outputs}` where it does not name another; {inputs} holds what `make_inputs`
# makes. A line that begins with `stop:` is ended by SIGTERM as soon as a file matches STATE, a state of the student's training.
COMMON = "device=cpu device.threads=1 report.html=false bootstrap.resamples=100"
SHORT = "experiment=digits epochs=10 teacher.epochs=10"
BEATS = "experiment=smoke dataset.n=600 epochs=3 teacher.epochs=3"
RESUMED = (
    "distill experiment=digits dataset.label_fraction=0.5 epochs=30 teacher.epochs=5 student.model.dropout=0.2 save_every=20"
)
STATE = "distill/**/state-*.safetensors"
CASES: dict[str, list[str]] = {
    "digits": ["distill experiment=digits epochs=30 teacher.epochs=30 sweep=digits -m seed=0,1"],
    "smoke": ["distill experiment=smoke"],
    "fitnets": ["distill experiment=fitnets stages.hint.epochs=6 stages.soft_target.epochs=10 teacher.epochs=20"],
    "ensemble": [f"distill {SHORT} teacher.ensemble.size=2"],
    "chain": [f"distill {SHORT} 'generations=[{{name: assistant, model: {{hidden: [64]}}}}]'"],
    "unlabelled": [f"distill {SHORT} dataset.unlabeled={{inputs}}/unlabelled.npy"],
    "search": [
        f"distill {SHORT} hparams=random_soft_target sweep=search -m trial=0,1,2",
        f"distill {SHORT} tuned_from={{outputs}}/sweeps/search 'controls=[scratch,tuned]' seed=5",
    ],
    "resumed": [
        f"stop: {RESUMED} resume=auto",
        f"{RESUMED} resume=auto",
        f"{RESUMED} outputs={{outputs}}/whole",
    ],
    "attention": [f"distill {BEATS} +loss@terms.maps=attention terms.maps.features=[[conv2,conv2]] balance_gradients=at_start"],
    "rkd": [f"distill {SHORT} +loss@terms.relations=rkd terms.relations.features=[body.2,body.2] log_gradients.every=4"],
    "views": [f"distill {BEATS} augment=shift mixup=beta cache.views=2"],
    "in_the_loop": [f"distill {BEATS} augment=shift mixup=beta cache.use=never sampling=balanced"],
    "train_teacher": ["train-teacher dataset=digits teacher=mlp teacher.epochs=10 seed=3"],
    "finished_run": [
        f"distill {BEATS}",
        "eval run={outputs}/distill",
        "export run={outputs}/distill format=[safetensors,onnx,onnx-int8,c] calibrate=true max_f1_drop=1"
        " output={outputs}/shipped",
        "predict run={outputs}/distill input={inputs}/rows.csv output={outputs}/predicted.csv",
        "predict run={outputs}/distill input={inputs}/rows.csv output={outputs}/by_onnx.csv onnx={outputs}/shipped/student.onnx",
    ],
}  # fmt: skip

# Renames since the file was written, old: new, of what stands in a key's path between `.` or `/` (several parts may be named:
# "models.scratch"), and of whole words in texts. Both are applied to what is stored, before it is compared.
RENAMED_KEYS: dict[str, str] = {
    "interval": "ci95",
    "macro_f1_interval": "macro_f1_ci95",
    "f1_interval": "f1_ci95",
    "term.hard": "term.cross_entropy",
    "terms.hard": "terms.cross_entropy",
    "labels_seen": "labeled_samples_seen",
    "overflows": "skipped_steps",
    "report.unlabelled": "report.unlabeled",
    "transfer_exclude": "exclude_classes",
    "bias_fix": "bias_correction",
    "report.chain": "report.generations",
    "chain.1": "generations.1",
    "report.search": "report.tuned_from",
    "architecture.arguments.prepare": "architecture.arguments.preprocessing",
    "card.prepare": "card.preprocessing",
    "smallest_detectable": "minimum_detectable_effect",
    "report.source": "report.source_run",
    "config.balance": "config.balance_gradients",
    "config.chain": "config.generations",
    "config.search": "config.tuned_from",
    "config.objective": "config.optimized_metric",
    "config.checkpoint.every": "config.save_every",
    "config.progress.every": "config.log_every_seconds",
    "config.progress.level": "config.verbosity",
    "config.gradients": "config.log_gradients",
    "config.schedule": "config.lr_scheduler",
    "config.select.metric": "config.monitor",
    "config.select.patience": "config.early_stopping.patience",
    "config.sampling.power": "config.sampling.class_balance_power",
    "config.device.resident_gb": "config.device.max_device_gb",
    "config.dataset.unlabelled": "config.dataset.unlabeled",
    "config.student.prepare": "config.student.preprocessing",
    "config.teacher.prepare": "config.teacher.preprocessing",
    "config.teacher.average": "config.teacher.ensemble.average",
    "config.teacher.members": "config.teacher.ensemble.size",
    "config.teacher.member_weights": "config.teacher.ensemble.weights",
    "config.teacher.checkpoint": "config.teacher.run",
    "config.teacher.checkpoint_model": "config.teacher.run_model",
    "config.teacher.outputs": "config.teacher.logits_file",
    "config.teacher.outputs_kind": "config.teacher.logits_kind",
    "config.teacher.schedule": "config.teacher.lr_scheduler",
    "config.teacher.sampling.power": "config.teacher.sampling.class_balance_power",
    "config.teacher.select.metric": "config.teacher.monitor",
    "config.teacher.select.patience": "config.teacher.early_stopping.patience",
}
RENAMED_VALUES: dict[str, str] = {
    "standardise": "standardize",
}
# Deliberate changes since the file was written: (pattern of keys, a regular expression that is searched; reason).
CHANGED: list[tuple[str, str]] = [
    (r"\.recipe_version$", "the recipe has changed: statistics of inputs are those of channels"),
    (r"/report\.name$", "runs are named by data and options"),
    (
        r"\.weight_change$|\.preparation_bytes$|\.data\.files$|\.config\.health$|\.config\.teacher\.weights_key$",
        "reports say more",
    ),
    (r"\.notes\.\d+\.(check|text)$|/report\.notes$", "notes on the health of a run are new"),
]

# What is not compared: (pattern of keys, a regular expression that is searched; reason).
IGNORED = [
    (r"seconds(\.|$)|\.samples_per_second|\.latency_ms\.", "times"),
    (r"\.provenance\.", "date, folder, versions and host"),
    (r"_key$|\.cache\.key|\.teacher_fingerprint|\.config\.sweep", "hashes of configs, in which names of classes and keys stand"),
    (r"\.compiler$", "host"),
    (r"/card\.files\.|\.files\.[^/]*(model\.json|README\.md)$", "bytes of texts in which names stand"),
    (r"^(?!digits/).*/report\.config\.", "what was asked for, no outcome; defaults are held in `digits`"),
]
# A run that was stopped finds what its first process made.
NOT_OF_RESUMED = re.compile(r"\.teacher_source|\.cache\.state")

SECONDS = 900
Numbers = dict[str, Any]


class Failed(Exception):
    """A command did not end as it should."""


@dataclass
class Outcome:
    """What a case gave: its numbers, or the reason why there are none; and faults that need no stored number."""

    numbers: Numbers = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def make_inputs(folder: Path) -> None:
    """Write the files that cases read."""
    draw = np.random.default_rng(7)
    np.save(folder / "unlabelled.npy", draw.integers(0, 17, (300, 64)).astype(np.float32))
    np.savetxt(folder / "rows.csv", draw.random((40, 187)), fmt="%.6f", delimiter=",")


def command(line: str, outputs: Path, inputs: Path) -> list[str]:
    """Return the words of a process that runs a line."""
    first, *rest = shlex.split(line.replace("{outputs}", str(outputs)).replace("{inputs}", str(inputs)))
    place = [] if any(word.startswith("outputs=") for word in rest) else [f"outputs={outputs}"]
    return [sys.executable, "-m", "distill_cli", first, *place, *COMMON.split(), *rest]


def run(line: str, outputs: Path, inputs: Path) -> None:
    """Run a line to its end, or stop it once its training has a state; raise `Failed` where it ends otherwise."""
    stopped = line.startswith("stop:")
    words = command(line.removeprefix("stop:"), outputs, inputs)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    log = outputs / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=variables, cwd=outputs)
        try:
            while stopped and process.poll() is None and not any(outputs.glob(STATE)):
                time.sleep(0.01)
            if stopped and process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(SECONDS)
        finally:
            process.kill()
    if code != (128 + signal.SIGTERM if stopped else 0):
        raise Failed(f"exit {code}: {shlex.join(words[3:])}\n{log.read_text()[-1500:]}")


def digest(data: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(data).hexdigest()[:12]


def flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every leaf below a value read from JSON. What each class has is one: a list, or a mapping of counts."""
    parts = list(value.values()) if isinstance(value, dict) else []
    if len(parts) > 4 and all(isinstance(part, dict) and part.keys() == parts[0].keys() for part in parts):
        for name in parts[0]:
            yield f"{key}.*.{name}", [part[name] for part in parts]
    elif parts and not (len(parts) > 4 and all(isinstance(part, int) for part in parts)):
        for name, part in value.items():
            yield from flat(part, f"{key}.{name}")
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for number, part in enumerate(value):
            yield from flat(part, f"{key}.{number}")
    else:
        yield key, value


def number_or_text(cell: str) -> float | str | None:
    """Return what a cell of a table holds."""
    with contextlib.suppress(ValueError):
        return float(cell)
    return cell or None


def summary(cells: Sequence[Any]) -> list[Any]:
    """Return a column in a line: few cells or runs of equal ones as they are, else count, first, middle, last and hash."""
    if len(cells) <= 6:
        return list(cells)
    runs = [(value, len(list(group))) for value, group in itertools.groupby(cells)]
    if len(runs) <= 3:
        return [f"{count} x {value}" for value, count in runs]
    return [len(cells), cells[0], cells[len(cells) // 2], cells[-1], digest(json.dumps(cells).encode())]


def table(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a CSV file, those of each model alone where rows belong to models."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    parts: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        parts.setdefault(f".{row['model']}" if "model" in row else "", []).append(row)
    for name, part in parts.items():
        for column in part[0]:
            yield f"{key}{name}.{column}", summary([number_or_text(row[column]) for row in part])


def weights(path: Path) -> str:
    """Return a hash of the tensors in a file, whatever their names are."""
    return digest("".join(sorted(digest(array.tobytes()) for array in load_file(path).values())).encode())


def numbers_below(outputs: Path) -> Iterator[tuple[str, Any]]:
    """Yield all that the runs below a folder wrote.

    A run is `FOLDER.N`: the N-th that finished of those in FOLDER, as its own name is a date or a hash. Files outside of runs
    are named by their path.
    """
    reports = sorted(outputs.glob("**/report.json"), key=lambda path: path.stat().st_mtime_ns)
    counts: dict[Path, int] = {}
    names: dict[Path, str] = {outputs: ""}
    for path in reports:
        parent = path.parent.parent
        counts[parent] = counts.get(parent, 0) + 1
        names[path.parent] = f"{parent.relative_to(outputs).as_posix()}.{counts[parent]}/"
    for path in sorted(outputs.glob("**/*")):
        run = next(folder for folder in path.parents if folder in names)
        name = names[run] + path.relative_to(run).with_suffix("").as_posix()
        if path.name in ("report.json", "card.json"):
            yield from flat(json.loads(path.read_text()), name)
        elif path.suffix == ".csv":
            yield from table(path, name)
        elif path.suffix == ".safetensors" and path.parent.name == "checkpoint":
            yield name, weights(path)


def clean(value: Any, folder: Path) -> Any:
    """Return a value with the names of temporary folders taken out."""
    if isinstance(value, list):
        return [clean(part, folder) for part in value]
    return re.sub(rf"{re.escape(str(folder))}[^\s,;:'\"\])]*", "FOLDER", value) if isinstance(value, str) else value


def compared(numbers: Numbers) -> Numbers:
    """Return what is not ignored."""
    pattern = re.compile("|".join(pattern for pattern, _ in IGNORED))
    return {key: value for key, value in numbers.items() if not pattern.search(key)}


def resumed_alone(numbers: Numbers) -> tuple[Numbers, list[str]]:
    """Return the numbers of the resumed run, and where they are not those of the run that nobody stopped."""
    whole = {key.replace("/whole/", "/"): value for key, value in numbers.items() if "/whole/" in key}
    resumed = {key: value for key, value in numbers.items() if "/whole/" not in key}
    return resumed, [
        f"{key}: {whole.get(key)!r} of the run that nobody stopped, {resumed.get(key)!r} of the resumed one"
        for key in sorted(whole.keys() | resumed.keys())
        if whole.get(key) != resumed.get(key) and not NOT_OF_RESUMED.search(key)
    ]


def run_case(name: str) -> Outcome:
    """Run the lines of a case in a folder of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="same-numbers-") as temporary:
        folder = Path(temporary).resolve()
        outputs, inputs = folder / "outputs", folder / "inputs"
        outputs.mkdir()
        inputs.mkdir()
        make_inputs(inputs)
        try:
            for line in CASES[name]:
                run(line, outputs, inputs)
            found = compared({f"{name}/{key}": clean(value, folder) for key, value in numbers_below(outputs)})
            outcome = Outcome(*(resumed_alone(found) if name == "resumed" else (found, [])))
        except (Failed, subprocess.TimeoutExpired) as e:
            outcome = Outcome(faults=[str(e)])
    outcome.seconds = time.monotonic() - started
    return outcome


def renamed(stored: Numbers) -> Numbers:
    """Return stored numbers under the names of today."""

    def key_of_today(key: str) -> str:
        for old, new in RENAMED_KEYS.items():
            key = re.sub(rf"(?<![^/.]){re.escape(old)}(?![^/.])", new, key)
        return key

    def value_of_today(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of_today(part) for part in value]
        if isinstance(value, str):
            for old, new in RENAMED_VALUES.items():
                value = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new.replace("\\", r"\\"), value)
        return value

    return {key_of_today(key): value_of_today(value) for key, value in stored.items()}


def differences(stored: Numbers, numbers: Numbers) -> dict[str, str]:
    """Return what differs, by key."""
    absent = object()
    found = {}
    for key in sorted(stored.keys() | numbers.keys()):
        old, new = stored.get(key, absent), numbers.get(key, absent)
        if json.dumps(old, default=str, sort_keys=True) != json.dumps(new, default=str, sort_keys=True):
            found[key] = f"{'(absent)' if old is absent else repr(old)} -> {'(absent)' if new is absent else repr(new)}"
    return found


def judge(name: str, outcome: Outcome, stored: Numbers) -> tuple[int, dict[str, int]]:
    """Print how a case compares; return how many faults and differences count, and how many each deliberate change explains."""
    explained: dict[str, int] = {}
    lines = [*outcome.faults] if stored else [*outcome.faults, f"nothing is stored of it: --write --only {name}"]
    for key, text in (differences(stored, outcome.numbers) if stored and outcome.numbers else {}).items():
        reason = next((reason for pattern, reason in CHANGED if re.search(pattern, key)), None)
        if reason is None:
            lines.append(f"{key}: {text}")
        else:
            explained[reason] = explained.get(reason, 0) + 1
    verdict = f"{len(lines)} differ" if lines else "all equal"
    meant = f", {sum(explained.values())} changed on purpose" if explained else ""
    print(f"{name}: {len(outcome.numbers)} numbers, {verdict}{meant}, {outcome.seconds:.0f} s", flush=True)
    for line in lines:
        print(f"  {line}")
    return len(lines), explained


def place() -> dict[str, str]:
    """Return what last digits may depend on."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "onnxruntime")
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpu.read_text()) if cpu.exists() else []
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    return {
        "processor": models[0] if models else platform.machine(), "python": platform.python_version(), "compiler": compiler,
        **{name: version(name) for name in packages},
    }  # fmt: skip


def write(numbers: Numbers) -> None:
    """Store numbers, a key a line."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(numbers[key])}" for key in sorted(numbers))
    STORED.write_text(f'{{"place": {json.dumps(place())},\n"numbers": {{\n{lines}\n}}}}\n')


def main() -> int:
    """Run the cases that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="store what is found instead of comparing")
    parser.add_argument("--only", metavar="CASE[,CASE]", help=f"of {', '.join(CASES)}")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"--only={','.join(unknown)}: no such case; there are {', '.join(CASES)}")
    content = json.loads(STORED.read_text()) if STORED.exists() else {"place": place(), "numbers": {}}
    stored = renamed(compared(content["numbers"]))
    for key, old in content["place"].items():
        if (new := place().get(key)) != old:
            print(f"written with {key} {old}, this is {new}: last digits may differ")
    by_case = {name: {key: value for key, value in stored.items() if key.startswith(f"{name}/")} for name in CASES}
    faults, explained = 0, dict.fromkeys((reason for _, reason in CHANGED), 0)
    with ThreadPoolExecutor(asked.jobs) as pool:
        running = {pool.submit(run_case, name): name for name in names}
        for done in as_completed(running):
            name, outcome = running[done], done.result()
            if asked.write and not outcome.faults:
                by_case[name] = outcome.numbers
                write({key: value for numbers in by_case.values() for key, value in numbers.items()})
            count, meant = judge(name, outcome, by_case[name])
            faults += count
            explained |= {reason: explained[reason] + number for reason, number in meant.items()}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of processor time")
    for reason, number in explained.items():
        print(f"changed on purpose: {reason}: {number} numbers")
    print(f"{faults} differences" if faults else f"{STORED}: written" if asked.write else "the same numbers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
