"""A run's report as the pipeline writes it, with every key of docs/report-schema.md."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_cli.pipeline.evaluation import with_intervals
from distill_cli.tasks.classification.evaluator import ClassificationEvaluator

CLASSES = ("normal (N)", "supraventricular (S)", "ventricular (V)", "fusion (F)", "unknown (Q)")
COUNTS = {"train": (58_000, 1_780, 4_630, 513, 5_145), "val": (14_500, 444, 1_158, 128, 1_286), "test": (1_812, 56, 145, 16, 161)}


def model(
    split_logits: dict[str, np.ndarray], y: dict[str, np.ndarray], parameters: int, trained: bool, **more: Any
) -> dict[str, Any]:
    parts = {
        split: with_intervals(ClassificationEvaluator(z, y[split], CLASSES, range(5)), None, 200, 0)
        for split, z in split_logits.items()
    }
    cost = {
        "train_seconds": 245.2,
        "samples_per_second": 8539.4,
        "steps": 54_722,
        "epochs": 60,
        "best_epoch": 51,
        "labeled_samples_seen": 70_068,
    }
    return {
        **parts,
        "parameters": parameters,
        "macs": parameters * 46,
        "weight_bytes": parameters * 4,
        "latency_ms": {"1": {"p50": 0.0624, "p99": 0.081}, "256": {"p50": 6.12, "p99": 7.4}},
        "latency_threads": 1,
        **(cost if trained else dict.fromkeys(cost)),
        "architecture": {"target": "distill_cli.models.cnn1d.CNN1d", "arguments": {"filters": 32, "hidden": 16}},
        **more,
    }


def fake_report(seed: int = 0, student: float = 0.9, scratch: float = 0.88, **more: Any) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    y = {split: np.repeat(np.arange(5), COUNTS["test"]) for split in ("val", "test")}

    def logits(right: float) -> dict[str, np.ndarray]:
        drawn = {}
        for split, classes in y.items():
            said = np.where(random.random(len(classes)) < right, classes, random.integers(0, 5, len(classes)))
            drawn[split] = 4.0 * np.eye(5)[said] + random.normal(0, 0.5, (len(classes), 5))
        return drawn

    models = {
        "teacher": model(logits(0.96), y, 70_421, False),
        "student": model(logits(student), y, 3_909, True),
        "scratch": model(logits(scratch), y, 3_909, True),
        "scratch_122": model(logits(scratch), y, 3_909, True),
    }
    for name in ("student", "scratch", "scratch_122"):
        models[name]["test"]["agreement"] = 0.931
    difference = models["student"]["test"]["macro_f1"] - models["scratch"]["test"]["macro_f1"]
    return {
        "schema_version": 1,
        "command": "distill",
        "recipe_version": 1,
        "name": "heartbeat",
        "seed": seed,
        "models": models,
        "comparison": {
            "scratch": {
                "metric": "macro_f1",
                "split": "test",
                "difference": difference,
                "ci95": [difference - 0.01, difference + 0.01],
                "resampled": "samples",
                "n_groups": None,
            }
        },
        "verdict": "one seed: distilled 0.912, scratch 0.905, difference +0.007 [-0.004, +0.018] (95 % paired bootstrap over "
        "samples): no verdict from one seed; run 5 or more",
        "terms": {"loss": {"weight": 1.0, "value": 0.0412}, "hints": {"weight": 0.5, "value": 1.25}},
        "data": {
            "name": "heartbeat",
            "split": "random",
            "split_seed": 0,
            "class_names": list(CLASSES),
            "class_counts": {split: dict(zip(CLASSES, n, strict=True)) for split, n in COUNTS.items()},
            "fingerprint": "9f1c2b7a55e01234",
            "source_fingerprint": "aa1c2b7a55e01234",
            "input_shape": [187],
            "notes": ["the split is random over beats: the same patient is in train and test", "5 beats ran past a record's end"],
        },
        "budget": {
            "student_steps": 54_722,
            "control_steps": {"scratch": 54_722, "scratch_122": 107_604},
            "teacher_steps": 26_280,
            "teacher_seconds": 612.0,
        },
        "teacher_source": "found outputs/train-teacher/20270101-120000-ab12",
        "teacher_key": "1234",
        "provenance": {
            "git_revision": "b6f34b8",
            "versions": {"python": "3.11.9", "torch": "2.13.0"},
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
            "threads": 1,
            "device": "cpu",
            "precision": "32",
            "command_line": "distill distill experiment=heartbeat dataset.root=data/mitdb seed=0",
            "started": "2027-01-01T12:00:00+00:00",
            "seconds": 1320.0,
        },
        "config": {"seed": seed, "loss": {"temperature": 2.0}, "outputs": "outputs", "sweep": "s"},
        **more,
    }


@pytest.fixture
def make_report() -> Callable[..., dict[str, Any]]:
    """Return a function (seed, student, scratch, **keys) -> report; student and scratch are shares of right answers."""
    return fake_report


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Return a function that writes a finished run folder with its overrides."""

    def write(folder: Path, report: dict[str, Any], overrides: list[str] | None = None) -> Path:
        (folder / ".hydra").mkdir(parents=True)
        if overrides is not None:
            (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides) or "[]\n")
        (folder / "report.json").write_text(json.dumps(report))
        return folder

    return write


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Return a function: columns -> a terminal without colours of that width."""

    def make(columns: int) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        return Terminal()

    return make
