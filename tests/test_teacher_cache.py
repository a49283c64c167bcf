"""Stored outputs of a teacher: what the table says, what it costs, when it is used, and when it is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, make_pool
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.stored_views import StoredViews
from distill_cli.errors import UserError
from distill_cli.models.classifier import Classifier
from distill_cli.models.cnn1d import CNN1d
from distill_cli.models.mlp import MLP
from distill_cli.rng import seeded
from distill_cli.teachers.frozen import FrozenTeacher, PrecomputedTeacher
from distill_cli.teachers.output_cache import OutputCacheSpec, get_or_compute_outputs, weights_hash
from distill_cli.types import Batch, Pool
from distill_cli.utils import files

CPU = torch.device("cpu")


def network(seed: int = 0) -> Classifier:
    with seeded(seed, "init"):
        return Classifier(MLP(3, (4,), (8,)), "none", (4,))


def cache(folder: Path, **changes: Any) -> OutputCacheSpec:
    return OutputCacheSpec(**{"folder": folder, "parts": {"teacher": "a", "data": "b"}, "max_gb": 1.0, "chunk": 16, **changes})


def rows_of(pool: Pool) -> SubsetLoader:
    return SubsetLoader(pool, 3, CPU)


def test_stored_outputs_are_those_of_the_model_whatever_the_order(tmp_path: Path) -> None:
    model, rows = network(), rows_of(make_pool())
    table, facts = get_or_compute_outputs(cache(tmp_path), model, ["body.1"], StoredViews(rows))
    batch = rows.batch_at(torch.tensor([5, 0, 41, 7]))
    now, then = FrozenTeacher(model, ["body.1"])(batch), table(batch)
    assert torch.allclose(now.logits, then.logits, atol=1e-6)
    assert torch.allclose(now.features["body.1"], then.features["body.1"], atol=1e-6)
    assert facts["bytes"] == 60 * (3 + 8) * 4
    assert (facts["state"], facts["features"]) == ("made", ["body.1"])


def test_a_second_run_finds_what_the_first_has_stored(tmp_path: Path) -> None:
    model, rows = network(), rows_of(make_pool())
    first, _ = get_or_compute_outputs(cache(tmp_path), model, [], StoredViews(rows))
    file = next(tmp_path.glob("*/logits.npy"))
    before = file.stat()
    second, facts = get_or_compute_outputs(cache(tmp_path), model, [], StoredViews(rows))
    batch = rows.batch_at(torch.arange(60))
    assert facts["state"] == "found"
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert torch.equal(first(batch).logits, second(batch).logits)
    assert not list(tmp_path.glob(".*"))


def test_a_lock_file_of_another_user_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: Any, *words: Any, **more: Any) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *words, **more)

    monkeypatch.setattr(os, "open", refuse)
    states = [
        get_or_compute_outputs(cache(tmp_path), network(), [], StoredViews(rows_of(make_pool())))[1]["state"] for _ in range(2)
    ]
    assert states == ["made", "found"]


def test_of_two_that_cannot_lock_the_second_takes_what_the_first_has_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_tables

    def write_twice(*words: Any) -> Path:
        parts = [dict(part) for part in words[3]]
        write(*words[:3], parts, *words[4:])
        return write(*words[:3], parts, *words[4:])

    monkeypatch.setattr(files, "write_tables", write_twice)
    assert get_or_compute_outputs(cache(tmp_path), network(), [], StoredViews(rows_of(make_pool())))[1]["state"] == "found"
    assert not list(tmp_path.glob(".*"))


def test_stored_outputs_are_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_or_compute_outputs(cache(tmp_path), network(), [], StoredViews(rows_of(make_pool())))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert get_or_compute_outputs(cache(tmp_path), network(), [], StoredViews(rows_of(make_pool())))[1]["state"] == "found"


def test_writing_into_a_table_does_not_reach_the_file(tmp_path: Path) -> None:
    rows = rows_of(make_pool())
    table, _ = get_or_compute_outputs(cache(tmp_path), network(), [], StoredViews(rows))
    file = next(tmp_path.glob("*/logits.npy"))
    before = file.read_bytes()
    table._logits.zero_()
    assert file.read_bytes() == before


def test_the_size_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    asked = cache(tmp_path / "new", max_gb=1e-7)
    with pytest.raises(UserError) as caught:
        get_or_compute_outputs(asked, network(), [], StoredViews(rows_of(make_pool())))
    assert str(caught.value) == (
        "cache: the teacher's outputs on 60 rows need 0.00 GiB, and cache.max_gb=1e-07 allows less; set cache.max_gb=0.01, "
        "or let the teacher run in the loop: cache.use=never"
    )
    assert not list((tmp_path / "new").glob("*/*"))


def spoil(folder: Path, how: str) -> None:
    manifest, logits = folder / "manifest.json", folder / "logits.npy"
    content = json.loads(manifest.read_text())
    if how == "stale":
        content["parts"]["data"] = "another"
        manifest.write_text(json.dumps(content))
    elif how == "an older format":
        del content["parts"]["data"]
        manifest.write_text(json.dumps(content))
    elif how == "no manifest":
        manifest.unlink()
    elif how == "damaged manifest":
        manifest.write_text("{")
    elif how == "cut short":
        logits.write_bytes(logits.read_bytes()[:-8])
    elif how == "damaged header":
        logits.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': oops  \n")
    elif how == "missing":
        logits.unlink()
    elif how == "other classes":
        np.save(logits, np.zeros((60, 4), np.float32))
    elif how == "other rows":
        np.save(logits, np.zeros((59, 3), np.float32))
    elif how == "another teacher":
        np.save(logits, np.load(logits) + 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("stale", "it was made with data another, and this run has b"),
        ("an older format", "it was made with data None, and this run has b"),
        ("no manifest", "there is no manifest.json"),
        ("damaged manifest", "manifest.json is damaged"),
        ("cut short", "logits.npy is missing, damaged or cut short"),
        ("damaged header", "logits.npy is missing, damaged or cut short"),
        ("missing", "logits.npy is missing, damaged or cut short"),
        ("other classes", "logits.npy holds [60, 4] of float32, expected [60, 3] of float32"),
        ("other rows", "logits.npy holds [59, 3] of float32, expected [60, 3] of float32"),
        ("another teacher", "its logits are not what this teacher says of these rows"),
    ],
)
def test_what_is_stale_foreign_or_damaged_is_refused_with_the_reason(tmp_path: Path, how: str, said: str) -> None:
    views = StoredViews(rows_of(make_pool()))
    get_or_compute_outputs(cache(tmp_path), network(), [], views)
    folder = next(p for p in tmp_path.iterdir() if p.is_dir())
    spoil(folder, how)
    with pytest.raises(UserError) as caught:
        get_or_compute_outputs(cache(tmp_path), network(), [], views)
    assert str(caught.value) == (
        f"{folder}: these stored outputs of a teacher are refused: {said}; delete the folder, or set cache.use=never"
    )


def test_a_writer_that_dies_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, views = network(), StoredViews(rows_of(make_pool()))
    calls = []

    def die(self: FrozenTeacher, batch: Batch) -> Any:
        calls.append(len(batch.inputs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return model(batch.inputs)

    with monkeypatch.context() as patched:
        patched.setattr(FrozenTeacher, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            get_or_compute_outputs(cache(tmp_path), model, [], views)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    assert get_or_compute_outputs(cache(tmp_path), model, [], views)[1]["state"] == "made"


def test_a_hash_of_weights_sees_values_buffers_and_names() -> None:
    one, same, other = network(0), network(0), network(1)
    assert weights_hash(one) == weights_hash(same) != weights_hash(other)
    prepared = Classifier(one.network, "standardize", (4,))
    before = weights_hash(prepared)
    prepared.preprocessing.mean += 1  # type: ignore[operator]
    assert weights_hash(prepared) != before
    assert weights_hash(one.half()) != weights_hash(same)


# Views


def signal_pool(rows: int = 40) -> Pool:
    return make_pool(rows, 3, (1, 32))


def views_of(pool: Pool, count: int = 3, seed: int = 5) -> StoredViews:
    return StoredViews(rows_of(pool), count, shift=4, alpha=0.4, seed=seed)


def test_the_teacher_says_of_every_batch_what_is_stored(tmp_path: Path) -> None:
    pool = signal_pool()
    with seeded(0, "init"):
        model = Classifier(CNN1d(3, (1, 32), 4, 4), "none", (1, 32))
    table, _ = get_or_compute_outputs(cache(tmp_path), model, ["conv1"], views_of(pool))
    teacher, rows, change = FrozenTeacher(model, ["conv1"]), rows_of(pool), views_of(pool)
    sampler = EpochBatchSampler(pool.y, 16, seed=1)
    inputs = []
    for epoch in range(4):
        seen = {}
        for step, positions in enumerate(sampler.epoch(epoch)):
            batch = change(rows.batch_at(positions), epoch, step)
            now, then = teacher(batch), table(batch)
            assert torch.allclose(now.logits, then.logits, atol=1e-5)
            assert torch.allclose(now.features["conv1"], then.features["conv1"], atol=1e-5)
            seen |= {int(i): x for i, x in zip(batch.index, batch.inputs, strict=True)}
        assert len(seen) == 40
        inputs.append(torch.stack([seen[i] for i in sorted(seen)]))
    assert torch.equal(inputs[0], inputs[3])  # three views, in turn
    assert not torch.equal(inputs[0], inputs[1])


def test_a_view_mixes_inputs_targets_and_labels_with_a_row_of_the_training_set() -> None:
    pool = signal_pool()
    pool = replace(pool, labeled=np.arange(40) % 5 > 0)
    views, rows = views_of(pool), rows_of(pool)
    drawn = views.draws(1)
    assert drawn.partner is not None and drawn.weight is not None
    batch = StoredViews(rows, 3, 0, 0.4, 5).batch(torch.arange(8), 1)  # no shift: by hand
    plain, others = rows.batch_at(torch.arange(40)), drawn.partner[:8]
    w = drawn.weight[:8]
    assert torch.allclose(
        batch.inputs, w[:, None, None] * plain.inputs[:8] + (1 - w[:, None, None]) * plain.inputs[others], atol=1e-6
    )
    assert torch.allclose(batch.target, w[:, None] * plain.target[:8] + (1 - w[:, None]) * plain.target[others], atol=1e-6)
    assert torch.equal(batch.labeled, plain.labeled[:8] * plain.labeled[others])
    assert len(set(drawn.partner.tolist())) > 8  # not partners of one batch
    assert len(set(drawn.weight.tolist())) == 40  # one lambda a row


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), view=st.integers(0, 2), order=st.permutations(range(12)), size=st.integers(1, 12))
def test_an_input_depends_on_seed_view_and_row_and_not_on_its_batch(seed: int, view: int, order: list[int], size: int) -> None:
    pool = make_pool(12, 3, (1, 9), seed=1)
    whole = StoredViews(rows_of(pool), 3, 2, 0.3, seed).batch(torch.arange(12), view)
    some = torch.tensor(order[:size])
    batch = StoredViews(rows_of(pool), 3, 2, 0.3, seed).batch(some, view)
    assert torch.equal(batch.inputs, whole.inputs[some])
    assert torch.equal(batch.target, whole.target[some])


def test_draws_of_a_row_do_not_depend_on_which_other_rows_there_are() -> None:
    pool = signal_pool()
    half = pool.select(np.arange(0, 40, 2))
    all_drawn, half_drawn = views_of(pool).draws(2), views_of(half).draws(2)
    assert torch.equal(all_drawn.offsets[::2], half_drawn.offsets)
    assert torch.equal(all_drawn.weight[::2], half_drawn.weight)


def test_other_seeds_and_views_draw_otherwise() -> None:
    pool = signal_pool()
    weights = [views_of(pool, seed=seed).draws(view).weight for seed in (0, 1) for view in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_a_table_knows_its_views() -> None:
    table = PrecomputedTeacher(2, torch.tensor([[0.0], [1.0], [10.0], [11.0]]))
    batch = Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.tensor([3, 7]), torch.ones(2), position=torch.tensor([1, 0]))
    assert table(batch).logits.tolist() == [[1.0], [0.0]]
    assert table(replace(batch, view=1)).logits.tolist() == [[11.0], [10.0]]


# Whole runs


def tables(folder: str = "outputs/cache") -> list[Path]:
    return sorted(p for p in Path(folder).glob("*") if p.is_dir())


@pytest.mark.slow
def test_a_second_seed_reuses_the_stored_outputs_and_a_copy_from_elsewhere_is_refused(distill: Any) -> None:
    first, second = distill("distill", *TINY), distill("distill", *TINY, "seed=1")
    assert first.report["cache"]["state"] == "made"
    assert second.report["cache"] == {**first.report["cache"], "state": "found"}
    assert len(tables()) == 1
    assert "found stored: logits" in (second.folder / "report.md").read_text()
    other = distill("distill", *TINY, "teacher.seed=1")
    assert other.report["cache"]["state"] == "made"
    mine = Path(other.report["cache"]["folder"])
    for file in tables()[0].iterdir():
        shutil.copy(file, mine / file.name) if tables()[0] != mine else shutil.copy(file, tables()[1] / file.name)
    refused = [distill("distill", *TINY, f"teacher.seed={seed}") for seed in (0, 1)]
    assert sorted(ran.code for ran in refused) == [0, 2]
    assert "are refused: it was made with teacher " in "".join(ran.err for ran in refused)


def test_stored_outputs_teach_what_the_teacher_in_the_loop_teaches(distill: Any) -> None:
    stored, looped = (distill("distill", *TINY, *words) for words in ((), ("cache.use=never",)))
    assert looped.report["cache"] == {"state": "in the loop", "views": 0}
    a, b = (ran.report["terms"]["loss"]["value"] for ran in (stored, looped))
    assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_views_are_stored_reported_and_seen_by_the_control(distill: Any) -> None:
    words = (*TINY, "epochs=3", "mixup=beta")
    stored = distill("distill", *words, "cache.views=2")
    looped = distill("distill", *words, "cache.views=2", "cache.use=never")
    plain = distill("distill", *words)
    assert (stored.report["cache"]["state"], stored.report["cache"]["views"]) == ("made", 2)
    assert looped.report["cache"] == {"state": "in the loop", "views": 2}
    assert plain.report["cache"] == {"state": "in the loop", "views": 0}
    assert "saw 2 stored views of each training row" in (stored.folder / "report.md").read_text()
    assert "stored views" not in (plain.folder / "report.md").read_text()

    def of(ran: Any, model: str) -> dict[str, Any]:
        return ran.report["models"][model]["test"]["confusion"]

    assert of(stored, "scratch") == of(looped, "scratch")  # the control's inputs are the views, whoever computes the teacher
    a, b = (ran.report["terms"]["loss"]["value"] for ran in (stored, looped))
    assert a == pytest.approx(b, rel=1e-4)
    assert a != pytest.approx(plain.report["terms"]["loss"]["value"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cache.max_gb=0",), "cache: the teacher's outputs on 1,078 rows need 0.00 GiB, and cache.max_gb=0 allows less; "
         "set cache.max_gb=0.01, or let the teacher run in the loop: cache.use=never"),
        (("cache.views=3",), "cache.views=3: inputs are neither augmented nor mixed, so that all views are the same; "
         "choose augment= or mixup=, or set cache.views=0"),
        (("cache.views=-1",), "cache.views=-1: must be >= 0"),
        (("cache.use=always",), "cache.use=always: expected auto or never"),
        (("cache.folder=",), "cache.folder is empty: name a folder"),
        (("+teacher.cache=false",), "teacher.cache is called cache.use now: type cache.use=auto|never"),
        (("teacher.cache=false",), "teacher.cache is called cache.use now: type cache.use=auto|never"),
    ],
)  # fmt: skip
def test_wrong_settings_end_before_a_teacher_is_trained(distill: Any, words: tuple[str, ...], said: str) -> None:
    ran = distill("distill", *TINY, *words)
    assert ran.err.splitlines()[-1] == f"distill distill: error: {said}"
    assert ran.code == 2
    assert not Path("outputs/teachers").exists()
