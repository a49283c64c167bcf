"""Names and docstrings keep the rules of the house: short first lines, documented names that exist, no private words."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "distill_cli"
LONGEST_FIRST_LINE = 80
PRIVATE_WORDS = ("told", "said", "heard", "taught", "begun", "beside", "foreign", "stand_still", "go_on", "litter", "word")
PRIVATE_WORDS += ("blamed", "stumbled", "lent")
VAGUE_NAMES = {"found", "wanted", "kept", "given", "drawn", "one", "other"}  # nouns say what a variable holds

# Rooms that may break the rules: first lines (20 in all at most), entries, names.
ALLOWED: dict[str, tuple[int, int, int]] = {"losses": (1, 0, 0), "reports": (4, 0, 0), "tasks": (9, 0, 0), "verify": (2, 0, 0)}
DONE = (0, 0, 0)

MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
CLASSES = {node.name: node for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def documented(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text


def entries(text: str) -> list[str]:
    """Return the names that the sections Args and Attributes describe."""
    names: list[str] = []
    for section in re.findall(r"^(?:Args|Attributes):\n((?:[ ]{4}.*\n?)+)", text, re.MULTILINE):
        for entry in re.findall(r"^[ ]{4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", section, re.MULTILINE):
            names += [name.strip("* ") for name in entry.split(",")]
    return names


def arguments(function: ast.FunctionDef) -> set[str]:
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


def members(node: ast.ClassDef) -> set[str]:
    """Return fields, properties, constructor arguments and attributes of a class and of the bases in the package."""
    names = set().union(*(members(CLASSES[base.id]) for base in node.bases if isinstance(base, ast.Name) and base.id in CLASSES))
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            names |= {part.name} | (arguments(part) if part.name == "__init__" else set())
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self":
            names.add(part.attr)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
    return names


def identifiers(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def long_first_lines(tree: ast.Module) -> list[str]:
    lines = [text.splitlines()[0] for _, text in documented(tree)]
    return [line for line in lines if len(line) > LONGEST_FIRST_LINE or ";" in line]


def unknown_entries(tree: ast.Module) -> list[str]:
    unknown = []
    for node, text in documented(tree):
        if not isinstance(node, ast.Module):
            known = arguments(node) if isinstance(node, ast.FunctionDef) else members(node)
            unknown += [f"{node.name}: {name}" for name in entries(text) if name not in known]
    return unknown


def names_to_change(tree: ast.Module) -> list[str]:
    private = re.compile(f"_({'|'.join(PRIVATE_WORDS)})_")
    return sorted(name for name in identifiers(tree) if name in VAGUE_NAMES or private.search(f"_{name.lower()}_"))


def test_first_lines_are_short_documented_names_exist_and_names_are_nouns() -> None:
    checks = (long_first_lines, unknown_entries, names_to_change)
    counts = {check.__name__: Counter[str]() for check in checks}
    faults: dict[tuple[str, str], list[str]] = {}
    for path, tree in MODULES.items():
        for check in checks:
            lines = [f"{path.relative_to(ROOT)}: {line}" for line in check(tree)]
            counts[check.__name__][room(path)] += len(lines)
            faults.setdefault((check.__name__, room(path)), []).extend(lines)
    too_many = [
        f"{place}: {check.__name__} {counts[check.__name__][place]}, allowed {allowed}: {faults[check.__name__, place]}"
        for place in sorted({room(path) for path in MODULES})
        for check, allowed in zip(checks, ALLOWED.get(place, DONE), strict=True)
        if counts[check.__name__][place] > allowed
    ]
    assert not too_many, "\n".join(too_many)


if __name__ == "__main__":
    for name in sorted({room(path) for path in MODULES}):
        trees = [tree for path, tree in MODULES.items() if room(path) == name]
        numbers = tuple(sum(len(check(tree)) for tree in trees) for check in (long_first_lines, unknown_entries, names_to_change))
        if any(numbers):
            print(f'    "{name}": {numbers},')
