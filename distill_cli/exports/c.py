"""Plain C99: a header and a source file with fp32 and int8 weights, compiled and run before they are kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np

from distill_cli import __version__
from distill_cli.config.settings.run_commands import ExportSettings
from distill_cli.errors import UserError
from distill_cli.exports.c_source import KERNELS, header, identifier, source
from distill_cli.exports.lowering import plan_of
from distill_cli.exports.memory_plan import places
from distill_cli.exports.operations import Plan
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.utils.files import safe_name, write_text

SAME_LOGIT = 1e-4
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 600
LEAST_ROWS = 32  # of a process
DRIVER = "driver.c"


def look(subject: ExportSource, settings: ExportSettings) -> None:
    """Refuse a layer that has no C, and a machine without a C compiler, before anything is written."""
    find_compiler()
    plan_of(subject.model, subject.input_shape)


def write(subject: ExportSource, folder: Path, settings: ExportSettings) -> list[Artifact]:
    """Write ``NAME.h`` and ``NAME.c``; both kinds of weights are compiled and run.

    Raises:
        UserError: a layer that has no C, no C compiler here, or one that refuses the files.
    """
    compiler = find_compiler()
    plan = plan_of(subject.model, subject.input_shape)
    name = safe_name(subject.name)
    about = f"{subject.name} of {subject.about.get('run', 'a run')}, made by distill {__version__}"
    write_text(folder / f"{name}.h", header(name, plan, subject.class_names, about, subject.feature_names))
    write_text(folder / f"{name}.c", source(name, plan, subject.class_names, about, subject.temperature))
    return [_written(folder, name, plan, compiler, int8) for int8 in (False, True)]


def _written(folder: Path, name: str, plan: Plan, compiler: str, int8: bool) -> Artifact:
    binary = Compiled(folder, name, compiler, int8, prod(plan.input_shape), prod(plan.operations[-1].shape))
    facts = {"compiled_bytes": binary.object_bytes, "workspace_bytes": 4 * places(plan).size, "compiler": binary.version}
    return Artifact(
        "c-int8" if int8 else "c", (f"{name}.c", f"{name}.h"), weight_bytes(plan, int8), binary.run, None if int8 else SAME_LOGIT,
        facts, binary.time,
    )  # fmt: skip


def weight_bytes(plan: Plan, int8: bool) -> int:
    """Return the bytes of all numbers in the arrays: of rounded weights one each, and four for the scale of each filter."""
    whole = sum(4 * array.size for op in plan.operations for array in op.arrays.values())
    weights = [op.weight for op in plan.operations if op.weight is not None]
    return int(whole + sum(w.size + 4 * len(w) if int8 else 4 * w.size for w in weights))


def find_compiler() -> str:
    """Return the C compiler: ``CC``, or the first of cc, gcc and clang.

    Raises:
        UserError: there is none, and no export is kept unchecked.
    """
    for name in filter(None, (os.environ.get("CC"), *COMPILERS)):
        if found := shutil.which(name):
            return found
    raise UserError(
        "format=c: no C compiler here (cc, gcc, clang, or CC=...), and no export is kept that was not run; install one"
    )


class Compiled:
    """The files of an export as a program that reads rows and writes logits and probabilities.

    Args:
        folder: where the files lie; what is compiled lies elsewhere and is gone when this is.
        name: of the files.
        compiler: its path.
        int8: with rounded weights.
        inputs: numbers of a row.
        classes: of the logits.

    Raises:
        UserError: the compiler refuses the files.
    """

    def __init__(self, folder: Path, name: str, compiler: str, int8: bool, inputs: int, classes: int) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="distill-c-")
        self.inputs, self.classes = inputs, classes
        self.program = str(Path(self._place.name) / "program")
        word = identifier(name)
        defined = [f"-D{word.upper()}_INT8"] if int8 else []
        object_file = f"{self.program}.o"
        names = [f'-DHEADER="{name}.h"', f"-DLOGITS={word}_logits", f"-DPROBABILITIES={word}_probabilities"]
        names += [f"-D{size}={word.upper()}_{size}" for size in ("INPUTS", "CLASSES", "WORKSPACE")]
        _compile([compiler, *STRICT, "-O2", *defined, "-c", f"{name}.c", "-o", object_file], folder)
        driver = str((KERNELS / DRIVER).resolve())
        _compile([compiler, "-std=c99", "-O2", "-I.", *names, driver, object_file, "-lm", "-o", self.program], folder)
        self.version = _told([compiler, "--version"]).partition("\n")[0]
        self.object_bytes = _sizes(object_file)

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the program on rows ``[B, *shape]``, some on each core."""
        rows = np.ascontiguousarray(x, dtype="<f4").reshape(len(x), self.inputs)
        parts = np.array_split(rows, max(1, min(os.cpu_count() or 1, len(rows) // LEAST_ROWS)))
        with ThreadPoolExecutor(len(parts)) as threads:
            found = np.concatenate(list(threads.map(self._run, parts)))
        return found[:, 0], found[:, 1]

    def _run(self, rows: np.ndarray) -> np.ndarray:
        """Return logits and probabilities ``[B, 2, classes]`` of rows ``[B, inputs]``, by one process."""
        done = subprocess.run([self.program], input=rows.tobytes(), capture_output=True, timeout=SECONDS, check=True)
        return np.frombuffer(done.stdout, "<f4").reshape(len(rows), 2, self.classes)

    def time(self) -> dict[str, float]:
        """Return milliseconds a row, ``{p50, p99}``, measured inside the program after a warm-up."""
        done = subprocess.run([self.program, "time"], capture_output=True, text=True, timeout=SECONDS, check=True)
        times = np.array(done.stdout.split(), dtype=np.float64) / 1e6
        return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


def _compile(line: list[str], folder: Path) -> None:
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        why = next((text for text in done.stderr.splitlines() if "error" in text), "no reason given")
        raise UserError(f"format=c: {line[0]} refuses the files: {why.strip()}; nothing was written")


def _told(line: list[str]) -> str:
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS).stdout


def _sizes(object_file: str) -> dict[str, int] | None:
    """Return bytes of code and constants (``text``) and of variables (``data``), as `size` tells them; None without it."""
    tool = shutil.which("size")
    numbers = re.search(r"^\s*(\d+)\s+(\d+)\s+(\d+)", _told([tool, object_file]), re.M) if tool else None
    return {"text": int(numbers[1]), "data": int(numbers[2]) + int(numbers[3])} if numbers else None
