"""Which run `run=FOLDER` stands for, and that everything made of it names it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Ran

Distill = Callable[..., Ran]
SWEEP = Path("outputs/sweeps/s")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose second job, the newer one, is the worse one; made once."""
    import sys

    from hydra.core.global_hydra import GlobalHydra

    from distill_cli.cli.main import main

    place = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "path", list(sys.path))
        GlobalHydra.instance().clear()
        words = ["distill", *(word for word in TINY if word != "epochs=2"), "sweep=s", "-m", "epochs=6,1"]
        patch.setattr(sys, "argv", ["distill", *words])
        assert main() == 0
    return place


@pytest.fixture
def jobs(swept: Path, distill: Distill) -> list[Path]:
    """Its run folders in a copy, the better one first."""
    shutil.copytree(swept / "outputs", "outputs")
    reports = {path.parent: json.loads(path.read_text()) for path in SWEEP.glob("*/report.json")}
    return sorted(reports, key=lambda folder: -reports[folder]["models"]["student"]["val"]["macro_f1"])


@pytest.mark.parametrize(
    "line",
    [
        "eval run=PLACE",
        "eval run=outputs",
        "bench run=PLACE",
        "export run=PLACE output=o",
        "predict run=PLACE input=x.npy",
        "distill device=cpu teacher.run=PLACE",
        "layers teacher.run=PLACE",
    ],
)
def test_a_sweep_is_no_run(distill: Distill, jobs: list[Path], line: str) -> None:
    ran = distill(*line.replace("PLACE", str(SWEEP)).split())
    key = "teacher.run" if "teacher" in line else "run"
    assert ran.code == 2 and ran.err.count("\n") == 1, ran.err
    assert f"error: {key}=outputs" in ran.err and "a sweep" in ran.err
    assert f"choose {key}={SWEEP}/best (first by validation), or one run's folder, such as {key}={SWEEP}/" in ran.err
    assert not Path("o").exists()


def test_the_best_of_a_sweep_is_first_by_validation_and_named_wherever_it_goes(distill: Distill, jobs: list[Path]) -> None:
    ran = distill("export", f"run={SWEEP}/best", "output=o")
    assert ran.code == 0, ran.err
    assert ran.err.startswith(f"run={SWEEP}/best: {jobs[0]}, first by validation macro F1 of 2 runs (epochs=6, seed 0)\n")
    assert ran.out.startswith(f"run {jobs[0]}, seed 0\n")
    assert f"- Run: {jobs[0]}, seed 0\n" in Path("o/README.md").read_text()
    card = json.loads(Path("o/card.json").read_text())
    assert (card["run"], card["seed"]) == (str(jobs[0]), 0)
    ran = distill("eval", f"run={SWEEP}/best", "report.html=false")
    assert ran.out.startswith(f"run {jobs[0]}, seed 0\n") and ran.report["source_run"] == str(jobs[0])
    taught = distill("distill", *TINY, "controls=[]", f"teacher.run={SWEEP}/best", "teacher.run_model=student")
    assert taught.report["teacher_source"] == f"run {jobs[0]}"


def test_a_sweeper_that_leaves_no_mark_of_its_own_makes_a_sweep_as_well(distill: Distill, jobs: list[Path]) -> None:
    (SWEEP / "multirun.yaml").unlink()
    assert "is a sweep" in distill("eval", f"run={SWEEP}").err
    shutil.copytree(jobs[1], "elsewhere/one")  # a job's folder alone is a run like any other
    assert distill("eval", "run=elsewhere", "report.html=false").report["source_run"] == "elsewhere/one"


def test_of_single_runs_the_newest_counts_and_is_named_first(distill: Distill, jobs: list[Path]) -> None:
    ran = distill("eval", "run=outputs/train-teacher", "report.html=false")
    (run,) = Path("outputs/train-teacher").iterdir()
    assert ran.err.startswith(f"run=outputs/train-teacher: {run}, the newest run in it\n")
    assert ran.out.startswith(f"run {run}, seed 0\n")


def test_tables_name_the_folders_of_runs(distill: Distill, jobs: list[Path]) -> None:
    ran = distill("report", str(SWEEP))
    for rank, (line, job) in enumerate(zip(ran.out.splitlines()[1:3], jobs, strict=True)):
        assert line.endswith(job.name)
        row = list(csv.DictReader((SWEEP / "results.csv").open()))[rank]
        assert row["folders"] == str(job)
        assert f"| {job.name} |" in (SWEEP / "results.md").read_text()
    assert f'<a href="{jobs[0].name}" title="seed 0">0</a>' in (SWEEP / "report.html").read_text()
