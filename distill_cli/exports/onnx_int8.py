"""ONNX with weights and activations of one byte, by onnxruntime's static quantisation."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill_cli.config.settings.run_commands import BenchSettings, ExportSettings
from distill_cli.exports import onnx
from distill_cli.exports.subject import Artifact, ExportSource
from distill_cli.rng import numpy_generator
from distill_cli.utils.files import safe_name, write_bytes

ROWS_AT_ONCE = 64
# The rarest numbers would widen the range of all others; on the heartbeats this loses less macro F1 than the whole range does.
PERCENTILE = 99.999


def write(subject: ExportSource, folder: Path, settings: ExportSettings | BenchSettings) -> list[Artifact]:
    """Write ``NAME.int8.onnx``: ranges of activations from training rows, a scale for each filter, QDQ nodes."""
    name = f"{safe_name(subject.name)}.int8.onnx"
    pool = subject.dataset.train
    count = min(settings.calibration_rows, len(pool))
    chosen = np.sort(numpy_generator(settings.seed, "calibration").choice(len(pool), count, replace=False))
    content = quantised(onnx.model_bytes(subject, "format=onnx-int8"), pool.select(chosen).x)
    write_bytes(folder / name, content)
    facts = {"opset": onnx.OPSET, "calibration_rows": count}
    return [Artifact("onnx-int8", (name,), onnx.initializer_bytes(content), onnx.runner(onnx.session(content)), None, facts)]


def quantised(content: bytes, rows: np.ndarray) -> bytes:
    """Return a float32 ONNX file's content, quantised.

    Args:
        content: of the float32 file.
        rows: ``[N, *shape]`` that ranges of activations are taken from.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="distill-int8-") as place, _quiet():
        source, target = Path(place, "float.onnx"), Path(place, "int8.onnx")
        write_bytes(source, content)
        quantize_static(
            str(source), str(target), Rows(rows), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8, calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
        )  # fmt: skip
        return target.read_bytes()


class Rows:
    """Training rows as onnxruntime's calibration wants them: one dictionary of inputs after the other, then None.

    Parts are of one size, which divides the number of rows: onnxruntime stacks what each part gives.
    """

    def __init__(self, rows: np.ndarray) -> None:
        size = next(n for n in range(min(ROWS_AT_ONCE, len(rows)), 0, -1) if len(rows) % n == 0)
        self._parts: Iterator[np.ndarray] = (rows[i : i + size] for i in range(0, len(rows), size))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next inputs, or None at the end."""
        part = next(self._parts, None)
        return None if part is None else {onnx.INPUT: np.ascontiguousarray(part, dtype=np.float32)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's account of itself away, and its advice to preprocess the file: torch.onnx has folded and inferred."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
