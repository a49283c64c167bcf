"""What is shipped: the wheel works from any folder, the sdist builds it, and constraints.txt pins all that is installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("*.py", "*.c", "*.html", "*.css", "*.js")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "DISTILL_", "HYDRA_"))}


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(a) for a in argv], cwd=cwd, capture_output=True, text=True, env=CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into, cwd=source)
    return next(into.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs the extra `test`")
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a fresh environment, which borrows its dependencies from this one; return its bin."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    bin_ = folder / "bin"
    site = Path(run(bin_ / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_


def files_of_conf() -> set[str]:
    return {p.relative_to(ROOT).as_posix() for p in (ROOT / "conf").rglob("*.yaml")}


@pytest.mark.slow
def test_the_wheel_holds_the_code_and_every_config_and_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert {n.removeprefix("distill_cli/") for n in names if n.endswith(".yaml")} == files_of_conf()
    code = {p.relative_to(ROOT).as_posix() for kind in KINDS for p in (ROOT / "distill_cli").rglob(kind)}
    assert {n for n in names if not n.endswith(".yaml")} == code


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    again = build("wheel", next((tmp_path / "source").iterdir()), tmp_path / "wheel")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_an_installed_wheel_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", "import distill_cli; print(distill_cli.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)
    assert run(installed / "distill", "--version", cwd=tmp_path) == f"distill {PROJECT_VERSION}\n"
    assert run(installed / "python", "-m", "distill_cli", "--version", cwd=tmp_path) == f"distill {PROJECT_VERSION}\n"
    assert "soft_target" in run(installed / "distill", "ls", "loss", cwd=tmp_path)
    assert "soft_target" in run(installed / "distill", "distill", "--help", cwd=tmp_path)
    assert "\nepochs: 7\n" in run(installed / "distill", "distill", "epochs=7", "--cfg", "job", cwd=tmp_path)
    small = ["experiment=smoke", "dataset.n=600", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20"]
    run(installed / "distill", "distill", *small, "hydra.run.dir=run", cwd=tmp_path)
    assert (tmp_path / "run" / "report.json").is_file()


PROJECT_VERSION = re.search(r'__version__ = "(.*)"', (ROOT / "distill_cli" / "__init__.py").read_text(encoding="utf-8"))[1]  # type: ignore[index]


PINNED_FOR = {"extra": "", "python_version": "3.11", "python_full_version": "3.11.7"}


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()  # type: ignore[index]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert list(found) == sorted(found)
    return found


def declared() -> dict[str, str]:
    """Return every requirement of the core and of all extras, by name."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {name_of(r): r for group in groups for r in group if name_of(r) != PROJECT["name"]}


def test_constraints_pin_every_requirement_to_a_version_that_it_allows() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    for name, requirement in declared().items():
        assert name in pins(), f"{requirement} is not pinned in constraints.txt"
        assert requirements.Requirement(requirement).specifier.contains(pins()[name]), requirement


def test_constraints_pin_what_the_requirements_need_in_turn_and_no_more() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    needed, waiting = set(), set(declared())
    while waiting:
        name = waiting.pop()
        try:
            inner = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
        needed.add(name)
        for text in inner:
            one = requirements.Requirement(text)
            if one.marker is None or one.marker.evaluate(PINNED_FOR):
                waiting |= {name_of(one.name)} - needed
    cuda = {name for name in needed if re.match("nvidia|cuda|triton", name)}  # they come with some builds of torch
    assert needed - set(pins()) - cuda == set()
    assert set(pins()) - needed == set()


def test_the_extra_all_brings_every_extra_that_users_need() -> None:
    extras = PROJECT["optional-dependencies"]
    named = re.fullmatch(r"distill-cli\[(.*)\]", extras["all"][0])
    assert named is not None
    assert set(named[1].split(",")) == set(extras) - {"all", "test", "docs"}
