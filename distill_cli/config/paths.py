"""Keys that name a file or folder: a path is the text that was typed, with ``~`` and ``$VAR`` expanded. Standard library only."""

from __future__ import annotations

import os
import re

# `null` is a path there; elsewhere it leaves the key out.
ALWAYS = r"outputs|sweep|run|input|runtime_path|cache\.folder|hydra\.(?:run|sweep)\.dir|hydra\.sweep\.subdir"
OPTIONAL = (
    r"output|onnx|resume|tuned_from|teacher\.(?:run|weights|logits_file)|logger\.\w+\.store"
    r"|dataset\.(?:unlabeled|(?:unlabeled\.)?(?:path|train|val|test|cache))|(?:\w+\.)+(?:\w+_)?(?:file|folder|path|root|dir)"
)
# What Hydra reads as a number, a truth value or nothing, and signs that it reads only between quotation marks.
NOT_TEXT = r"(?i)[+-]?(?:[\d_]+\.?[\d_]*|\.[\d_]+)(?:e[+-]?[\d_]+)?|[+-]?(?:inf|nan)|true|false|null"
PLAIN = r"[\w/\-+.$%*@?|:\\ ]*"
FUNCTIONS = r"(?:choice|range|interval|glob|shuffle|sort|tag|extend_list|int|float|str|bool|json_str)\(.*\)"
VARIABLE = re.compile(r"\$(\w+)|\$\{([A-Z_][A-Z0-9_]*)\}")


def is_path(key: str) -> bool:
    """Return whether a dotted key names a file or folder, or several.

    >>> is_path("dataset.path"), is_path("hydra.run.dir"), is_path("dataset.label")
    (True, True, False)
    """
    return re.fullmatch(f"{ALWAYS}|{OPTIONAL}", key) is not None


def expanded(path: str) -> str:
    """Return a path with a leading ``~`` and every ``$VAR`` expanded that is set; what is not set stays as it is."""
    found = VARIABLE.sub(lambda m: os.environ.get(m[1] or m[2], m[0]), str(path))
    return os.path.expanduser(found)


def as_typed(key: str, value: str) -> str:
    """Return the value of such a key so that Hydra reads the text that was typed: each of several, where there are several.

    Args:
        key: dotted, without ``+``.
        value: as the shell handed it on; quotation marks, dictionaries and Hydra's functions stay as they are.

    >>> as_typed("outputs", "1_000"), as_typed("outputs", "runs/a"), as_typed("tuned_from", "null")
    ('"1_000"', 'runs/a', 'null')
    """
    whole = re.fullmatch(r"\[([^][{}()\"']*)\]", value)
    if whole:
        return f"[{','.join(_one(key, part.strip()) for part in whole[1].split(','))}]"
    if value[:1] in tuple("[{\"'") or re.fullmatch(FUNCTIONS, value, re.S):
        return value
    return ",".join(_one(key, part) for part in value.split(","))


def _one(key: str, value: str) -> str:
    text = expanded(value)
    if "${" in text or not text or (text == "null" and not re.fullmatch(ALWAYS, key)):
        return text
    if re.fullmatch(PLAIN, text, re.A) and not re.fullmatch(NOT_TEXT, text) and text == text.strip():
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}\\"' if text.endswith("\\") else f'"{escaped}"'
