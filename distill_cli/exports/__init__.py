"""A trained classifier -> files that run elsewhere: one file a format, the checks before they are shipped, the model card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_cli.exports import c, onnx, onnx_int8, safetensors, web
from distill_cli.exports.subject import Artifact, ExportSource

# Each writes into the folder that it is given, by the settings of `distill export`, and hands back what is to be checked.
FORMATS: dict[str, Callable[[ExportSource, Path, Any], list[Artifact]]] = {
    "safetensors": safetensors.write,
    "onnx": onnx.write,
    "onnx-int8": onnx_int8.write,
    "c": c.write,
    "web": web.write,
}
# Each looks at a model's layers and at what is installed, and refuses what cannot be written, before anything is.
LOOKS: dict[str, Callable[[ExportSource, Any], object]] = {
    "onnx": lambda subject, settings: onnx.look("format=onnx"),
    "onnx-int8": lambda subject, settings: onnx.look("format=onnx-int8"),
    "c": c.look,
    "web": web.look,
}
