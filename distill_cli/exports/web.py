"""Export to a web page that runs the model with onnxruntime-web.

The page needs no build step, and any static server can serve it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.config.settings.run_commands import ExportSettings
from distill_cli.errors import UserError
from distill_cli.exports import onnx
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.profiling.model_cost import weight_bytes
from distill_cli.rng import numpy_generator
from distill_cli.types import Pool
from distill_cli.utils.files import safe_name, write_bytes, write_text

PAGE = Path(__file__).parent / "page"
FOLDER = "web"
# Files of onnxruntime-web for the CPU: the script that the page loads, and the files that the script loads.
RUNTIME_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
VERSION = "1.30.0"
INTEGRITY = "sha384-Bw6URI+Gvoadw0do7/QrSHUC9D1vCYYK5OSqChFyhyV5mzPL4oe2rOAFljAnS8Sq"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
ROWS_FOR_RANGE = 1024


def look(subject: ExportSource, settings: ExportSettings) -> None:
    """Check that samples can be drawn, and that the packages and runtime exist.

    Raises:
        UserError: samples have more than three axes, a package is missing, or the runtime is not at ``runtime_path``.
    """
    onnx.look("format=web")
    _display_shape(subject.input_shape)
    if settings.runtime_source == "bundled":
        _runtime(Path(settings.runtime_path))


def write(subject: ExportSource, folder: Path, settings: ExportSettings) -> list[Artifact]:
    """Write ``web/``: page, ONNX model, and optionally samples and runtime.

    Validation samples are written where the run allows it, the runtime where it is bundled.

    Raises:
        UserError: the runtime is not at ``runtime_path``, or samples have more than three axes.
    """
    bundled = settings.runtime_source == "bundled"
    runtime = _runtime(Path(settings.runtime_path)) if bundled else []
    shape = _display_shape(subject.input_shape)
    content = onnx.model_bytes(subject, "format=web")
    place, model = folder / FOLDER, f"{safe_name(subject.name)}.onnx"
    write_bytes(place / model, content)
    pool = subject.dataset.val
    shown = min(settings.samples, len(pool)) if subject.show_samples else 0
    if shown:
        write_text(place / "samples.json", json.dumps(_samples(subject, pool, shown, settings.seed)))
    for file in runtime:
        write_bytes(place / "runtime" / file.name, file.read_bytes())
    where = "runtime/" if bundled else CDN
    low, high = _range(subject, settings.seed)
    facts = {
        "class_names": list(subject.class_names),
        "input_shape": list(subject.input_shape),
        "shape": list(shape),
        "low": low,
        "high": high,
        "model": model,
        "runtime": where,
    }
    write_text(place / "index.html", _html(subject, facts, shown > 0, where, "" if bundled else INTEGRITY))
    for name in ("page.css", "page.js"):
        write_text(place / name, (PAGE / name).read_text(encoding="utf-8"))
    names = sorted(path.relative_to(folder).as_posix() for path in place.rglob("*") if path.is_file())
    first = f"{FOLDER}/index.html"
    report_facts = {
        "runtime": settings.runtime_source,
        "runtime_bytes": sum(file.stat().st_size for file in runtime),
        "samples": shown,
    }
    files = (first, *(name for name in names if name != first))
    run = onnx.runner(onnx.session(content))
    return [Artifact("web", files, weight_bytes(subject.model), run, onnx.SAME_LOGIT, report_facts, _in_the_browser)]


def _in_the_browser() -> dict[str, float | None]:
    """Return an empty latency, because only the browser can measure it."""
    return {"p50": None, "p99": None}


def _runtime(path: Path) -> list[Path]:
    files = [path / name for name in RUNTIME_FILES]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(
            f"runtime_path={path}: there is no {missing[0].name}; `npm install onnxruntime-web@{VERSION}` brings "
            "node_modules/onnxruntime-web/dist, or choose runtime=cdn"
        )
    return files


def _display_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width of the drawing of a sample.

    The values of a vector are channels of one number each.
    """
    if len(shape) > 3:
        raise UserError(f"format=web: samples of shape {shape} cannot be drawn; up to three axes can")
    channels, *space = shape
    height, width = [*(1,) * (2 - len(space)), *space]
    return channels, height, width


def _range(subject: ExportSource, seed: int) -> tuple[float, float]:
    """Return the value range of drawings: the middle 99.8 % of some training rows."""
    pool = subject.dataset.train
    chosen = numpy_generator(seed, "web/range").choice(len(pool), min(ROWS_FOR_RANGE, len(pool)), replace=False)
    low, high = np.quantile(pool.select(np.sort(chosen)).x, [0.001, 0.999])
    return float(low), float(high)


def _samples(subject: ExportSource, pool: Pool, count: int, seed: int) -> list[dict[str, Any]]:
    """Return validation samples, round-robin over the classes, without sample ids."""
    order = numpy_generator(seed, "web/samples").permutation(len(pool))
    of_class = [[int(i) for i in order if pool.y[i] == c] for c in range(len(subject.class_names))]
    turns = sorted((turn, c, i) for c, rows in enumerate(of_class) for turn, i in enumerate(rows))
    chosen = np.array([i for _, _, i in turns[:count]])
    x = pool.select(chosen).x.reshape(len(chosen), -1)
    labels = [subject.class_names[int(pool.y[i])] for i in chosen]
    return [{"label": label, "x": [float(f"{v:.9g}") for v in row]} for label, row in zip(labels, x, strict=True)]


def _html(subject: ExportSource, facts: dict[str, Any], samples: bool, runtime: str, integrity: str) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    harmless = json.dumps(facts).replace("<", "\\u003c")  # no end of the script element
    return page.get_template("index.html").render(
        title=f"{subject.name} for {subject.dataset.name}",
        what=f"A classifier of {len(subject.class_names)} classes: '{subject.name}' of the run {subject.about.get('run', '')}.",
        facts=Markup(harmless), samples=samples, runtime=runtime, integrity=integrity, count=int(np.prod(facts["shape"])),
    )  # fmt: skip
