"""The reference pages are what help texts, config files and docstrings say; pages name files that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from test_architecture import FLOORS

ROOT = Path(__file__).resolve().parent.parent


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert not {page for page in pages if page not in navigation}


def test_the_page_of_the_architecture_names_the_floors_and_files_that_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [(int(floor), room) for floor, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M)]
    assert sorted(rows) == sorted((floor, room) for floor, rooms in enumerate(FLOORS) for room in rooms)
    assert [floor for floor, _ in rows] == sorted((floor for floor, _ in rows), reverse=True)
    paths = {path for path in re.findall(r"`([\w/]+/\w+\.py)`", text) if "NAME" not in path}
    assert len(paths) >= 30
    assert not {path for path in paths if not any((base / path).exists() for base in (ROOT, ROOT / "distill_cli"))}


def test_pages_name_files_of_the_code_that_there_are() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    bases = (ROOT, ROOT / "distill_cli", ROOT / "distill_cli" / "config")
    for page in pages:
        for path in re.findall(r"`([\w./]+/\w+\.py)`", page.read_text(encoding="utf-8")):
            assert path.endswith("NAME.py") or any((base / path).exists() for base in bases), f"{page.name}: {path}"
