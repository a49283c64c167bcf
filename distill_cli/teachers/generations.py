"""Generations between teacher and student: each link's student teaches the next.

Teacher assistants (Mirzadeh et al. 2019, arXiv:1902.03393) shrink from link to link; born-again networks (Furlanello et al. 2018,
arXiv:1805.04770) keep the teacher's architecture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from distill_cli import RECIPE_VERSION
from distill_cli.config.settings.dataset import SELECTION_KEYS
from distill_cli.config.settings.run import GenerationSettings, RunSettings
from distill_cli.config.settings.runtime import RUNTIME_KEYS
from distill_cli.config.trust import targets_in
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import TransferSet
from distill_cli.runs import layout
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.registry import find_or_create
from distill_cli.teachers.train import ResolvedTeacher, load_from_run
from distill_cli.types import STUDENT, TEACHER, Dataset
from distill_cli.utils import files

FOLDER = "generations"
KEY = "link_key"
# What cannot move a generation's weights, or is in its key in another form.
NOT_IN_KEY = (
    *RUNTIME_KEYS, "sweep", "require", "optimized_metric", "health", "dataset", "teacher", "controls", "cache", "logger",
)  # fmt: skip
FIGURES = ("parameters", "train_seconds", "steps")
SHOWN = (*FIGURES, "val", "test")


class TrainStudent(Protocol):
    """Trains a student from a teacher into a run folder, and returns the report."""

    def __call__(
        self,
        settings: RunSettings,
        transfer: TransferSet,
        dataset: Dataset,
        context: RunContext,
        teacher: ResolvedTeacher,
        extra_sections: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Train into ``context.run_dir``.

        `extra_sections` joins the report.
        """
        ...


@contextmanager
def prefix_errors(link: GenerationSettings) -> Iterator[None]:
    """Put a generation's name before what is wrong with it."""
    try:
        yield
    except UserError as e:
        raise link.prefixed(e) from None


def train_generations(
    settings: RunSettings,
    teacher: ResolvedTeacher,
    transfer: TransferSet,
    dataset: Dataset,
    context: RunContext,
    distil: TrainStudent,
) -> tuple[ResolvedTeacher, list[dict[str, Any]]]:
    """Load or train every generation, and return the last as the teacher.

    Also returns what the report says of each.

    Args:
        settings: of the student's run.
        teacher: the teacher at the beginning.
        transfer: the rows of all generations.
        dataset: theirs.
        context: of the student's run.
        distil: trains one generation.
    """
    generations: list[dict[str, Any]] = []
    folder: Path | None = None
    metric = find_task(dataset.task).primary_metric.name
    typed = targets_in(settings.resolved)
    for link in settings.generations:
        if folder is not None:  # so that its run folder says by itself what it learned from
            link = link.with_teacher(folder, STUDENT)
        key = generation_key(link, teacher, transfer, dataset)
        train = partial(_train, link, key, teacher, transfer, dataset, context, distil)
        folder, reused = find_or_create(context, key, KEY, f"generation: {link.name}", train, context.output_dir / FOLDER)
        report = layout.read_json(folder / layout.REPORT)
        if not generations:
            generations.append(generation(TEACHER, teacher.origin, layout.model_metrics(report, TEACHER, SHOWN), metric))
        how = f"link {link.name}, {'found' if reused else 'trained'}"
        teacher = replace(load_from_run(folder, STUDENT, how, typed), key=key)
        generations.append(generation(link.name, teacher.origin, layout.model_metrics(report, STUDENT, SHOWN), metric))
    return teacher, generations


def generation(name: str, source: str, figures: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return the report's part of one generation.

    Args:
        name: ``teacher``, a link's name, or ``student``.
        source: where it came from.
        figures: of its model in a report.
        metric: the task's primary one.
    """
    scores = {split: {metric: (figures.get(split) or {}).get(metric)} for split in ("val", "test")}
    return {"name": name, "source": source, **{key: figures.get(key) for key in FIGURES}, **scores}


def generation_key(link: GenerationSettings, teacher: ResolvedTeacher, transfer: TransferSet, dataset: Dataset) -> str:
    """Return the key of a generation's run.

    It depends on teacher, settings, data and the recipe version.
    """
    own = {name: value for name, value in link.run.resolved.items() if name not in NOT_IN_KEY}
    use = {name: link.run.dataset.resolved.get(name) for name in (*SELECTION_KEYS, "split_seed")}
    return files.hash_json(
        {
            "link": own,
            "teacher": teacher.fingerprint(),
            "views": link.run.cache.views,
            "precision": link.run.runtime.device.precision,
            "data": [dataset.fingerprint, use, transfer.pool.extra_fingerprint],
            "recipe_version": RECIPE_VERSION,
        }
    )


def _train(
    link: GenerationSettings,
    key: str,
    teacher: ResolvedTeacher,
    transfer: TransferSet,
    dataset: Dataset,
    context: RunContext,
    distil: TrainStudent,
    name: Path,
) -> Path:
    out = files.make_folder(context.output_dir / FOLDER / name)
    own = replace(context, run_dir=out, started=time.time())
    try:
        with prefix_errors(link):
            distil(link.run, transfer, dataset, own, teacher, {KEY: key, "link": link.name})
    except UserError:
        if not any((out / layout.RESUME_DIR).glob("*/*")):  # nothing to go on from
            files.remove([out])
        raise
    layout.register(context.output_dir, key, out)
    return out
