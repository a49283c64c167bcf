"""The floors of docs/architecture.md, read from the imports, and the words that live in one room.

`python -m tests.test_architecture` prints rooms, floors and arrows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    from plant_bugs import BUGS
except ModuleNotFoundError:  # printed as a module from the repository's root, where tests/ is not on the path
    from tests.plant_bugs import BUGS

PACKAGE = Path(__file__).resolve().parent.parent / "distill_cli"
# Lowest first. A room imports rooms of lower floors only; rooms of one floor do not import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "types", "rng"),
    ("utils",),
    ("features", "metrics"),
    ("models", "tasks"),
    ("data", "losses"),
    ("config",),
    ("reports",),
    ("loggers", "runs", "verify"),
    ("factory", "profiling"),
    ("exports", "inference"),
    ("training",),
    ("teachers",),
    ("pipeline",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LOOSE = {"types", "errors", "rng", "__main__", "__init__"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
WORDS = {
    r"\.backward\(|optimizer\.step\(|scaler\.step\(": {"training/trainer.py"},
    r"autograd\.grad\(": {"training/gradient_stats.py", "verify"},
    r"\binstantiate\(": {"config"},
    r"""open\([^)]*["'][wax]b?["']|(?<!files)\.write_text\(|\.write_bytes\(|save_file\(|\.to_csv\(""": {"utils"},
    r"sys\.exit|SystemExit": {"cli", "__main__.py"},
    r"torch\.manual_seed|np\.random\.seed|random\.seed": {"rng.py"},
    r"^\s*(import|from) (hydra|omegaconf)": {"config", "cli"},
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "distill_cli":
            parts = (node.module or "").split(".")[1:]
            yield from parts[:1] or [alias.name for alias in node.names if alias.name in FLOOR]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("distill_cli."))


def arrows() -> dict[tuple[str, str], int]:
    """Return how many modules of a room import another room."""
    counts: dict[tuple[str, str], int] = {}
    for path in MODULES:
        for target in {name for name in imported_rooms(path) if name != room(path)}:
            counts[room(path), target] = counts.get((room(path), target), 0) + 1
    return counts


def upward() -> list[tuple[str, str]]:
    return [arrow for arrow in arrows() if FLOOR[arrow[1]] >= FLOOR[arrow[0]]]


def circles() -> list[list[str]]:
    """Return circles among the modules themselves, imports inside functions included."""
    names = {".".join(("distill_cli", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in MODULES}
    graph = {name: module_imports(path, names) - {name} for name, path in names.items()}
    return [sorted(part) for part in components(graph) if len(part) > 1]


def module_imports(path: Path, names: dict[str, Path]) -> set[str]:
    targets = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            targets |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return targets & set(names)


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components of a graph (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    parts: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            parts.append(set(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return parts


def test_every_room_has_a_floor_and_few_modules_lie_loose() -> None:
    unknown = {room(p) for p in MODULES} - set(FLOOR)
    assert not unknown, f"give these a floor in docs/architecture.md and here: {unknown}"
    assert {p.stem for p in PACKAGE.glob("*.py")} <= LOOSE


def test_imports_run_downward() -> None:
    assert not upward(), f"these rooms import a room that is not below them: {upward()}"


def test_modules_import_in_no_circle() -> None:
    assert not circles()


def test_the_check_of_circles_sees_one() -> None:
    assert [sorted(part) for part in components({"a": {"b"}, "b": {"a"}, "c": {"a"}}) if len(part) > 1] == [["a", "b"]]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_some_words_live_in_one_room(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for pattern, places in WORDS.items():
        if place not in places and place.split("/")[0] not in places:
            assert not re.search(pattern, path.read_text(), re.M), f"{pattern} belongs to {places}"


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "import pickle" not in text or path.name in ("weight_files.py", "workers.py")  # the error class alone
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call
        for call in re.findall(r"np\.load\(.*\)", text):
            assert "allow_pickle=False" in call, call


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug[0])
def test_a_bug_that_is_planted_has_its_place(bug: tuple[str, ...]) -> None:
    _, name, old, *_ = bug
    assert (PACKAGE / name).read_text().count(old) == 1, "mend the list in plant_bugs.py"


if __name__ == "__main__":
    for number, rooms in reversed(list(enumerate(FLOORS))):
        print(f"floor {number:>2}: {', '.join(rooms)}")
    for (source, target), modules in sorted(arrows().items()):
        print(f"{source} -> {target} ({modules} modules)")
    print(f"{len(FLOOR)} rooms, {len(arrows())} arrows, {len(upward())} upward, {len(circles())} circles")
