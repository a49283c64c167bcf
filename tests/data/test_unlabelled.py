"""Rows without labels from another source: they teach by soft targets alone, and the control never sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_cli.data.digits import digits
from distill_cli.data.leakage import find_overlap, record_training_rows
from distill_cli.data.loader import SubsetLoader
from distill_cli.data.unlabeled import ConcatSource, append_unlabeled, from_dataset, read_unlabeled
from distill_cli.errors import UserError
from distill_cli.losses.cross_entropy import CrossEntropy
from distill_cli.losses.soft_target import SoftTarget
from distill_cli.types import Columns, ModelOutput

TINY = (
    "device=cpu", "report.html=false", "epochs=2", "teacher.epochs=2", "bootstrap.resamples=50", "teacher.model.hidden=[16]", "student.model.hidden=[8]",
    "optimizer.lr=0.01", "teacher.optimizer.lr=0.01",
)  # fmt: skip


def write(name: str, rows: int = 40, shape: tuple[int, ...] = (64,), seed: int = 0) -> str:
    np.save(name, np.random.default_rng(seed).random((rows, *shape), dtype=np.float32))
    return name


def test_joined_sources_are_looked_up_where_they_lie() -> None:
    first, second = np.arange(12, dtype=np.float32).reshape(4, 3), 100 + np.arange(6, dtype=np.float64).reshape(2, 3)
    both = ConcatSource(first, second)
    rows = np.array([5, 0, 4, 3, 0])
    assert both.shape == (6, 3) and len(both) == 6
    assert both[rows].dtype == np.float32
    assert np.array_equal(both[rows], np.concatenate([first, second])[rows])


def test_unlabeled_rows_come_last_with_ids_that_nobody_has(tmp_path: Path) -> None:
    data = digits()
    extra = read_unlabeled(write(str(tmp_path / "more.npy")), (64,))
    pool = append_unlabeled(data.train, extra, data)
    assert len(pool) == len(data.train) + 40 and pool.labeled.sum() == len(data.train)
    own = set(np.concatenate([p.index for p in data.pools.values()]).tolist())
    assert not own & set(pool.index[-40:].tolist()) and len(np.unique(pool.index)) == len(pool)
    assert np.array_equal(pool.x[-40:], np.load(tmp_path / "more.npy"))
    assert np.array_equal(pool.x[:-40], data.train.x)
    assert np.array_equal(pool.select(pool.labeled).x, data.train.x)
    assert pool.select(pool.labeled).extra_fingerprint == extra.fingerprint != ""


def test_a_model_that_saw_scored_rows_without_labels_is_remembered_for_it(tmp_path: Path) -> None:
    data = digits()
    pool = append_unlabeled(data.train, from_dataset(digits(split_seed=3), (64,)), data)
    seen = np.isin(data.val.index, digits(split_seed=3).train.index).sum()
    assert f"its training rows hold {seen} rows of the student's val split" in (
        find_overlap(record_training_rows(pool, data), data) or ""
    )
    harmless = append_unlabeled(data.train, read_unlabeled(write(str(tmp_path / "more.npy")), (64,)), data)
    assert find_overlap(record_training_rows(harmless, data), data) is None


def test_they_reach_the_soft_term_and_not_the_cross_entropy(tmp_path: Path) -> None:
    data = digits()
    pool = append_unlabeled(data.train, read_unlabeled(write(str(tmp_path / "more.npy")), (64,)), data)
    batch = SubsetLoader(pool, 10, torch.device("cpu")).batch_at(torch.tensor([0, 1, len(pool) - 2, len(pool) - 1]))
    assert batch.target.sum(1).tolist() == [1, 1, 0, 0]
    student = ModelOutput(torch.randn(4, 10, generator=torch.Generator().manual_seed(0)))
    teacher = [ModelOutput(torch.randn(4, 10, generator=torch.Generator().manual_seed(1)))]
    labels, soft = CrossEntropy()(student, teacher, batch), SoftTarget(alpha=0.5)(student, teacher, batch)
    assert (labels[:2] > 0).all() and labels[2:].tolist() == [0, 0]
    only_soft = SoftTarget(alpha=1)(student, teacher, batch) / 2
    assert torch.allclose(soft[2:], only_soft[2:]) and (soft[2:] > 0).all()


# Whole runs


@pytest.fixture
def base(distill: Callable[..., Any]) -> Any:
    ran = distill("distill", *TINY)
    assert ran.code == 0, ran.err
    return ran


def test_the_student_learns_from_them_and_the_control_does_not(base: Any, distill: Callable[..., Any]) -> None:
    before = base.report
    ran = distill("distill", *TINY, f"dataset.unlabeled={write('more.npy', 640)}")
    assert ran.code == 0, ran.err
    report = ran.report
    assert report["teacher_key"] == before["teacher_key"]
    assert report["models"]["student"]["test"] != before["models"]["student"]["test"]
    assert report["budget"]["student_steps"] > before["budget"]["student_steps"]
    assert report["budget"]["control_steps"]["scratch"] == report["budget"]["student_steps"]
    assert report["models"]["student"]["labeled_samples_seen"] == report["models"]["scratch"]["labeled_samples_seen"] == 1078
    assert report["unlabeled"]["rows"] == 640 and report["unlabeled"]["source"] == "file more.npy"
    assert report["unlabeled"]["equal_rows"] == {"val": 0, "test": 0}
    assert "640 transfer rows without labels: file more.npy" in (ran.folder / "report.md").read_text()
    other = distill("distill", *TINY, f"dataset.unlabeled={write('more.npy', 640, seed=1)}")
    assert other.report["models"]["student"]["test"] != report["models"]["student"]["test"]  # same ids, stored outputs of its own
    again = distill("eval", f"run={other.folder}", "device=cpu", "report.html=false")
    assert again.code == 0, again.err
    assert again.report["models"]["student"]["test"] == other.report["models"]["student"]["test"]


def test_a_csv_gives_the_same_as_an_array(base: Any, distill: Callable[..., Any]) -> None:
    x = np.load(write("more.npy"))
    np.savetxt("plain.csv", x, delimiter=",", fmt="%.9g")
    np.savetxt("named.csv", x, delimiter=",", fmt="%.9g", header=",".join(f"p{n}" for n in range(64)), comments="")
    reports = [distill("distill", *TINY, f"dataset.unlabeled={name}").report for name in ("more.npy", "plain.csv", "named.csv")]
    assert len({str(report["models"]["student"]["test"]) for report in reports}) == 1
    assert len({report["unlabeled"]["fingerprint"] for report in reports}) == 1


def test_columns_of_a_table_are_found_by_name(tmp_path: Path) -> None:
    columns = Columns(("a", "b"), ("kind", "who"))
    path = tmp_path / "more.csv"
    path.write_text("who,b,id,a\np1,2,7,1\np2,4,8,3\n")
    assert read_unlabeled(path, (2,), columns, ["id"]).source.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError) as e:
        read_unlabeled(path, (2,), columns)
    assert str(e.value) == (
        f"dataset.unlabeled={path}: line 1, column 3: 'id' is no feature of the data; if it is none, leave it out"
    )
    path.write_text("a,kind\n1,2\n")
    with pytest.raises(UserError, match=r"line 1: no column 'b', a feature of the data; add it$"):
        read_unlabeled(path, (2,), columns)


def test_another_data_set_gives_its_training_rows(distill: Callable[..., Any]) -> None:
    ran = distill("distill", *TINY, "+dataset@dataset.unlabeled=digits", "dataset.unlabeled.split_seed=3")
    assert ran.code == 0, ran.err
    assert ran.report["unlabeled"]["rows"] == 1078 and ran.report["unlabeled"]["source"] == "data set digits"
    shared = ran.report["unlabeled"]["equal_rows"]["test"]
    assert 200 < shared < 450
    note = f"{shared} of the unlabeled rows are equal to rows of test: the student has seen inputs that it is scored on"
    assert any(text.startswith(note) for text in ran.report["data"]["notes"])


def test_a_link_of_a_chain_learns_from_them_too_and_is_found_by_their_content(distill: Callable[..., Any]) -> None:
    line = ("distill", *TINY, "generations=[{name: a}]", "dataset.unlabeled=more.npy", "controls=[]")
    write("more.npy")
    assert "trained" in distill(*line).report["generations"][1]["source"]
    assert "found" in distill(*line).report["generations"][1]["source"]
    write("more.npy", seed=1)
    assert "trained" in distill(*line).report["generations"][1]["source"]


def test_a_data_set_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"^dataset.unlabeled: digits has samples of shape \(64,\), the data \(1, 28, 28\)$"):
        from_dataset(digits(), (1, 28, 28))


def spoil(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(name, change(np.load(write(name))))


def nan_at(x: np.ndarray) -> np.ndarray:
    x[7, 3] = np.nan
    return x


WRONG: list[tuple[str, str, Callable[[], object]]] = [
    ("dataset.unlabeled=x.npy: no such file", "x.npy", lambda: None),
    ("dataset.unlabeled=x.txt: expected a .npy or .csv file, or a data set (+dataset@dataset.unlabeled=OPTION)", "x.txt", lambda: None),
    ("dataset.unlabeled=x.npy: not a plain .npy array", "x.npy", lambda: Path("x.npy").write_text("no")),
    ("dataset.unlabeled=x.npy: not a plain .npy array", "x.npy",
     lambda: Path("x.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': oops  \n")),
    ("dataset.unlabeled=x.npy: an array of [40, 8, 8]; the data has samples of shape (64,), so [N, *shape] is expected", "x.npy",
     lambda: write("x.npy", shape=(8, 8))),
    ("dataset.unlabeled=x.npy: holds uint8; floats are expected, scaled as the data set scales its own", "x.npy",
     lambda: spoil("x.npy", lambda x: (255 * x).astype(np.uint8))),
    ("dataset.unlabeled=x.npy: holds no rows", "x.npy", lambda: write("x.npy", rows=0)),
    ("dataset.unlabeled=x.npy: row 7 (counted from 0) holds NaN or an infinite value at feature 3; fill it or leave the row out", "x.npy",
     lambda: spoil("x.npy", nan_at)),
    ("dataset.unlabeled=x.csv: line 1: 65 columns; a sample of the data has 64 features; leave a label's column out", "x.csv",
     lambda: Path("x.csv").write_text(",".join(["1"] * 65) + "\n")),
    ("dataset.unlabeled=x.csv: line 2, column '5': 'many' is not a number; features must be numeric", "x.csv",
     lambda: Path("x.csv").write_text(",".join(["1"] * 64) + "\n" + ",".join(["1"] * 4 + ["many"] + ["1"] * 59) + "\n")),
    ("dataset.unlabeled=x.csv: line 2 has 63 cells, the first row has 64; make them equal", "x.csv",
     lambda: Path("x.csv").write_text(",".join(["1"] * 64) + "\n" + ",".join(["1"] * 63) + "\n")),
    ("dataset.unlabeled=3: expected a .npy or .csv file, or a data set (+dataset@dataset.unlabeled=OPTION)", "3", lambda: None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "value", "make"), WRONG, ids=[line[:60] for line, _, _ in WRONG])
def test_what_cannot_be_a_transfer_set_is_one_line(
    distill: Callable[..., Any], line: str, value: str, make: Callable[[], object]
) -> None:
    make()
    ran = distill("distill", *TINY, f"dataset.unlabeled={value}")
    assert ran.err.splitlines() == [f"distill distill: error: {line}"]
    assert ran.code == 2 and not list(Path("outputs").rglob("*.json"))


@pytest.mark.parametrize(
    "word", ["dataset.unlabelled=x.npy", "+dataset@dataset.unlabelled=digits", "dataset.unlabelled.split_seed=3"]
)
def test_the_other_spelling_gets_one_line(distill: Callable[..., Any], word: str) -> None:
    ran = distill("distill", *TINY, word)
    line = "distill distill: error: dataset.unlabelled is called dataset.unlabeled now: type dataset.unlabeled=..."
    assert (ran.code, ran.err.splitlines()) == (2, [line])


def test_rows_that_would_teach_nothing_are_refused(distill: Callable[..., Any]) -> None:
    name = write("more.npy")
    assert distill("distill", *TINY, "loss=cross_entropy", f"dataset.unlabeled={name}").err.strip() == (
        "distill distill: error: dataset.unlabeled: the student's loss looks at labels alone, so rows without one would teach it "
        "nothing; choose a loss that listens to a teacher, or leave them out"
    )
    assert distill("distill", *TINY, "sampling=balanced", f"dataset.unlabeled={name}").err.strip() == (
        "distill distill: error: sampling draws rows by their class, and those of dataset.unlabeled have none; use sampling=uniform"
    )
    assert distill("distill", *TINY, "+dataset@dataset.unlabeled=digits", "dataset.unlabeled.label_fraction=0.5").err.strip() == (
        "distill distill: error: dataset.unlabeled.label_fraction=0.5: all training rows of this source are used; leave this key out"
    )
