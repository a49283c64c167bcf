"""MLflow logger, with one MLflow run for each run."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.errors import UserError
from distill_cli.loggers.logger import numbers, unseen
from distill_cli.tasks.registry import report_task
from distill_cli.types import EpochRecord
from distill_cli.utils import files, locks

TAG = "distill.folder"
LONGEST_VALUE = 500  # characters of a setting
AT_ONCE = 100  # settings in one call
# With MLflow's own settings, training waits many minutes for a server that does not answer.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MLflow:
    """Logger of ``MODEL.NAME`` in MLflow as epochs end.

    At the end settings, test scores and the verdict are logged.

    A resumed run continues its own MLflow run, identified by the tag ``distill.folder``.

    Args:
        folder: the run folder.
        store: a folder, where ``mlflow.db`` is created, or the address of a server.
        experiment: name of the MLflow experiment.

    Raises:
        UserError: the packages are missing, or the folder cannot be made.
    """

    def __init__(self, folder: Path, store: str, experiment: str = "distill") -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run reports nothing to third parties
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            import alembic  # noqa: F401
            import mlflow.tracking  # noqa: F401
            import sqlalchemy  # noqa: F401
        except ImportError as e:
            raise UserError(f"logger=mlflow: needs the package {e.name}: pip install 'distill-cli[mlflow]'") from None
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # hides the log of the database's creation
        if "://" not in store:
            _refuse_unwritable(Path(store))
        self.folder, self.store, self.experiment = folder, store, experiment
        self.client: Any = None
        self.run = ""
        self.seen: set[tuple[str, int]] = set()
        self.resumed = False
        self.before: dict[str, set[int]] = {}  # steps that an earlier process has logged, by model

    def epoch(self, record: EpochRecord) -> None:
        """Log an epoch's numbers at its last step."""
        from mlflow.entities import Metric

        self._open()
        self.seen.add((record.model, record.epoch))
        if record.step in self._logged(record.model):
            return
        now = round(1000 * time.time())
        values = {_name(f"{record.model}.{name}"): value for name, value in numbers(record).items()}
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, record.step) for name, value in values.items()])

    def finish(self, records: Sequence[EpochRecord], report: Mapping[str, Any]) -> None:
        """Log the remaining epochs, the settings, scores and verdict, and end the run.

        The remaining epochs are those of an earlier process.
        """
        from mlflow.entities import Param

        for record in unseen(records, self.seen):
            self.epoch(record)
        self._open()
        settings = [Param(_name(key), str(value)[:LONGEST_VALUE]) for key, value in _leaves("", report.get("config") or {})]
        for start in range(0, len(settings), AT_ONCE):
            self.client.log_batch(self.run, params=settings[start : start + AT_ONCE])
        for model, figures in report.get("models", {}).items():
            for name in [metric.name for metric in report_task(report).metrics[:2]]:
                if (value := figures.get("test", {}).get(name)) is not None:
                    self.client.log_metric(self.run, _name(f"{model}.test.{name}"), value)
        self.client.set_tag(self.run, "distill.verdict", str(report.get("verdict")))
        self.client.set_terminated(self.run)

    def _logged(self, model: str) -> set[int]:
        """Return the steps of a model's epochs that an earlier process has logged."""
        if self.resumed and model not in self.before:
            history = self.client.get_metric_history(self.run, _name(f"{model}.loss"))
            self.before[model] = {metric.step for metric in history}
        return self.before.get(model, set())

    def _open(self) -> None:
        """Open this run in the experiment, and create both where missing, once."""
        if self.client is not None:
            return
        from mlflow.tracking import MlflowClient

        remote, place, address = "://" in self.store, None, self.store
        lock: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if not remote:
            folder = files.make_folder(self.store).resolve()
            place, address = (folder / "artifacts").as_uri(), f"sqlite:///{folder / 'mlflow.db'}"
            lock = locks.file_lock(folder / ".lock")  # the jobs of a sweep create the database once
        with lock:
            client = MlflowClient(tracking_uri=address)
            existing = client.get_experiment_by_name(self.experiment)
            number = existing.experiment_id if existing else client.create_experiment(self.experiment, artifact_location=place)
        here = str(self.folder.resolve())
        running = client.search_runs([number], "attributes.status = 'RUNNING'")
        own = [run for run in running if run.data.tags.get(TAG) == here]
        run = own[0] if own else client.create_run(number, run_name=self.folder.name, tags={TAG: here})
        self.client, self.run, self.resumed = client, run.info.run_id, bool(own)


def _refuse_unwritable(store: Path) -> None:
    there = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"logger.mlflow.store={store}: {there} is no folder that can be written to; choose another")


def _name(text: str) -> str:
    """Return a name with the characters that MLflow accepts."""
    return re.sub(r"[^\w\-./ ]", "_", text)


def _leaves(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of each setting.

    Lists are values.
    """
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(f"{path}.{key}".lstrip("."), value)
    else:
        yield path, node
