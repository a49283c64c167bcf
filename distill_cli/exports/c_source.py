"""Operations as C99 text: one header and one source file.

The code allocates nothing and keeps no state between calls.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from distill_cli.exports.memory_plan import BufferPlan, places
from distill_cli.exports.operations import Operation, Plan, rounded

KERNELS = Path(__file__).parent / "kernels"
NUMBERS_A_LINE, FIELDS_A_LINE = 12, 5
WINDOW = ("kernel_height", "kernel_width", "stride_height", "stride_width", "padding_height", "padding_width")
SIZES = ("height", "width", "out_height", "out_width")
SHAPES = {
    "conv": ("channels", "filters", "groups", *SIZES, *WINDOW, "dilation_height", "dilation_width"),
    "max_pool": ("channels", *SIZES, *WINDOW),
    "mean_pool": ("channels", *SIZES, *WINDOW),
}
STRUCTS = {"conv": "conv_shape", "max_pool": "pool_shape", "mean_pool": "pool_shape"}


def identifier(name: str) -> str:
    """Return a name as a C identifier."""
    spelled = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return spelled if re.match(r"[A-Za-z]", spelled) else f"model_{spelled}"


def header(name: str, plan: Plan, class_names: Sequence[str], about: str, feature_names: Sequence[str] = ()) -> str:
    """Return the header: sizes, class names, two functions.

    Args:
        name: name of the files.
        plan: operations of the network.
        class_names: C names in class order.
        about: text of the first comment.
        feature_names: names of a row's values, for a comment; empty: none.
    """
    prefix, upper = identifier(name), identifier(name).upper()
    logits = prod(plan.operations[-1].shape)
    return f"""\
/* {comment(about)}
 *
 * C99, no allocation; may be called from several threads, each with a workspace of its own.
 * Link with -lm. Define {upper}_INT8 when compiling {name}.c for weights of one byte each.
 */
#ifndef {upper}_H
#define {upper}_H

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_INPUTS {prod(plan.input_shape)}
#define {upper}_CLASSES {logits}
#define {upper}_WORKSPACE {max(1, places(plan).size)} /* floats */

extern const char *const {prefix}_class_names[{upper}_CLASSES]; /* {len(class_names)} of them, in UTF-8 */

/* input [{upper}_INPUTS], a row as the data set has it -> logits [{upper}_CLASSES]; workspace [{upper}_WORKSPACE] is scratch.\
{_named(feature_names)} */
void {prefix}_logits(const float *input, float *logits, float *workspace);

/* The same, as probabilities that sum to 1. */
void {prefix}_probabilities(const float *input, float *probabilities, float *workspace);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _named(feature_names: Sequence[str]) -> str:
    names = textwrap.fill(", ".join(map(comment, feature_names)), 110, initial_indent=" *   ", subsequent_indent=" *   ")
    return f"\n * The values of a row, in order:\n{names}\n" if feature_names else ""


def source(name: str, plan: Plan, class_names: Sequence[str], about: str, temperature: float) -> str:
    """Return the source file, with only the kernels that the network needs.

    Args:
        name: name of the files.
        plan: operations of the network.
        class_names: C names in class order.
        about: text of the first comment.
        temperature: T > 0 of the probabilities.
    """
    prefix, upper = identifier(name), identifier(name).upper()
    kinds = [kind for kind in dict.fromkeys(op.kind for op in plan.operations) if kind != "reshape"]
    weighted = any(op.weight is not None for op in plan.operations)
    parts = [f'/* {comment(about)} */\n#include "{name}.h"\n\n#include <math.h>']
    parts[0] += "\n#include <float.h>" if "max_pool" in kinds else ""
    parts[0] += "\n#include <stdint.h>" if weighted else ""
    if weighted:
        parts.append(
            f"#ifdef {upper}_INT8\ntypedef int8_t weight;\n#define SCALED(sum, scale, f) ((sum) * (scale)[f])\n"
            "#define SCALES(name) (name)\n#else\ntypedef float weight;\n#define SCALED(sum, scale, f) (sum)\n"
            "#define SCALES(name) ((const float *)0)\n#endif"
        )
    parts += [struct(kind) for kind in dict.fromkeys(STRUCTS[k] for k in kinds if k in STRUCTS)]
    parts += [(KERNELS / f"{kind}.c").read_text(encoding="utf-8").rstrip() for kind in kinds]
    parts += [text for n, op in enumerate(plan.operations) if (text := numbers(n, op, plan, upper))]
    names = ", ".join(string(name) for name in class_names)
    parts.append(f"const char *const {prefix}_class_names[{upper}_CLASSES] = {{{names}}};")
    parts.append(body(prefix, plan))
    parts.append(softmax(prefix, upper, temperature))
    return "\n\n".join(parts) + "\n"


def struct(name: str) -> str:
    """Return the declaration of a structure that kernels take."""
    fields = SHAPES["conv" if name == "conv_shape" else "max_pool"]
    lines = ["    int " + ", ".join(fields[i : i + FIELDS_A_LINE]) + ";" for i in range(0, len(fields), FIELDS_A_LINE)]
    return "\n".join(["typedef struct {", *lines, f"}} {name};"])


def numbers(n: int, op: Operation, plan: Plan, upper: str) -> str:
    """Return the arrays and sizes of one operation, in fp32 and in int8."""
    lines = []
    if op.weight is not None:
        whole, scale = rounded(op.weight)
        lines += [
            f"#ifdef {upper}_INT8", array("weight", f"w{n}", whole), array("float", f"s{n}", scale),
            "#else", array("weight", f"w{n}", op.weight), "#endif",
        ]  # fmt: skip
    lines += [array("float", f"{key}{n}", values) for key, values in op.arrays.items()]
    if op.kind in SHAPES:
        channels, height, width = plan.shape(op.inputs[0])
        known = {
            **op.settings, "channels": channels, "filters": op.shape[0], "height": height, "width": width,
            "out_height": op.shape[1], "out_width": op.shape[2],
        }  # fmt: skip
        values = ", ".join(str(known[key]) for key in SHAPES[op.kind])
        lines.append(f"static const {STRUCTS[op.kind]} shape{n} = {{{values}}};")
    return "\n".join([f"/* {comment(op.layer)} */", *lines]) if lines else ""


def array(kind: str, name: str, values: np.ndarray) -> str:
    """Return the definition of one constant array."""
    flat = [str(v) for v in values.ravel()] if values.dtype == np.int8 else [real(v) for v in values.ravel()]
    lines = [", ".join(flat[i : i + NUMBERS_A_LINE]) for i in range(0, len(flat), NUMBERS_A_LINE)]
    inner = ",\n    ".join(lines)
    return f"static const {kind} {name}[{len(flat)}] = {{\n    {inner}}};"


def real(value: float) -> str:
    """Return a float literal that C reads back to the same bits."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def body(prefix: str, plan: Plan) -> str:
    """Return the function from a row to its logits."""
    where = places(plan)
    lines = [f"void {prefix}_logits(const float *input, float *logits, float *workspace)", "{"]
    if not where.size:
        lines.append("    (void)workspace;")
    for n, op in enumerate(plan.operations):
        if op.kind != "reshape":
            lines.append(f"    {call(n, op, plan, where)}; /* {comment(op.layer)} */")
    return "\n".join([*lines, "}"])


def call(n: int, op: Operation, plan: Plan, where: BufferPlan) -> str:
    """Return the call of one operation's kernel."""
    x, y = place(op.inputs[0], where), place(op.output, where)
    count, (channels, height, width) = prod(op.shape), op.shape
    if op.kind in ("conv", "linear"):
        sizes = f"&shape{n}" if op.kind == "conv" else f"{prod(plan.shape(op.inputs[0]))}, {count}"
        return f"{op.kind}({x}, {y}, w{n}, SCALES(s{n}), bias{n}, {sizes})"
    if op.kind in SHAPES:
        return f"{op.kind}({x}, {y}, &shape{n})"
    if op.kind == "add":
        return f"add({x}, {place(op.inputs[1], where)}, {y}, {count})"
    if op.kind == "scale":
        return f"scale_and_shift({x}, {y}, factor{n}, bias{n}, {channels}, {height * width})"
    if op.kind == "standardise":
        statistics = op.arrays["mean"].size
        return f"standardise({x}, {y}, mean{n}, std{n}, {statistics}, {count // statistics})"
    return f"relu({x}, {y}, {count})"


def place(value: int, where: BufferPlan) -> str:
    """Return the C expression of a value's memory."""
    owner = where.owner[value]
    if owner == 0:
        return "input"
    if owner == where.logits:
        return "logits"
    return f"workspace + {where.offset[owner]}" if where.offset[owner] else "workspace"


def softmax(prefix: str, upper: str, temperature: float) -> str:
    """Return the function from a row to its probabilities."""
    return f"""\
void {prefix}_probabilities(const float *input, float *probabilities, float *workspace)
{{
    float most, sum = 0.0f;
    int c;
    {prefix}_logits(input, probabilities, workspace);
    most = probabilities[0];
    for (c = 1; c < {upper}_CLASSES; c++) {{
        most = probabilities[c] > most ? probabilities[c] : most;
    }}
    for (c = 0; c < {upper}_CLASSES; c++) {{
        probabilities[c] = expf((probabilities[c] - most) / {real(temperature)});
        sum += probabilities[c];
    }}
    for (c = 0; c < {upper}_CLASSES; c++) {{
        probabilities[c] /= sum;
    }}
}}"""


def comment(text: str) -> str:
    """Return text on one line that cannot end a C comment."""
    plain = " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")
    return plain.encode("ascii", "replace").decode().replace("??", "? ?").rstrip("\\")


def string(text: str) -> str:
    """Return the C string literal of a text's UTF-8 bytes."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'
