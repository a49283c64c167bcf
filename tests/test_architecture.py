"""The floors of docs/architecture.md, read from the imports, and the words that live in one room."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from plant_bugs import BUGS

PACKAGE = Path(__file__).resolve().parent.parent / "distill_cli"
FLOORS = [
    {"types", "errors", "files", "locks", "rng", "memory", "timing", "packing", "interrupts", "pipes"},
    {"models", "data", "losses", "references", "features", "tasks", "streams", "augment", "mixup", "schedules", "metrics"}
    | {"annealing", "freezing", "gradients", "selection"},
    {"objective", "teachers", "teacher_cache", "batches", "views", "runs", "cost", "verify", "states", "course"},
    {"engine"},
    {"pipeline", "provenance", "config", "reports", "exports", "bench", "pages", "loggers"},
    {"cli", "app", "arguments", "explain", "unfinished", "commands", "__main__"},
]
ROOMS = {
    r"\.backward\(|optimizer\.step\(|scaler\.step\(": {"engine"},
    r"autograd\.grad\(": {"gradients", "verify"},
    r"\binstantiate\(": {"config"},
    r"""open\([^)]*["'][wax]b?["']|(?<!files)\.write_text\(|\.write_bytes\(|save_file\(|\.to_csv\(""": {"files", "locks"},
    r"sys\.exit|SystemExit": {"cli", "app", "__main__"},
    r"torch\.manual_seed|np\.random\.seed|random\.seed": {"rng"},
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("distill_cli"):
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("distill_cli.")}
    known = set().union(*FLOORS)
    return {name for name in found if name in known}


def test_every_module_has_a_floor() -> None:
    unknown = {room(p) for p in MODULES} - set().union(*FLOORS)
    assert not unknown, f"give these a floor in docs/architecture.md and here: {unknown}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    up = {name for name in imports(path) if floor(name) > floor(room(path))}
    assert not up, f"{path.name} is on floor {floor(room(path))} and imports {up}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_some_words_live_in_one_room(path: Path) -> None:
    for pattern, rooms in ROOMS.items():
        if room(path) not in rooms:
            assert not re.search(pattern, path.read_text()), f"{pattern} belongs to {rooms}"


def test_only_the_upper_floors_know_hydra() -> None:
    lower = [p for p in MODULES if floor(room(p)) < 4]
    assert not [p for p in lower if re.search(r"^\s*(import|from) (hydra|omegaconf)", p.read_text(), re.M)]


def test_the_package_imports_where_there_is_no_posix() -> None:
    """What only POSIX has is imported where it is used, and may be missing."""
    posix = re.compile(r"^(import|from) (fcntl|resource|termios|pwd|grp)\b|os\.fork\(|signal\.(SIGHUP|SIGKILL|SIGALRM)", re.M)
    assert not [path for path in MODULES if posix.search(path.read_text())]


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "import pickle" not in text or room(path) == "pipeline"  # the error class alone
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call
        for call in re.findall(r"np\.load\([^)]*\)", text):
            assert "allow_pickle=False" in call, call


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug[0])
def test_a_bug_that_is_planted_has_its_place(bug: tuple[str, ...]) -> None:
    _, name, old, *_ = bug
    assert (PACKAGE / name).read_text().count(old) == 1, "mend the list in plant_bugs.py"
