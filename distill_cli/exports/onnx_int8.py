"""Export to ONNX with int8 weights and activations.

Quantization is onnxruntime's static quantization.
"""

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
# Percentile of the activation range. The full range, widened by outliers, loses more macro F1 on the heartbeats.
PERCENTILE = 99.999


def write(subject: ExportSource, folder: Path, settings: ExportSettings | BenchSettings) -> list[Artifact]:
    """Write ``NAME.int8.onnx``.

    Activation ranges are calibrated on training rows, weights have a scale for each filter, and nodes are in QDQ format.
    """
    name = f"{safe_name(subject.name)}.int8.onnx"
    pool = subject.dataset.train
    count = min(settings.calibration_rows, len(pool))
    chosen = np.sort(numpy_generator(settings.seed, "calibration").choice(len(pool), count, replace=False))
    content = quantized(onnx.model_bytes(subject, "format=onnx-int8"), pool.select(chosen).x)
    write_bytes(folder / name, content)
    facts = {"opset": onnx.OPSET, "calibration_rows": count}
    return [Artifact("onnx-int8", (name,), onnx.initializer_bytes(content), onnx.runner(onnx.session(content)), None, facts)]


def quantized(content: bytes, rows: np.ndarray) -> bytes:
    """Return the content of a float32 ONNX file, quantized to int8.

    Args:
        content: content of the float32 file.
        rows: ``[N, *shape]`` calibration rows for the ranges of activations.
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
    """Calibration rows in batches, as onnxruntime's calibration reads them.

    All batches have one size, which divides the number of rows, because onnxruntime stacks the outputs of the batches.

    Args:
        rows: ``[N, *shape]``.
    """

    def __init__(self, rows: np.ndarray) -> None:
        size = next(n for n in range(min(ROWS_AT_ONCE, len(rows)), 0, -1) if len(rows) % n == 0)
        self._parts: Iterator[np.ndarray] = (rows[i : i + size] for i in range(0, len(rows), size))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the inputs of the next batch, or None at the end."""
        part = next(self._parts, None)
        return None if part is None else {onnx.INPUT: np.ascontiguousarray(part, dtype=np.float32)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence onnxruntime's log, including its advice to preprocess the file.

    Why: torch.onnx has already folded constants and inferred shapes.
    """
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
