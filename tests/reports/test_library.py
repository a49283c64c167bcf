"""The pages' JavaScript library: what only saves time never ends a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_cli.reports.html import vega
from distill_cli.utils import files

BUNDLE = "x" * vega.SMALLEST


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda text: BUNDLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    vega.vega.cache_clear()
    yield
    vega.vega.cache_clear()


def test_without_a_home_nothing_is_kept(bundled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # an unknown user id without HOME
    assert vega.cache_folder() is None and vega.vega() == BUNDLE
    assert not list(tmp_path.iterdir())


def test_a_home_of_somebody_else_is_passed_over(bundled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "below"))
    assert vega.vega() == BUNDLE

    def refuse(*words: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    vega.vega.cache_clear()
    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(files, "remove_stale_temporaries", refuse)
    assert vega.vega() == BUNDLE
