"""What a report notes of a run that is not sound, and that it notes nothing of a sound one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Ran

from distill_cli.errors import UserError
from distill_cli.pipeline import health
from distill_cli.pipeline.health import CHECKS, Examined, examine, own_checks, teacher_warning
from distill_cli.types import Columns, Dataset, EpochRecord, Pool

Distill = Callable[..., Ran]
SIZES = {"train": 300, "val": 90, "test": 120}


def dataset_of(
    names: Sequence[str] = ("a", "b", "c"),
    y: np.ndarray | None = None,
    x: np.ndarray | None = None,
    group: np.ndarray | None = None,
    sizes: dict[str, int] = SIZES,
    columns: Columns | None = None,
) -> Dataset:
    """A data set whose rows are dealt to the splits in a drawn order."""
    rows, draw = sum(sizes.values()), np.random.default_rng(0)
    y = np.arange(rows) % len(names) if y is None else y
    x = draw.normal(size=(rows, 4)).astype(np.float32) if x is None else x
    order, start, pools = draw.permutation(rows), 0, {}
    for split, size in sizes.items():
        at = np.sort(order[start : start + size]) if group is None else np.arange(start, start + size)
        pools[split] = Pool(x, at, y[at], at, None if group is None else group[at])
        start += size
    return Dataset(
        "d", pools["train"], pools["val"], pools["test"], tuple(names), "s", "f", tuple(range(len(names))),
        grouped=group is not None, columns=columns,
    )  # fmt: skip


def right(dataset: Dataset, share: float = 0.9) -> dict[str, np.ndarray]:
    """Logits that are right on a share of the rows of validation and test."""
    draw, classes = np.random.default_rng(1), len(dataset.class_names)
    logits = {}
    for split in ("val", "test"):
        y = dataset.pools[split].y
        predicted = np.where(draw.random(len(y)) < share, y, draw.integers(0, classes, len(y)))
        logits[split] = 3 * np.eye(classes)[predicted] + draw.normal(0, 0.1, (len(y), classes))
    return logits


def records_of(
    losses: Sequence[float], nll: Sequence[float] | None = None, lr: Sequence[float] | None = None
) -> list[EpochRecord]:
    nll = losses if nll is None else nll
    lr = [0.1] * len(losses) if lr is None else lr
    best = [value < min(nll[:n], default=np.inf) for n, value in enumerate(nll)]
    return [
        EpochRecord("student", "train", n + 1, n + 1, lr[n], losses[n], {}, {"nll": nll[n]}, 1.0, best[n])
        for n in range(len(losses))
    ]


def examined(
    dataset: Dataset, logits: dict[str, Any] | None = None, records: Sequence[EpochRecord] = (), **report: Any
) -> Examined:
    logits = {"teacher": right(dataset), "student": right(dataset)} if logits is None else logits
    return Examined({"models": {}, **report}, dataset, logits, records)


def notes(about: Examined) -> dict[str, str]:
    return {note["check"]: note["text"] for note in examine(about)}


def only(about: Examined, check: str) -> str:
    result = notes(about)
    assert list(result) == [check], result
    return result[check]


def test_a_sound_run_gets_no_note() -> None:
    models = {name: {"weight_change": 0.5, "test": {"macro_f1": 0.9}} for name in ("teacher", "student", "scratch")}
    comparison = {"scratch": {"split": "test", "metric": "macro_f1"}}
    about = examined(dataset_of(), records=records_of([3, 2, 1, 0.9, 0.9, 0.9]), models=models, comparison=comparison)
    assert examine(about) == []


def test_a_class_that_is_never_predicted_is_named() -> None:
    rows = sum(SIZES.values())
    y = np.where(np.arange(rows) % 17 == 0, 2, np.arange(rows) % 2)
    data = dataset_of(("common", "usual", "rare"), y)
    logits = right(data)
    for part in logits.values():
        part[:, 2] = -9
    text = only(examined(data, {"teacher": right(data), "student": logits}), "classes_never_predicted")
    assert text.startswith("student never predicts rare (") and "sampling=balanced" in text


def test_a_model_no_better_than_the_commonest_class_is_named() -> None:
    rows, draw = sum(SIZES.values()), np.random.default_rng(2)
    data = dataset_of(y=np.where(np.arange(rows) % 10 == 0, 1, 0) + (np.arange(rows) % 10 == 1) * 2)
    constant = {split: np.tile([2.0, 0.0, 0.0], (SIZES[split], 1)) for split in ("val", "test")}
    text = only(examined(data, {"student": constant}), "no_better_than_the_majority")
    assert text.startswith("student: on test its accuracy of 0.") and "optimizer.lr" in text
    blind = {split: draw.normal(size=(SIZES[split], 3)) for split in ("val", "test")}
    about = examined(data, {"teacher": blind}, teacher_source="weights t.pt")
    assert "teacher.class_order" in only(about, "no_better_than_the_majority")
    balanced = {
        split: right(data, 0.6)[split] for split in ("val", "test")
    }  # below the majority's accuracy, and it knows the rare ones
    assert notes(examined(data, {"student": balanced})) == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_teacher_that_knows_nothing_is_told_from_one_that_does(seed: int) -> None:
    data, draw = dataset_of(), np.random.default_rng(seed)
    assert "no better than the commonest class" in teacher_warning(draw.normal(size=(90, 3)), data.val, 3)
    assert teacher_warning(right(data, 0.4)["val"], data.val, 3) == ""


@pytest.mark.parametrize(
    ("records", "named"),
    [
        (records_of(np.linspace(2, 1, 30).tolist()), True),
        (records_of([2.0] * 20 + [1.0 - 0.001 * n for n in range(10)]), False),  # the loss stands still
        (records_of(np.linspace(2, 1, 30).tolist(), nll=[1.0] * 30), False),  # validation gains nothing
        (records_of([1.0] * 30, nll=np.linspace(2, 1, 30).tolist()), False),  # training gains nothing
        (records_of(np.linspace(2, 1, 30).tolist(), lr=np.linspace(1, 0, 30).tolist()), False),  # the schedule is at its end
        (records_of([1.0]), False),
        (records_of([2.0, 1.0]), False),
    ],
)
def test_training_that_ends_too_early_is_named(records: list[EpochRecord], named: bool) -> None:
    result = notes(examined(dataset_of(), records=records))
    assert list(result) == (["still_learning"] if named else [])
    if named:
        assert (
            "student: it still learns: the loss on validation is lowest at the last epoch" in result["still_learning"]
            and "epochs=60" in result["still_learning"]
        )


def test_weights_that_did_not_move_are_named() -> None:
    about = examined(dataset_of(), models={"teacher": {"weight_change": 0.0}, "student": {"weight_change": 0.2}, "scratch": {}})
    assert only(about, "unmoved_weights").endswith("raise teacher.optimizer.lr")


def test_outputs_that_are_probabilities_are_named() -> None:
    data = dataset_of()
    soft = {split: np.exp(z) / np.exp(z).sum(1, keepdims=True) for split, z in right(data).items()}
    assert "take the softmax off" in only(examined(data, {"student": soft}), "probabilities_for_logits")
    table = examined(data, {"teacher": soft}, teacher_source="logits_file t.npy")
    assert "teacher.logits_kind=probabilities" in only(table, "probabilities_for_logits")


def test_labels_that_are_measurements_are_named() -> None:
    draw = np.random.default_rng(3)
    values = np.clip(np.rint(draw.normal(15, 4, 3000)), 0, 30).astype(int)
    names, y = np.unique(values, return_inverse=True)
    sizes = {"train": 2000, "val": 500, "test": 500}
    data = dataset_of([str(n) for n in names], y, draw.normal(size=(3000, 2)).astype(np.float32), sizes=sizes)
    assert "the labels look like measurements" in notes(examined(data, {}))["labels_like_measurements"]
    even = dataset_of([str(n) for n in range(31)], sizes=sizes, x=np.zeros((3000, 2), np.float32))  # as many of each: names
    assert notes(examined(even, {})) == {}


@pytest.mark.parametrize(
    "values", [lambda n: np.arange(n), lambda n: 7 * np.arange(n) + 3, lambda n: np.random.default_rng(0).permutation(n)]
)
def test_a_column_that_numbers_the_rows_is_named(values: Callable[[int], np.ndarray]) -> None:
    rows = sum(SIZES.values())
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    x[:, 1] = values(rows)
    data = dataset_of(x=x, columns=Columns(("height", "patient_id", "weight"), ("label",)))
    assert only(examined(data), "columns_that_number_the_rows").startswith("column 'patient_id' numbers the rows")
    x[:, 1] = np.arange(rows) % 200  # whole numbers that come back
    assert notes(examined(dataset_of(x=x))) == {}


def test_a_small_validation_is_named() -> None:
    data = dataset_of(sizes={"train": 300, "val": 20, "test": 120})
    assert only(examined(data), "small_validation").startswith("validation has 20 rows for 3 classes")
    y = np.arange(510) % 3
    y[300:390][y[300:390] == 2] = 0
    data = dataset_of(y=y, group=np.repeat(np.arange(51), 10).astype(str))
    assert only(examined(data), "small_validation").startswith("validation has no row of class c;")


def test_groups_that_stand_alone_are_named() -> None:
    group = np.array(["p"] * 150 + ["q"] * 150 + ["r"] * 90 + ["s"] * 60 + ["t"] * 60)
    assert "validation holds the rows of one group alone (r)" in only(examined(dataset_of(group=group)), "lonely_groups")
    group[300:345] = "u"
    assert notes(examined(dataset_of(group=group))) == {}
    y = np.where(np.arange(510) < 150, np.arange(510) % 3, np.arange(510) % 2)
    assert "class c occurs in one group alone (p)" in notes(examined(dataset_of(y=y, group=group)))["lonely_groups"]


def test_channels_behind_height_and_width_are_named() -> None:
    data = dataset_of(x=np.zeros((510, 28, 28, 1), np.float32))
    assert "bring them to [1, 28, 28]" in only(examined(data), "channels_last")
    assert notes(examined(dataset_of(x=np.zeros((510, 3, 32, 32), np.float32)))) == {}


def test_a_teacher_below_its_control_is_named() -> None:
    models = {"teacher": {"test": {"macro_f1": 0.3}}, "scratch": {"test": {"macro_f1": 0.9}}}
    comparison = {"scratch": {"split": "test", "metric": "macro_f1"}}
    about = examined(dataset_of(), models=models, comparison=comparison, teacher_source="logits_file t.npy")
    assert "macro_f1 0.300 on test is below that of scratch (0.900)" in only(about, "teacher_below_the_control")


# Checks of one's own


def test_a_check_of_ones_own_is_added_and_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_checks.py").write_text(
        "def quiet(run):\n    return []\n\ndef loud(run):\n    yield f'{run.dataset.name} is loud'\n\ndef broken(run):\n    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = own_checks(["my_checks.quiet", "my_checks.loud", "my_checks.broken"])
    assert examine(examined(dataset_of()), own) == [
        {"check": "my_checks.loud", "text": "d is loud"},
        {"check": "my_checks.broken", "text": "this check failed (ZeroDivisionError: division by zero)"},
    ]
    with pytest.raises(UserError, match=r"^health=my_checks.lowd: not found; did you mean"):
        own_checks(["my_checks.lowd"])


def test_every_check_has_a_name_of_its_own_and_says_what_it_looks_for() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
    assert all(check.__doc__ for check in CHECKS)
    assert all(getattr(health, check.__name__) is check for check in CHECKS)


# Whole runs


def test_notes_stand_in_terminal_report_and_page(distill: Distill) -> None:
    ran = distill("distill", *(w for w in TINY if "lr=" not in w and "html" not in w), "optimizer.lr=0", "teacher.epochs=20")
    assert ran.code == 0, ran.err
    text = "student: training hardly moved its weights (by 0 of their length); raise optimizer.lr"
    assert {"check": "unmoved_weights", "text": text} in ran.report["notes"]
    assert f"note: {text}" in ran.out.splitlines()
    markdown = (ran.folder / "report.md").read_text()
    assert "## Notes" in markdown and "training hardly moved its weights" in markdown
    assert f"<li>{text}</li>" in (ran.folder / "report.html").read_text()
    assert ran.report["models"]["student"]["weight_change"] == 0
    assert ran.report["models"]["scratch"]["weight_change"] == 0


def test_a_teacher_of_random_outputs_is_warned_of_before_training_and_noted_after(distill: Distill, tmp_path: Path) -> None:
    outputs = np.random.default_rng(0).normal(size=(1797, 10)).astype(np.float32)
    np.save(tmp_path / "random.npy", outputs)
    line = ("distill", *TINY, "epochs=15", "dataset.label_fraction=1")
    ran = distill(*line, "teacher.logits_file=random.npy")
    assert ran.code == 0, ran.err
    text = ran.err + ran.out
    warned = text.index("warning: the teacher knows nothing of this data: on validation its accuracy of")
    assert warned < text.index("note: teacher: on test its accuracy of")
    checks = {note["check"] for note in ran.report["notes"]}
    assert {"no_better_than_the_majority", "teacher_below_the_control"} <= checks
    for rows, text in ((2500, "has 2,500 rows, the data set 1,797"), (1500, "has 1,500 rows, the data set 1,797")):
        np.save(tmp_path / "other.npy", np.resize(outputs, (rows, 10)))
        refused = distill(*line, "teacher.logits_file=other.npy")
        assert refused.code == 2 and text in refused.err and len(refused.err.strip().splitlines()) == 1
