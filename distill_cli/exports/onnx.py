"""Export to ONNX by torch.onnx, with a free batch size.

Input preparation, network and softmax are one graph.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_cli import __version__
from distill_cli.config.settings.run_commands import BenchSettings, ExportSettings
from distill_cli.errors import UserError
from distill_cli.exports.subject import Artifact, ExportSource, Outputs, Runner
from distill_cli.profiling.model_cost import weight_bytes
from distill_cli.utils.files import safe_name, write_bytes

OPSET = 18
INPUT, LOGITS, PROBABILITIES = "input", "logits", "probabilities"
SAME_LOGIT = 1e-4


def look(what: str) -> None:
    """Check that the packages for writing ONNX are installed.

    Raises:
        UserError: a package is missing.
    """
    require(what, "onnx", "onnxscript", "onnxruntime")


def write(subject: ExportSource, folder: Path, settings: ExportSettings | BenchSettings) -> list[Artifact]:
    """Write ``NAME.onnx``.

    Raises:
        UserError: a package is missing, or torch cannot translate the network.
    """
    name = f"{safe_name(subject.name)}.onnx"
    content = model_bytes(subject)
    write_bytes(folder / name, content)
    facts = {"opset": OPSET, "stored_bytes": initializer_bytes(content)}
    return [Artifact("onnx", (name,), weight_bytes(subject.model), runner(session(content)), SAME_LOGIT, facts)]


def model_bytes(subject: ExportSource, what: str = "format=onnx") -> bytes:
    """Return the content of the ONNX file: float32, opset 18, with `metadata`.

    Args:
        subject: the exported model.
        what: option named in messages, such as ``format=onnx``.

    Raises:
        UserError: a package is missing, or torch cannot translate the network.
    """
    look(what)
    example, outputs = torch.zeros(2, *subject.input_shape), Outputs(subject.model, subject.temperature, subject.task).eval()
    try:
        with _quiet():
            outputs = Outputs(subject.model, subject.temperature, subject.task).eval()
            program = torch.onnx.export(
                outputs, (example,), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[INPUT], output_names=[LOGITS, PROBABILITIES], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
    except Exception as e:  # torch raises errors of many kinds here
        why = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise UserError(f"{what}: torch.onnx cannot translate this network: {why}") from None
    assert program is not None
    proto = program.model_proto
    _strip_metadata(proto)
    import onnx

    onnx.helper.set_model_props(proto, metadata(subject))
    proto.producer_name, proto.producer_version = "distill", __version__
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def metadata(subject: ExportSource) -> dict[str, str]:
    """Return the file's metadata, with values other than plain words as JSON."""
    return {
        "model": subject.name,
        "class_names": json.dumps(list(subject.class_names)),
        "input_shape": json.dumps(list(subject.input_shape)),
        "input_preparation": f"{subject.spec.preprocessing}, inside the graph",
        **({"feature_names": json.dumps(list(subject.feature_names))} if subject.feature_names else {}),
        "temperature": json.dumps(subject.temperature),
        "opset": str(OPSET),
        **subject.about,
    }


def _strip_metadata(proto: Any) -> None:
    """Remove stack traces and Python names from the graph.

    Why: they hold paths of this machine, and are larger than a small network.
    """
    for part in (proto.graph.node, proto.graph.initializer, proto.graph.input, proto.graph.output, proto.graph.value_info):
        for thing in part:
            del thing.metadata_props[:]
            thing.doc_string = ""
    del proto.graph.metadata_props[:]
    proto.doc_string = proto.graph.doc_string = ""


def initializer_bytes(content: bytes) -> int:
    """Return the bytes of all weights in an ONNX file."""
    import onnx

    proto = onnx.load_model_from_string(content)
    return int(sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer))


def session(content: bytes, threads: int | None = None) -> Any:
    """Return an onnxruntime session on the CPU.

    Args:
        content: content of an ONNX file.
        threads: number of threads; None: as many as torch uses.

    Raises:
        UserError: onnxruntime is missing.
    """
    require("format=onnx", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def runner(opened: Any) -> Runner:
    """Return a function that runs a session on arrays."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, probabilities = opened.run([LOGITS, PROBABILITIES], {INPUT: np.ascontiguousarray(x, dtype=np.float32)})
        return logits, probabilities

    return run


def require(what: str, *packages: str) -> None:
    """Check that packages are installed.

    Raises:
        UserError: names the first that is missing.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            raise UserError(f"{what}: needs the package {package}; pip install 'distill-cli[export]'") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
