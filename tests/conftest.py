"""What all tests share."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_cli.types import Batch, Pool

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="distill-state-")  # no test leaves a key in a user's own
torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, or a skip with the reason."""
    folder = os.environ.get("DISTILL_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set DISTILL_TEST_DATA to a folder with mitdb/ and mnist/")
    return Path(folder)


def make_pool(rows: int = 60, classes: int = 3, shape: tuple[int, ...] = (4,), seed: int = 0) -> Pool:
    """Rows with a class that their first feature shows."""
    draw = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = draw.normal(size=(rows, *shape)).astype(np.float32)
    x.reshape(rows, -1)[:, 0] += 3 * y
    return Pool(x, np.arange(rows), y, 1000 + np.arange(rows))


def make_batch(rows: int = 6, classes: int = 3, seed: int = 0) -> Batch:
    """A batch with one-hot targets, all labelled."""
    draw = torch.Generator().manual_seed(seed)
    target = torch.eye(classes)[torch.arange(rows) % classes]
    return Batch(torch.randn(rows, 4, generator=draw), target, torch.arange(rows), torch.ones(rows))


@dataclass
class Ran:
    """What a command line left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run folder that it named last."""
        return Path(re.findall(r"run folder: (.+)", self.out)[-1])

    @property
    def report(self) -> dict[str, Any]:
        """The report in that folder."""
        return json.loads((self.folder / "report.json").read_text())


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Hydra compose a line once: it does so twice, the first time only to look for `hydra.mode`, which our config does not set.

    A third of the time of a line. Lines in a process of their own, and those that could set it, are composed twice, as ever.
    """
    from hydra._internal.hydra import Hydra

    look = Hydra.get_mode

    def get_mode(self: Any, config_name: str | None, overrides: list[str]) -> Any:
        may_be_set = "--config-dir" in sys.argv or any("mode" in word for word in overrides)
        return look(self, config_name, overrides) if may_be_set else None

    monkeypatch.setattr(Hydra, "get_mode", get_mode)


@pytest.fixture
def distill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ran:
        from hydra.core.global_hydra import GlobalHydra

        from distill_cli.cli.main import main

        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["distill", *words])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            code = main()
        except SystemExit as e:
            code = int(e.code or 0)
        printed = capfd.readouterr()
        return Ran(code, printed.out, printed.err)

    return run


TINY = (
    "device=cpu", "epochs=2", "teacher.epochs=2", "bootstrap.resamples=50", "teacher.model.hidden=[16]", "student.model.hidden=[8]",
    "report.html=false", "optimizer.lr=0.01", "teacher.optimizer.lr=0.01",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium as Playwright's `Browser`, or a skip with the reason."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("browser tests: there is no chromium here; apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the digits, made once."""
    place = tmp_path_factory.mktemp("run")
    root = Path(__file__).resolve().parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    line = [
        sys.executable,
        "-m",
        "distill_cli",
        "distill",
        *TINY,
        "student.preprocessing=standardize",
        "controls=[]",
        "hydra.run.dir=run",
    ]
    done = subprocess.run(line, cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.fixture
def run(exported_run: Path, distill: Callable[..., Ran]) -> Path:
    """A copy of that run in the folder where the command line runs."""
    shutil.copytree(exported_run, "run")
    return Path("run")


class Seen:
    """A page in the browser, and what happened on it."""

    def __init__(self, browser: Any, page: Path, **context: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**context).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(page.as_uri())
        self.page.wait_for_selector("html[data-drawn=yes]")
