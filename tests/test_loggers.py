"""Loggers: what each stored is read back and equals metrics.csv."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Ran

from distill_cli.factory.loggers import LoggerCollection
from distill_cli.loggers.logger import unseen
from distill_cli.types import EpochRecord

Distill = Callable[..., Ran]
QUICK = (*TINY, "+loss@terms.match=logits_mse", "terms.match.weight=0.1")


def epochs(folder: Path, model: str) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as f:
        return [row for row in csv.DictReader(f) if row["model"] == model]


def test_tensorboard_holds_what_metrics_csv_holds(distill: Distill) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ran = distill("distill", *QUICK, "logger=[csv,tensorboard]")
    assert ran.code == 0
    assert sorted(p.name for p in (ran.folder / "tensorboard").iterdir()) == ["scratch", "student"]  # the teacher has its own run
    for model in ("student", "scratch"):
        stored = EventAccumulator(str(ran.folder / "tensorboard" / model)).Reload()
        rows = epochs(ran.folder, model)
        for name in ("loss", "lr", "val.macro_f1", "val.nll", *(["term.match"] if model == "student" else [])):
            events = stored.Scalars(name)
            assert [e.step for e in events] == [int(row["step"]) for row in rows] and len(rows) == 2
            assert [e.value for e in events] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)
    teacher = next(Path("outputs/train-teacher").iterdir())
    assert (teacher / "metrics.csv").is_file() and (teacher / "tensorboard" / "teacher").is_dir()


@pytest.mark.slow
def test_mlflow_holds_epochs_settings_and_scores(distill: Distill) -> None:
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package, reason="the extra `mlflow` is not installed")
    from mlflow.tracking import MlflowClient

    ran = distill("distill", *QUICK, "logger=[csv,mlflow]")
    assert ran.code == 0 and "left out" not in ran.err
    client = MlflowClient(tracking_uri=f"sqlite:///{Path('outputs/mlflow/mlflow.db').resolve()}")
    found = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
    mine = next(run for run in found if run.data.tags["distill.folder"] == str(ran.folder.resolve()))
    assert len(found) == 2 and mine.info.status == "FINISHED"  # the teacher's run, and this one
    for model in ("student", "scratch"):
        history = client.get_metric_history(mine.info.run_id, f"{model}.val.macro_f1")
        assert [(m.step, m.value) for m in history] == [
            (int(r["step"]), float(r["val.macro_f1"])) for r in epochs(ran.folder, model)
        ]
    assert mine.data.metrics["student.test.macro_f1"] == ran.report["models"]["student"]["test"]["macro_f1"]
    assert mine.data.params["optimizer.lr"] == "0.01" and mine.data.tags["distill.verdict"] == ran.report["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 1])
def test_a_resumed_run_has_each_epoch_once(steps: int, distill: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from distill_cli.runs.training_checkpoint import CheckpointManager

    class Killed(BaseException):
        pass

    line = ("distill", *QUICK, "controls=[]", "logger=[csv,tensorboard,mlflow]", "logger.mlflow.store=store")
    line = (*line, "epochs=3", "batch_size=500", "save_every=2", "resume=auto")
    save, saved = CheckpointManager.save, [0]

    def saving(self: CheckpointManager, state: Any) -> None:
        save(self, state)
        saved[0] += self.folder.name == "student"
        if saved[0] == steps:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(CheckpointManager, "save", saving)
        distill(*line)
    ran = distill(*line)
    assert ran.code == 0, ran.err
    steps_made = [int(row["step"]) for row in epochs(ran.folder, "student")]
    stored = EventAccumulator(str(ran.folder / "tensorboard" / "student")).Reload()
    assert [event.step for event in stored.Scalars("loss")] == steps_made and len(steps_made) == 3
    client = MlflowClient(tracking_uri=f"sqlite:///{Path('store').resolve() / 'mlflow.db'}")
    histories = [client.get_metric_history(run.info.run_id, "student.loss") for run in client.search_runs(["1"])]
    assert [[metric.step for metric in history] for history in histories if history] == [steps_made]


def test_no_logger_and_wrong_ones(distill: Distill) -> None:
    ran = distill("distill", *TINY, "controls=[]", "logger=[]", "verbosity=quiet")
    assert ran.code == 0 and not (ran.folder / "metrics.csv").exists() and ran.err == ""
    assert "logger=none: no such option; none at all: logger=[] (available: csv, " in distill("distill", "logger=none").err
    said = distill("distill", "logger=[cvs]").err
    assert "logger=cvs: no such option; did you mean 'csv'?" in said
    assert "verbosity=loud: expected quiet or normal or verbose" in distill("distill", "verbosity=loud").err
    assert "log_every_seconds=-1.0: must be >= 0" in distill("distill", "log_every_seconds=-1").err
    assert "logger=3" in distill("distill", "logger=3").err


def test_a_store_that_cannot_be_is_said_before_anything_is_trained(distill: Distill) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    Path("taken").write_text("")
    ran = distill("distill", *TINY, "logger=mlflow", "logger.mlflow.store=taken/x")
    said = f"logger.mlflow.store=taken/x: {Path('taken').absolute()} is no folder that can be written to; choose another"
    assert ran.code == 2 and said in ran.err and not Path("outputs/train-teacher").exists()


def test_a_server_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package, reason="the extra `mlflow` is not installed")
    from distill_cli.loggers.mlflow import MLflow

    said: list[str] = []
    started = time.monotonic()
    LoggerCollection({"mlflow": MLflow(tmp_path, "http://127.0.0.1:9")}, said.append).epoch(record(1))
    assert said[0].startswith("logger.mlflow: ") and said[0].endswith("it is left out from here on")
    assert time.monotonic() - started < 30


def test_a_missing_package_is_said_before_anything_is_trained(distill: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    ran = distill("distill", *TINY, "logger=tensorboard")
    said = "logger=tensorboard: needs the package tensorboard: pip install 'distill-cli[tensorboard]'"
    assert ran.code == 2 and said in ran.err and not Path("outputs/train-teacher").exists()


def record(epoch: int) -> EpochRecord:
    return EpochRecord("student", "train", epoch, epoch, 1.0, 1.0, {}, {}, 1.0, True)


def test_a_logger_that_fails_is_left_out_and_the_others_go_on() -> None:
    class Broken:
        def epoch(self, record: EpochRecord) -> None:
            raise ConnectionError("no server\nthere")

        def finish(self, records: Any, report: Any) -> None:
            raise AssertionError

    class Kept(Broken):
        def __init__(self) -> None:
            self.got: list[int] = []

        def epoch(self, record: EpochRecord) -> None:
            self.got.append(record.epoch)

        def finish(self, records: Any, report: Any) -> None:
            self.got += [r.epoch for r in unseen(records, {("student", n) for n in self.got})]

    said: list[str] = []
    kept = Kept()
    loggers = LoggerCollection({"far": Broken(), "kept": kept}, said.append)
    loggers.epoch(record(2))
    loggers.finish([record(1), record(2)], {})
    assert kept.got == [2, 1] and said == ["logger.far: no server there; it is left out from here on"]
