"""Exporters of a trained classifier: one module for each file format.

The package also checks the files against the model, and writes the model card.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_cli.exports import c, onnx, onnx_int8, safetensors, web
from distill_cli.exports.subject import Artifact, ExportSource

# Exporters: write files into a folder by the settings of `distill export`, and return the artifacts to check.
FORMATS: dict[str, Callable[[ExportSource, Path, Any], list[Artifact]]] = {
    "safetensors": safetensors.write,
    "onnx": onnx.write,
    "onnx-int8": onnx_int8.write,
    "c": c.write,
    "web": web.write,
}
# Checks before anything is written: of the model's layers, and of the packages and tools that an exporter needs.
LOOKS: dict[str, Callable[[ExportSource, Any], object]] = {
    "onnx": lambda subject, settings: onnx.look("format=onnx"),
    "onnx-int8": lambda subject, settings: onnx.look("format=onnx-int8"),
    "c": c.look,
    "web": web.look,
}
