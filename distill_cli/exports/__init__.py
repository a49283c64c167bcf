"""A trained classifier -> files that run elsewhere: one file a format, the checks before they are shipped, the model card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_cli.exports import c, onnx, onnx_int8, safetensors, web
from distill_cli.exports.subject import Subject, Written

# Each writes into the folder that it is given, by the settings of `distill export`, and hands back what is to be checked.
FORMATS: dict[str, Callable[[Subject, Path, Any], list[Written]]] = {
    "safetensors": safetensors.write,
    "onnx": onnx.write,
    "onnx-int8": onnx_int8.write,
    "c": c.write,
    "web": web.write,
}
