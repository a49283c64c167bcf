"""Whole runs on the embedded digits: what a run folder holds, and what its report may be trusted for."""

from __future__ import annotations

import csv
import html
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Ran
from plain_config import CONFIG, TEACHER, settings
from safetensors.torch import load_file, save_file

from distill_cli.data.digits import digits
from distill_cli.pipeline.run_name import run_name
from distill_cli.reports.run import more_seeds

Distill = Callable[..., Ran]
TIMES = ("latency_ms", "train_seconds", "samples_per_second", "provenance", "config", "budget", "command")


def scores(report: dict[str, Any]) -> dict[str, Any]:
    """All of a report that does not depend on the clock."""
    models = {name: {k: v for k, v in m.items() if k not in TIMES} for name, m in report["models"].items()}
    return {"models": models, "comparison": report["comparison"], "verdict": report["verdict"]}


@pytest.fixture
def ran(distill: Distill) -> Ran:
    result = distill("distill", *TINY)
    assert result.code == 0, result.err
    return result


def test_a_run_folder_holds_what_the_readme_says(distill: Distill) -> None:
    ran = distill("distill", *TINY, "report.html=true")
    assert ran.code == 0, ran.err
    files = {str(p.relative_to(ran.folder)) for p in ran.folder.rglob("*") if p.is_file() and ".hydra" not in p.parts}
    assert files == {
        "report.json", "report.md", "report.html", "samples.json", "config.yaml", "metrics.csv", "teacher_metrics.csv", "predictions.csv", "distill.log",
        "plots/classes.png", "plots/confusion.png", "plots/curves.png", "plots/reliability.png",
        *(f"checkpoint/{n}" for n in ("model.json", "signature.json", "teacher.safetensors", "student.safetensors", "scratch.safetensors",
                                      "rows/teacher.safetensors", "rows/student.safetensors", "rows/scratch.safetensors")),
    }  # fmt: skip
    report = ran.report
    for model in ("teacher", "student", "scratch"):
        for split in ("val", "test"):
            assert 0 <= report["models"][model][split]["macro_f1"] <= 1
            low, high = report["models"][model][split]["macro_f1_ci95"]
            assert low <= high
        assert report["models"][model]["parameters"] > 0
    assert sum(report["data"]["class_counts"]["test"].values()) == report["models"]["student"]["test"]["n"]
    assert "one seed" in report["verdict"]
    assert report["budget"]["control_steps"]["scratch"] == report["budget"]["student_steps"]
    assert report["provenance"]["command_line"].startswith("distill distill device=cpu")
    assert report["name"] == "digits: MLP from MLP, soft_target"  # with widths of their own
    assert "distill distill device=cpu" in (again := (ran.folder / "report.md").read_text()) and "-m seed=5,6,7,8,9" in again


def test_a_run_is_named_by_its_data_and_its_options() -> None:
    small = {"_target_": "distill_cli.models.mlp.MLP", "hidden": [16], "dropout": 0.0, "input_dropout": 0.0, "max_norm": None}
    large = {**small, "hidden": [256, 256], "dropout": 0.3}
    loss = {"_target_": "distill_cli.losses.dkd.DKD", "beta": 3.0}
    run = settings(
        teacher={**TEACHER, "model": large}, student={**CONFIG["student"], "model": small}, loss=loss,
        terms={"x": {"_target_": "mine.Odd"}}, generations=[{"name": "assistant"}],
    )  # fmt: skip
    assert run_name(run, "distill", "wine") == "wine: mlp_small from assistant from mlp, dkd + Odd"
    assert run_name(run, "train-teacher", "wine") == "wine: mlp"
    three = {**TEACHER, "model": small, "ensemble": {**TEACHER["ensemble"], "size": 3}}
    student = {**CONFIG["student"], "model": {**small, "hidden": [8]}}
    assert run_name(settings(teacher=three, student=student, loss=loss), "distill", "wine") == "wine: MLP from 3 x mlp_small, dkd"
    table = {**TEACHER, "logits_file": "files/logits.npy"}
    assert run_name(settings(teacher=table, student=student, loss=loss), "distill", "wine") == "wine: MLP from logits.npy, dkd"


def test_the_same_seed_gives_the_same_report_and_another_seed_does_not(ran: Ran, distill: Distill) -> None:
    again, other = distill("distill", *TINY), distill("distill", *TINY, "seed=1")
    assert scores(again.report) == scores(ran.report)
    assert scores(other.report)["models"]["student"]["test"] != scores(ran.report)["models"]["student"]["test"]
    weights = [load_file(r.folder / "checkpoint/student.safetensors") for r in (ran, again)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_eval_gives_the_same_scores_to_the_last_digit(ran: Ran, distill: Distill) -> None:
    evaluated = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false")
    assert evaluated.code == 0, evaluated.err
    assert scores(evaluated.report) == scores(ran.report)
    assert evaluated.report["source_run"] == str(ran.folder)


def test_reported_scores_are_those_of_the_weights_on_disk(ran: Ran, distill: Distill) -> None:
    path = ran.folder / "checkpoint/student.safetensors"
    save_file({k: torch.zeros_like(v) for k, v in load_file(path).items()}, path)
    evaluated = distill("eval", f"run={ran.folder}", "device=cpu", "report.html=false").report["models"]
    assert evaluated["student"]["test"]["macro_f1"] < 0.1
    assert evaluated["scratch"]["test"]["macro_f1"] == ran.report["models"]["scratch"]["test"]["macro_f1"]


def test_the_best_epoch_is_that_of_metrics_csv(ran: Ran) -> None:
    with open(ran.folder / "metrics.csv", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["model"] == "student"]
    best = max(rows, key=lambda r: float(r["val.macro_f1"]))
    assert ran.report["models"]["student"]["best_epoch"] == int(best["epoch"])
    assert ran.report["models"]["student"]["val"]["macro_f1"] == pytest.approx(float(best["val.macro_f1"]), abs=1e-12)
    assert float(rows[0]["term.loss"]) == pytest.approx(float(rows[0]["loss"]))


def test_predictions_are_those_that_were_scored(ran: Ran) -> None:
    with open(ran.folder / "predictions.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    right = np.mean([r["true"] == r["student"] for r in rows])
    assert right == pytest.approx(ran.report["models"]["student"]["test"]["accuracy"])


def test_student_and_control_start_from_the_same_weights_and_differ_by_the_loss_alone(distill: Distill) -> None:
    report = distill("distill", *TINY, "loss=cross_entropy").report
    assert report["models"]["student"]["test"] == report["models"]["scratch"]["test"]


def test_a_control_makes_as_many_steps_where_the_students_patience_runs_out(distill: Distill) -> None:
    report = distill("distill", *TINY, "epochs=12", "early_stopping.patience=1", "optimizer.lr=0.05").report
    assert report["models"]["student"]["epochs"] < 12
    assert report["budget"]["control_steps"]["scratch"] == report["budget"]["student_steps"]


def test_classes_that_are_hidden_may_not_decide_what_is_drawn(distill: Distill) -> None:
    ran = distill("distill", *TINY, "dataset.label_fraction=0.1", "sampling=balanced")
    assert ran.code == 2
    assert "with dataset.label_fraction < 1 most classes are unknown; use sampling=uniform" in ran.err


def test_labels_seen_are_none_where_no_term_looks_at_them(distill: Distill) -> None:
    report = distill("distill", *TINY, "loss=kl_mae").report
    assert report["models"]["student"]["labeled_samples_seen"] == 0
    assert report["models"]["scratch"]["labeled_samples_seen"] > 1000


def test_a_score_on_rows_that_were_trained_on_says_so(ran: Ran, distill: Distill) -> None:
    moved = distill("eval", f"run={ran.folder}", "dataset.split_seed=5", "device=cpu", "report.html=false")
    before, after = (digits(split_seed=seed) for seed in (0, 5))
    counts = {split: int(np.isin(after.pools[split].index, before.train.index).sum()) for split in ("val", "test")}
    rows = ", ".join(f"{n} of {len(after.pools[split])} rows of {split}" for split, n in counts.items())
    assert moved.report["data"]["trained_on"]["student"] == counts
    first = moved.out.splitlines()[0]
    assert first.startswith(
        f"run {ran.folder}, seed 0; NOT on the data of the run: fingerprint {after.fingerprint}, the run's is "
    )
    assert f"student was trained on {rows}" in first and f"student was trained on {rows}" in moved.report["data"]["notes"]
    assert moved.report["verdict"].startswith("NOT on the data of the run")
    train = distill("eval", f"run={ran.folder}", "split=train", "device=cpu", "report.html=false")
    assert "these rows were trained on" in train.report["data"]["notes"][0]
    assert train.report["models"]["student"]["train"]["macro_f1"] > 0


def test_a_named_control_differs_as_it_says(distill: Distill) -> None:
    report = distill("distill", *TINY, "controls=[scratch,{name: longer, epochs: 4, optimizer: {lr: 0.02}}]").report
    assert report["budget"]["control_steps"]["longer"] == 2 * report["budget"]["control_steps"]["scratch"]
    assert {"scratch", "longer"} == set(report["comparison"])


def test_two_losses_compose_and_each_is_reported(distill: Distill) -> None:
    report = distill("distill", *TINY, "+loss@terms.mse=logits_mse", "terms.mse.weight=0.5").report
    assert set(report["terms"]) == {"loss", "mse"}
    assert report["terms"]["mse"]["weight"] == 0.5
    assert report["terms"]["mse"]["value"] > 0


# Teachers


def test_a_finished_teacher_is_found_and_another_config_trains_another(ran: Ran, distill: Distill) -> None:
    found = distill("distill", *TINY, "seed=3")
    assert found.report["teacher_source"].startswith("found outputs/train-teacher/")
    other = distill("distill", *TINY, "teacher.epochs=3")
    assert other.report["teacher_source"].startswith("trained")
    assert "training one" in other.err


def test_train_teacher_leaves_what_distill_finds(distill: Distill) -> None:
    trained = distill("train-teacher", *(word for word in TINY if word.startswith(("teacher.", "device", "bootstrap"))))
    assert trained.code == 0, trained.err
    assert set(trained.report["models"]) == {"teacher"}
    found = distill("distill", *TINY)
    assert found.report["teacher_key"] == trained.report["teacher_key"]
    assert found.report["teacher_source"] == f"found {trained.folder.relative_to(Path.cwd())}"
    assert found.report["models"]["teacher"]["test"] == trained.report["models"]["teacher"]["test"]


def test_a_checkpoint_teaches_as_the_found_teacher_does(ran: Ran, distill: Distill) -> None:
    given = distill("distill", *TINY, f"teacher.run={ran.folder}")
    assert given.report["models"]["student"]["test"] == ran.report["models"]["student"]["test"]
    assert given.report["teacher_source"] == f"run {ran.folder}"


def test_foreign_weights_with_other_names_and_class_order_teach_the_same(ran: Ran, distill: Distill, tmp_path: Path) -> None:
    tensors = load_file(ran.folder / "checkpoint/teacher.safetensors")
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    foreign = {k.replace("network.", "module."): v for k, v in tensors.items()}
    for name in ("module.head.weight", "module.head.bias"):
        foreign[name] = foreign[name][order]
    names = "[" + ",".join(f"'{c}'" for c in order) + "]"
    for path in (tmp_path / "foreign.safetensors", tmp_path / "foreign.pt"):
        save_file(foreign, path) if path.suffix == ".safetensors" else torch.save(foreign, path)
        given = distill(
            "distill", *TINY, f"teacher.weights={path}", "+teacher.rename={module.: ''}", f"teacher.class_order={names}"
        )
        assert given.code == 0, given.err
        for model in ("teacher", "student"):  # a matrix product with its columns in another order may differ in the last digits
            wanted, got = (r.report["models"][model]["test"] for r in (ran, given))
            assert got["macro_f1"] == pytest.approx(wanted["macro_f1"], rel=1e-6)
            assert got["nll"] == pytest.approx(wanted["nll"], rel=1e-6)
    again = distill("eval", f"run={given.folder}", "device=cpu", "report.html=false", "bootstrap.resamples=50")
    assert scores(again.report) == scores(given.report)


def test_foreign_outputs_by_row_id_teach_the_same(ran: Ran, distill: Distill, tmp_path: Path) -> None:
    from distill_cli.data.digits import digits
    from distill_cli.data.loader import SubsetLoader
    from distill_cli.runs.checkpoint import load_model
    from distill_cli.training.trainer import predict

    data, (teacher, _) = digits(), load_model(ran.folder, "teacher")
    table = {}
    for pool in data.pools.values():
        logits = predict(teacher, SubsetLoader(pool, 10, torch.device("cpu")), 256)
        table |= dict(zip(pool.index.tolist(), logits.softmax(1).double().numpy(), strict=True))
    values = np.stack([table[i] for i in range(len(table))])
    np.save(tmp_path / "outputs.npy", values)
    given = distill("distill", *TINY, f"teacher.logits_file={tmp_path / 'outputs.npy'}", "teacher.logits_kind=probabilities")
    assert given.code == 0, given.err
    assert given.report["models"]["teacher"]["test"]["accuracy"] == ran.report["models"]["teacher"]["test"]["accuracy"]
    mine, theirs = (r.report["models"]["student"]["test"]["nll"] for r in (given, ran))
    assert mine == pytest.approx(theirs, rel=1e-3)


def test_a_teacher_that_saw_the_students_test_rows_is_refused(ran: Ran, distill: Distill) -> None:
    leaky = distill("distill", *TINY, "dataset.split_seed=1", f"teacher.run={ran.folder}")
    assert leaky.code == 2
    assert "its training rows hold" in leaky.err and "of the student's val split" in leaky.err
    assert len(leaky.err.strip().splitlines()) == 1


# Labels


def test_a_label_fraction_holds_for_all_models_and_steps_stay_equal(distill: Distill) -> None:
    report = distill("distill", *TINY, "dataset.label_fraction=0.1").report
    seen = {m["labeled_samples_seen"] for m in report["models"].values()}
    assert len(seen) == 1 and 100 <= seen.pop() <= 120
    assert report["budget"]["control_steps"]["scratch"] == report["budget"]["student_steps"]
    assert report["models"]["teacher"]["steps"] < report["budget"]["student_steps"]


def test_the_teacher_may_see_more_labels(distill: Distill) -> None:
    report = distill("distill", *TINY, "dataset.label_fraction=0.1", "teacher.label_fraction=1.0").report
    assert report["models"]["teacher"]["labeled_samples_seen"] > 1000 > report["models"]["student"]["labeled_samples_seen"]


def test_classes_left_out_on_purpose_reach_neither_student_nor_control(distill: Distill) -> None:
    report = distill("distill", *TINY, "dataset.exclude_classes=[3]", "epochs=6").report
    assert report["models"]["scratch"]["test"]["per_class"]["3"]["f1"] == 0
    assert report["models"]["scratch"]["labeled_samples_seen"] < report["models"]["teacher"]["labeled_samples_seen"]
    assert report["models"]["teacher"]["test"]["per_class"]["3"]["f1"] > 0


# The gate, json, sweeps


def test_json_is_alone_on_stdout_and_is_the_report(distill: Distill) -> None:
    ran = distill("distill", *TINY, "--json")
    report = json.loads(ran.out)
    assert report["models"]["student"]["test"]["macro_f1"] > 0


def test_a_teacher_without_a_record_of_its_rows_is_refused(ran: Ran, distill: Distill) -> None:
    (ran.folder / "checkpoint/rows/teacher.safetensors").unlink()
    refused = distill("distill", *TINY, f"teacher.run={ran.folder}")
    assert refused.code == 2
    assert "nobody can tell what this teacher was trained on" in refused.err


def test_a_control_as_a_teacher_is_checked_for_leaks_too(ran: Ran, distill: Distill) -> None:
    line = (f"teacher.run={ran.folder}", "teacher.run_model=scratch")
    assert distill("distill", *TINY, *line).code == 0
    assert "its training rows hold" in distill("distill", *TINY, *line, "dataset.split_seed=5").err


@pytest.mark.parametrize(("bound", "code"), [("0.0", 0), ("1.1", 3)])
def test_the_gate(distill: Distill, bound: str, code: int) -> None:
    ran = distill("distill", *TINY, f"require.macro_f1={bound}")
    assert ran.code == code
    assert ran.report["models"]["student"]["test"]["macro_f1"] >= 0
    assert ("missed" in ran.err) == bool(code)


@pytest.mark.slow
def test_a_sweep_skips_what_is_finished_and_its_table_speaks_over_seeds(distill: Distill) -> None:
    line = ("distill", *TINY, "-m", "seed=0,1,2,3,4")
    first = distill(*line)
    assert first.code == 0, first.err
    assert "5 runs: 5 finished" in first.out
    assert any(w in first.out for w in ("helped", "no evidence", "hurt"))
    jobs = sorted(Path("outputs/sweeps").glob("*/*/report.json"))
    assert len(jobs) == 5
    assert len({json.loads(j.read_text())["teacher_key"] for j in jobs}) == 1
    shutil.rmtree(jobs[0].parent)
    second = distill(*line)
    assert second.out.count("skip ") == 4
    assert len(sorted(Path("outputs/sweeps").glob("*/*/report.json"))) == 5


def test_a_bad_job_leaves_the_others_alone_and_is_named(distill: Distill) -> None:
    ran = distill("distill", *TINY, "-m", "loss.temperature=2,-1")
    assert ran.code == 2
    assert "loss: temperature must be > 0, got -1" in ran.err
    assert "2 runs: 1 finished, 1 failed" in ran.out
    assert len(list(Path("outputs/sweeps").glob("*/*/report.json"))) == 1


def test_a_csv_of_outputs_is_read_by_names_and_numbers(tmp_path: Path) -> None:
    from distill_cli.config.settings.teacher import FromLogits
    from distill_cli.data.arrays import from_arrays
    from distill_cli.errors import UserError
    from distill_cli.teachers.external import load_outputs

    part = (np.zeros((2, 1)), [1, 2])
    dataset, path = from_arrays("mine", part, part, part), tmp_path / "o.csv"
    source = FromLogits(path)

    def error(text: str) -> str:
        path.write_text(text)
        with pytest.raises(UserError) as e:
            load_outputs(source, dataset)
        return str(e.value).removeprefix(f"teacher.logits_file={path}: ")

    path.write_text("2.0;note;row;1.0\n0.5;x;3.0;-1\n7;y;0;1e-3\n")
    index, values = load_outputs(source, dataset)
    assert index.tolist() == [3, 0] and values.tolist() == [[-1.0, 0.5], [np.float32(1e-3), 7.0]]
    assert error("row,1,2\n0,1,x\n") == "line 2, column '2': 'x' is not a number; features must be numeric"
    assert error("row,1,2\n0.5,1,2\n") == "line 2, column 'row': row id '0.5' is no whole number >= 0"
    assert error("row,1,2\n1,1,2\n1.0,1,2\n") == "row ids must be whole numbers >= 0, each once"
    assert error("row,1,3\n0,1,2\n") == "lacks the column '2'; it needs 'row' and one column a class"


SMALL = (
    "experiment=smoke", "dataset.n=600", "epochs=1", "teacher.epochs=1", "bootstrap.resamples=20", "device=cpu", "report.plots=false",
)  # fmt: skip


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A folder of configs with a network, and with a name that a shell reads as two words."""
    (tmp_path / "my configs" / "model").mkdir(parents=True)
    text = "_target_: distill_cli.models.mlp.MLP\nhidden: [4]\n"
    (tmp_path / "my configs" / "model" / "tiny.yaml").write_text(text)
    return tmp_path / "my configs"


@pytest.mark.slow
def test_a_pasted_line_runs_again(distill: Distill, configs: Path) -> None:
    typed = ["distill", *SMALL, "--config-dir", configs.name, "student=tiny", "hydra.run.dir=größe 1", "teacher.optimizer=sgd"]
    ran = distill(*typed)
    folder = Path("größe 1")
    line = json.loads((folder / "report.json").read_text())["provenance"]["command_line"]
    assert shlex.split(line) == ["distill", *typed]
    assert line in (folder / "report.md").read_text()
    several = more_seeds.command_line(json.loads((folder / "report.json").read_text()))
    assert several is not None and several in html.unescape((folder / "report.html").read_text())
    folder.rename("first")
    again = distill(*shlex.split(line)[1:])
    assert again.code == ran.code == 0
    first, second = (json.loads(Path(place, "report.json").read_text()) for place in ("first", folder))
    assert first["models"]["student"]["test"] == second["models"]["student"]["test"]
    assert several.endswith(more_seeds.SEEDS)
    assert distill(*shlex.split(several.replace(more_seeds.SEEDS, "seed=5"))[1:], "report.html=false").code == 0
    (path,) = Path("outputs/sweeps").glob("*/*/report.json")
    report = json.loads(path.read_text())
    assert report["seed"] == 5 and report["config"]["student"]["model"]["hidden"] == [4]


@pytest.mark.slow
def test_a_pasted_line_of_a_sweep_finds_it_and_a_job_runs_alone(distill: Distill, configs: Path) -> None:
    typed = [
        "distill", "-m", *SMALL, "--config-dir=my configs", "student=tiny,mlp_small", "teacher.optimizer=adam",
        "hydra.sweep.dir=größe 1", "hydra.sweep.subdir=job ${hydra.job.num}", "sweep=s", "controls=[]",
    ]  # fmt: skip
    assert distill(*typed).code == 0
    report = json.loads(Path("größe 1/job 1/report.json").read_text())
    lines = report["provenance"]
    assert shlex.split(lines["sweep_command_line"]) == ["distill", *typed]
    for place in ("größe 1", "größe 1/job 1"):
        assert lines["sweep_command_line"] in html.unescape(Path(place, "report.html").read_text())
    again = distill(*shlex.split(lines["sweep_command_line"])[1:])
    assert again.code == 0 and again.out.count("(finished)") == 2
    assert shlex.split(lines["command_line"]) == [
        "distill", "distill", *SMALL, "--config-dir=my configs", "student=mlp_small", "teacher.optimizer=adam", "controls=[]",
    ]  # fmt: skip
    alone = distill(*shlex.split(lines["command_line"])[1:])
    assert alone.code == 0 and alone.report["models"]["student"]["test"] == report["models"]["student"]["test"]
