"""The pages' JavaScript library: what only saves time never ends a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_cli import files
from distill_cli.pages import library

BUNDLE = "x" * library.SMALLEST


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda text: BUNDLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    library.vega.cache_clear()
    yield
    library.vega.cache_clear()


def test_without_a_home_nothing_is_kept(bundled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # an unknown user id without HOME
    assert library.cache_folder() is None and library.vega() == BUNDLE
    assert not list(tmp_path.iterdir())


def test_a_home_of_somebody_else_is_passed_over(bundled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "below"))
    assert library.vega() == BUNDLE

    def refuse(*words: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    library.vega.cache_clear()
    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(files, "remove_left", refuse)
    assert library.vega() == BUNDLE
