"""Multi-label classification: scores against scikit-learn, losses, and a table with several label columns end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, precision_score, recall_score

from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.data.csv_table import csv_table
from distill_cli.errors import UserError
from distill_cli.factory.data import load_dataset
from distill_cli.factory.task import supervised_loss, typed_task
from distill_cli.losses.binary_soft_target import BinarySoftTarget
from distill_cli.metrics.statistics import bootstrap_intervals, paired_bootstrap
from distill_cli.tasks.multilabel.evaluator import MultilabelEvaluator
from distill_cli.tasks.registry import find_task, report_task
from distill_cli.types import Batch, ModelOutput

NAMES = ("sea", "sky", "tree")


def drawn(seed: int = 0, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of three labels, the last one rare."""
    random = np.random.default_rng(seed)
    y = (random.random((n, 3)) < [0.5, 0.3, 0.05]).astype(np.int64)
    return 2 * random.normal(size=(n, 3)) + 2 * y - 1, y


def write(path: Path, rows: int = 200) -> Path:
    """Write a table of five features and three labels."""
    x, y = make_multilabel_classification(rows, 5, n_classes=3, n_labels=1, random_state=0)
    lines = [",".join(map(str, [*a, *b])) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    path.write_text("\n".join([",".join(["a", "b", "c", "d", "e", *NAMES]), *lines]) + "\n")
    return path


def test_scores_are_those_of_scikit_learn() -> None:
    logits, y = drawn()
    found, said, p = MultilabelEvaluator(logits, y, NAMES).compute(), logits >= 0, 1 / (1 + np.exp(-logits))
    assert found["macro_f1"] == pytest.approx(f1_score(y, said, average="macro", zero_division=0))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(y, said))
    assert found["nll"] == pytest.approx(np.mean([log_loss(y[:, k], p[:, k]) for k in range(3)]))
    assert found["average_precision"] == pytest.approx(average_precision_score(y, p, average="macro"))
    for k, name in enumerate(NAMES):
        part = found["per_label"][name]
        assert part["f1"] == pytest.approx(f1_score(y[:, k], said[:, k]))
        assert part["precision"] == pytest.approx(precision_score(y[:, k], said[:, k]))
        assert part["recall"] == pytest.approx(recall_score(y[:, k], said[:, k]))
        assert part["average_precision"] == pytest.approx(average_precision_score(y[:, k], p[:, k]))
        assert part["support"] == y[:, k].sum()


def test_a_label_without_a_row_has_no_average_precision() -> None:
    logits, y = drawn()
    y[:, 2] = 0
    found = MultilabelEvaluator(logits, y, NAMES).compute()
    assert found["per_label"]["tree"]["average_precision"] is None
    assert found["average_precision"] == pytest.approx(average_precision_score(y[:, :2], logits[:, :2], average="macro"))


def test_the_interval_is_that_of_rows_drawn_one_by_one() -> None:
    logits, y = drawn()
    own, random = MultilabelEvaluator(logits, y, NAMES), np.random.default_rng(1)
    plain = []
    for _ in range(500):
        rows = random.integers(0, len(y), len(y))
        plain.append(f1_score(y[rows], logits[rows] >= 0, average="macro", zero_division=0))
    whole, parts = bootstrap_intervals(own, resamples=2000)
    assert whole == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.02)
    assert len(parts) == 3 and whole[0] < own.primary_score() < whole[1]
    ones, rows = np.ones((1, len(y))), np.arange(len(y))
    assert own.resampled(ones, rows)[0] == pytest.approx(own.primary_score(), abs=1e-12)


def test_pairs_stay_together() -> None:
    logits, y = drawn()
    a = MultilabelEvaluator(logits, y, NAMES)
    assert paired_bootstrap(a, MultilabelEvaluator(logits, y, NAMES))["ci95"] == [0.0, 0.0]
    better = paired_bootstrap(MultilabelEvaluator(9.0 * y - 4, y, NAMES), a)
    assert better["ci95"][0] > 0 and better["difference"] == pytest.approx(1 - a.primary_score())


def test_outputs_that_are_not_finite_or_of_another_width_are_refused() -> None:
    logits, y = drawn()
    logits[3, 1] = np.nan
    with pytest.raises(UserError, match="1 of 300 rows have outputs that are NaN"):
        MultilabelEvaluator(logits, y, NAMES)
    with pytest.raises(UserError, match="300 rows of 3 labels; use a model with one output a label"):
        MultilabelEvaluator(logits[:, :2], y, NAMES)


def test_soft_targets_are_kl_of_each_label_and_mix_with_the_labels() -> None:
    z, v = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    batch = Batch(torch.zeros(6, 1), target, torch.arange(6), torch.tensor([1.0, 0, 1, 1, 1, 1]))
    s, t = torch.sigmoid(z / 3), torch.sigmoid(v / 3)
    kl = (t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()).mean(1)
    hard = torch.nn.functional.binary_cross_entropy_with_logits(z, target, reduction="none").mean(1) * batch.labeled
    got = BinarySoftTarget(temperature=3.0, alpha=0.6)(ModelOutput(z), [ModelOutput(v)], batch)
    assert torch.allclose(got, 0.6 * 9 * kl + 0.4 * hard)
    far = BinarySoftTarget(alpha=1.0)(ModelOutput(z * 1e4), [ModelOutput(v * 1e4)], batch)
    assert far.isfinite().all()


def test_several_label_columns_choose_the_task(tmp_path: Path) -> None:
    dataset = csv_table(str(write(tmp_path / "t.csv")), label=["sky", "sea"])
    assert (dataset.task, dataset.class_names, dataset.input_shape) == ("multilabel", ("sky", "sea"), (6,))
    assert dataset.train.y.shape == (len(dataset.train), 2)
    rows = sum(len(pool) for pool in dataset.pools.values())
    assert rows == 200 and 30 <= len(dataset.test) <= 50


@pytest.mark.parametrize(
    ("label", "edit", "message"),
    [
        (["sea", "sea"], None, r"dataset.label=\[sea,sea\]: name each column of 0 and 1 once"),
        ([], None, r"dataset.label=\[\]: name each column"),
        (["sea", "a"], None, "label '.*' is neither 0 nor 1"),
        (["sea", "sky"], ("sky", 0), "label 'sky' holds in no row of train"),
    ],
)
def test_labels_that_cannot_be_meant_are_one_line(tmp_path: Path, label: list[Any], edit: Any, message: str) -> None:
    path = write(tmp_path / "t.csv")
    if edit is not None:
        head, *lines = path.read_text().splitlines()
        at = head.split(",").index(edit[0])
        cells = [line.split(",") for line in lines]
        path.write_text("\n".join([head, *(",".join([*c[:at], str(edit[1]), *c[at + 1 :]]) for c in cells)]) + "\n")
    with pytest.raises(UserError, match=message):
        load_dataset(
            DatasetSettings.from_config({"_target_": "distill_cli.data.csv_table.csv_table", "path": str(path), "label": label})
        )


def test_the_task_of_classes_is_refused_for_labels(tmp_path: Path) -> None:
    node = {"_target_": "distill_cli.data.csv_table.csv_table", "path": str(write(tmp_path / "t.csv")), "label": ["sea", "sky"]}
    task = typed_task({"_target_": "distill_cli.tasks.classification.task.Classification"})
    with pytest.raises(UserError, match="task=classification: its targets are classes, and those of data set t are labels"):
        load_dataset(DatasetSettings.from_config(node), task=task)


def test_class_weights_are_refused_where_the_loss_has_none() -> None:
    with pytest.raises(UserError, match=r"teacher.class_weight=balanced: the loss of task=multilabel weighs no classes"):
        supervised_loss(find_task("multilabel"), "balanced", "teacher.")


def test_rare_sets_of_labels_share_a_stratum() -> None:
    y = np.repeat([[0, 0], [0, 1], [1, 0]], [20, 20, 3], axis=0)
    assert len(set(find_task("multilabel").strata(y).tolist())) == 3
    assert set(find_task("multilabel").strata(y)[40:].tolist()) == {0}


def test_a_report_of_an_unknown_task_is_read_as_classification() -> None:
    assert report_task({"task": "multilabel"}).name == "multilabel"
    assert report_task({"task": "../x"}).name == report_task(None).name == "classification"


def test_a_table_of_labels_is_distilled_scored_and_predicted(tmp_path: Path, distill: Any) -> None:
    path = write(tmp_path / "t.csv", 300)
    words = ["dataset=csv", f"dataset.path={path}", "dataset.label=[sea,sky,tree]", "epochs=2", "teacher.epochs=2"]
    ran = distill("distill", *words, "report.html=false", "bootstrap.resamples=50", "loss.temperature=3.0")
    assert ran.code == 0, ran.err
    assert "loss: binary_soft_target, the default of task=multilabel" in ran.err
    report = json.loads((ran.folder / "report.json").read_text())
    assert report["task"] == "multilabel" and report["config"]["loss"]["temperature"] == 3.0
    assert {"macro_f1", "macro_f1_ci95", "subset_accuracy", "per_label"} <= set(report["models"]["student"]["test"])
    assert report["comparison"]["scratch"]["metric"] == "macro_f1" and report["terms"]["loss"]["value"] > 0
    assert sum(report["data"]["rows"].values()) == 300
    header = (ran.folder / "predictions.csv").read_text().splitlines()[0]
    assert header.startswith("row,true.sea,true.sky,true.tree,teacher.sea,")
    assert "## F1 of each label, test" in (ran.folder / "report.md").read_text()
    done = distill("predict", f"run={ran.folder}", f"input={path}", f"output={tmp_path / 'p.csv'}")
    assert done.code == 0, done.err
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "row,sea,sky,tree"
    wrong = distill("distill", *words, "+loss@terms.more=cross_entropy")
    assert wrong.code == 2 and "terms.more: CrossEntropy is for targets that are classes" in wrong.err
