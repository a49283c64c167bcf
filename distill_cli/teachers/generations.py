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

from omegaconf import OmegaConf

from distill_cli import RECIPE_VERSION
from distill_cli.config.validation.check import targets_in
from distill_cli.config.validation.generations import Generation, generations
from distill_cli.errors import UserError
from distill_cli.factory.context import RunContext
from distill_cli.factory.data import SUBSET_KEYS, TransferSet
from distill_cli.runs import layout
from distill_cli.tasks.registry import find_task
from distill_cli.teachers.registry import find_or_create
from distill_cli.teachers.train import ResolvedTeacher, load_from_run
from distill_cli.types import STUDENT, TEACHER, Dataset
from distill_cli.utils import files

FOLDER = "chain"
KEY = "link_key"
# What cannot move a link's weights, or is in its key in another form.
NOT_IN_KEY = (
    "outputs", "sweep", "require", "objective", "bootstrap", "eval_batch_size", "device", "dataset", "teacher",
    "controls", "cache", "logger", "progress",
)  # fmt: skip
NO_OTHER = {"members": 1, "member_weights": None, "weights": None, "outputs": None}
FIGURES = ("parameters", "train_seconds", "steps")
SHOWN = (*FIGURES, "val", "test")


class TrainStudent(Protocol):
    """Trains a student from a teacher into a run folder, and returns the report."""

    def __call__(
        self,
        cfg: Any,
        transfer: TransferSet,
        dataset: Dataset,
        context: RunContext,
        taught: ResolvedTeacher,
        extra_sections: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Train into ``context.out``; `extra_sections` joins the report."""
        ...


def generations_of(cfg: Any) -> list[Generation]:
    """Return the links of a composed config."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return generations(plain)


@contextmanager
def prefix_errors(link: Generation) -> Iterator[Any]:
    """Give the link's config, and put its name before what is wrong with it."""
    try:
        yield OmegaConf.create(link.config)
    except UserError as e:
        raise link.prefixed(e) from None


def train_generations(
    cfg: Any, taught: ResolvedTeacher, transfer: TransferSet, dataset: Dataset, context: RunContext, distil: TrainStudent
) -> tuple[ResolvedTeacher, list[dict[str, Any]]]:
    """Find or train every link, and return the last as the teacher, with what the report says of each generation.

    Args:
        cfg: the composed config.
        taught: the teacher at the chain's beginning.
        transfer: the rows of all links.
        dataset: theirs.
        context: of the student's run.
        distil: trains one link.
    """
    generations: list[dict[str, Any]] = []
    folder: Path | None = None
    metric = find_task(dataset.task).primary_metric.name
    typed = targets_in(OmegaConf.to_container(cfg, resolve=True))
    for link in generations_of(cfg):
        if folder is not None:  # so that the link's run folder says by itself what it learned from
            link.config["teacher"] = {
                **link.config["teacher"],
                **NO_OTHER,
                "checkpoint": str(folder),
                "checkpoint_model": STUDENT,
            }
        key = generation_key(link, taught, transfer, dataset)
        train = partial(_train, link, key, taught, transfer, dataset, context, distil)
        folder, found = find_or_create(context, key, KEY, f"chain: {link.name}", train, context.output_dir / FOLDER)
        report = layout.read_json(folder / layout.REPORT)
        if not generations:
            generations.append(generation(TEACHER, taught.origin, layout.model_metrics(report, TEACHER, SHOWN), metric))
        taught = replace(load_from_run(folder, STUDENT, f"link {link.name}, {'found' if found else 'trained'}", typed), key=key)
        generations.append(generation(link.name, taught.origin, layout.model_metrics(report, STUDENT, SHOWN), metric))
    return taught, generations


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


def generation_key(link: Generation, taught: ResolvedTeacher, transfer: TransferSet, dataset: Dataset) -> str:
    """Return what a link's run is found by: its teacher, its settings, its data, the recipe version."""
    own = {name: value for name, value in link.config.items() if name not in NOT_IN_KEY}
    data = link.config["dataset"]
    use = {name: data.get(name) for name in (*SUBSET_KEYS, "split_seed")}
    return files.hash_json(
        {
            "link": own,
            "teacher": taught.fingerprint(),
            "views": (link.config.get("cache") or {}).get("views"),
            "precision": str(link.config["device"]["precision"]),
            "data": [dataset.fingerprint, use, transfer.pool.extra_fingerprint],
            "recipe_version": RECIPE_VERSION,
        }
    )


def _train(
    link: Generation,
    key: str,
    taught: ResolvedTeacher,
    transfer: TransferSet,
    dataset: Dataset,
    context: RunContext,
    distil: TrainStudent,
    name: Path,
) -> Path:
    out = files.make_folder(context.output_dir / FOLDER / name)
    cfg = OmegaConf.create(link.config)
    own = replace(context, run_dir=out, seed=cfg.seed, started=time.time())
    try:
        with prefix_errors(link):
            distil(cfg, transfer, dataset, own, taught, {KEY: key, "link": link.name})
    except UserError:
        if not any((out / layout.RESUME_DIR).glob("*/*")):  # nothing to go on from
            files.remove([out])
        raise
    layout.register(context.output_dir, key, out)
    return out
