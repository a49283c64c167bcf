"""Export to C99: a header and a source file with fp32 and int8 weights.

The files are compiled and run before they are moved to the export folder.
"""

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
LEAST_ROWS = 32  # rows that make a further process worth its start
DRIVER = "driver.c"


def look(subject: ExportSource, settings: ExportSettings) -> None:
    """Check that a C compiler is installed, and that every layer has a C kernel.

    Raises:
        UserError: there is no C compiler, or a layer has no C kernel.
    """
    find_compiler()
    plan_of(subject.model, subject.input_shape)


def write(subject: ExportSource, folder: Path, settings: ExportSettings) -> list[Artifact]:
    """Write ``NAME.h`` and ``NAME.c``, and compile them with both kinds of weights.

    Raises:
        UserError: a layer has no C kernel, there is no C compiler, or the compiler rejects the files.
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
    """Return the bytes of all arrays in the source file.

    With int8 weights each weight takes one byte, and each filter a scale of four bytes.
    """
    whole = sum(4 * array.size for op in plan.operations for array in op.arrays.values())
    weights = [op.weight for op in plan.operations if op.weight is not None]
    return int(whole + sum(w.size + 4 * len(w) if int8 else 4 * w.size for w in weights))


def find_compiler() -> str:
    """Return the path of the C compiler: ``CC``, or the first of cc, gcc and clang.

    Raises:
        UserError: there is none, and an export that was not run is not written.
    """
    for name in filter(None, (os.environ.get("CC"), *COMPILERS)):
        if path := shutil.which(name):
            return path
    raise UserError(
        "format=c: no C compiler here (cc, gcc, clang, or CC=...), and no export is kept that was not run; install one"
    )


class Compiled:
    """The files of an export, compiled to a program.

    The program reads rows and writes logits and probabilities.

    Args:
        folder: folder of the files; the program lies in a temporary folder that is removed with this object.
        name: name of the files, without extension.
        compiler: path of the compiler.
        int8: whether weights are rounded to int8.
        inputs: number of values of a row.
        classes: number of classes C.

    Raises:
        UserError: the compiler rejects the files.
    """

    def __init__(self, folder: Path, name: str, compiler: str, int8: bool, inputs: int, classes: int) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="distill-c-")
        self.inputs, self.classes = inputs, classes
        self.program = str(Path(self._place.name) / "program")
        prefix = identifier(name)
        defined = [f"-D{prefix.upper()}_INT8"] if int8 else []
        object_file = f"{self.program}.o"
        names = [f'-DHEADER="{name}.h"', f"-DLOGITS={prefix}_logits", f"-DPROBABILITIES={prefix}_probabilities"]
        names += [f"-D{size}={prefix.upper()}_{size}" for size in ("INPUTS", "CLASSES", "WORKSPACE")]
        _compile([compiler, *STRICT, "-O2", *defined, "-c", f"{name}.c", "-o", object_file], folder)
        driver = str((KERNELS / DRIVER).resolve())
        _compile([compiler, "-std=c99", "-O2", "-I.", *names, driver, object_file, "-lm", "-o", self.program], folder)
        self.version = _output_of([compiler, "--version"]).partition("\n")[0]
        self.object_bytes = _sizes(object_file)

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and probabilities ``[B, C]`` of rows ``[B, *shape]``.

        The rows are split over the cores.
        """
        rows = np.ascontiguousarray(x, dtype="<f4").reshape(len(x), self.inputs)
        parts = np.array_split(rows, max(1, min(os.cpu_count() or 1, len(rows) // LEAST_ROWS)))
        with ThreadPoolExecutor(len(parts)) as threads:
            outputs = np.concatenate(list(threads.map(self._run, parts)))
        return outputs[:, 0], outputs[:, 1]

    def _run(self, rows: np.ndarray) -> np.ndarray:
        """Return logits and probabilities ``[B, 2, C]`` of rows ``[B, inputs]``.

        One process computes all rows.
        """
        done = subprocess.run([self.program], input=rows.tobytes(), capture_output=True, timeout=SECONDS, check=True)
        return np.frombuffer(done.stdout, "<f4").reshape(len(rows), 2, self.classes)

    def time(self) -> dict[str, float]:
        """Return the latency of a row in milliseconds, ``{p50, p99}``.

        The program measures itself after a warm-up.
        """
        done = subprocess.run([self.program, "time"], capture_output=True, text=True, timeout=SECONDS, check=True)
        times = np.array(done.stdout.split(), dtype=np.float64) / 1e6
        return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


def _compile(line: list[str], folder: Path) -> None:
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        why = next((text for text in done.stderr.splitlines() if "error" in text), "no reason given")
        raise UserError(f"format=c: {line[0]} refuses the files: {why.strip()}; nothing was written")


def _output_of(line: list[str]) -> str:
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS).stdout


def _sizes(object_file: str) -> dict[str, int] | None:
    """Return the bytes of ``text`` and ``data`` by the tool `size`, or None.

    ``text`` is code and constants, ``data`` is variables. None stands for a machine without the tool.
    """
    tool = shutil.which("size")
    numbers = re.search(r"^\s*(\d+)\s+(\d+)\s+(\d+)", _output_of([tool, object_file]), re.M) if tool else None
    return {"text": int(numbers[1]), "data": int(numbers[2]) + int(numbers[3])} if numbers else None
