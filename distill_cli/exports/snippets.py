"""Code snippets that run an export, in Python, JavaScript and C."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from distill_cli.exports.c_source import identifier


def snippets(card: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield title, language and text of a snippet for each format of a card."""
    formats, shape = card["formats"], card["input"]["shape"]
    names = json.dumps(card["class_names"])
    for name in ("onnx", "onnx-int8"):
        if name in formats:
            file = next(iter(formats[name]["files"]))
            yield f"`{file}` in Python:", "python", _python(file, shape, names)
            yield f"`{file}` in JavaScript, in Node or bundled for a browser:", "js", _javascript(file, shape, names)
    if "c" in formats:
        yield f"`{next(iter(formats['c']['files']))}`:", "c", _c(next(iter(formats["c"]["files"])))
    if "web" in formats:
        yield (
            "The page, from any static web server; then open http://localhost:8000:",
            "sh",
            "python -m http.server --directory web",
        )
    if "safetensors" in formats:
        yield "The weights in PyTorch, with distill:", "python", _torch(formats["safetensors"], shape, card)


def _python(file: str, shape: list[int], names: str) -> str:
    return (
        "import numpy as np, onnxruntime\n"
        f'session = onnxruntime.InferenceSession("{file}")\n'
        f"x = np.zeros((1, {', '.join(map(str, shape))}), np.float32)  # your rows\n"
        'logits, probabilities = session.run(["logits", "probabilities"], {"input": x})\n'
        f"print([{names}[c] for c in probabilities.argmax(1)], probabilities)"
    )


def _javascript(file: str, shape: list[int], names: str) -> str:
    size = 1
    for n in shape:
        size *= n
    return (
        'import * as ort from "onnxruntime-web";\n'
        f'const session = await ort.InferenceSession.create("{file}");\n'
        f'const x = new ort.Tensor("float32", new Float32Array({size}), [1, {", ".join(map(str, shape))}]);  // your row\n'
        "const p = Array.from((await session.run({input: x})).probabilities.data);\n"
        f"console.log({names}[p.indexOf(Math.max(...p))], p);"
    )


def _c(file: str) -> str:
    name = file.removesuffix(".c")
    prefix = identifier(name)
    upper = prefix.upper()
    return (
        f"/* gcc -std=c99 -O2 [-D{upper}_INT8] main.c {file} -lm */\n"
        f'#include "{name}.h"\n'
        f"static float row[{upper}_INPUTS], p[{upper}_CLASSES], workspace[{upper}_WORKSPACE];\n"
        f"int main(void) {{ {prefix}_probabilities(row, p, workspace); return 0; }}"
    )


def _torch(part: Mapping[str, Any], shape: list[int], card: Mapping[str, Any]) -> str:
    file = next(iter(part["files"]))
    name = file.rpartition("/")[2].removesuffix(".safetensors")
    scale = f" / {card['temperature']['value']!r}" if card["temperature"]["fitted"] else ""
    return (
        "import pathlib, torch\n"
        "from distill_cli.runs.checkpoint import load_model\n"
        "from distill_cli.tasks.registry import find_task\n"
        f'model, spec = load_model(pathlib.Path("."), "{name}")\n'
        f"x = torch.zeros(1, {', '.join(map(str, shape))})  # your rows\n"
        f"print(find_task(spec.task).probabilities(model(x).logits{scale}))"
    )
