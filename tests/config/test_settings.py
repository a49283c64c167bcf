"""Typed settings: what they are made of, and that they give back the config that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plain_config import BASE, CONFIG, TEACHER, TRAINING, settings

from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.config.settings.run import TeacherRunSettings
from distill_cli.config.settings.run_commands import EvalSettings, ExportSettings
from distill_cli.config.settings.teacher import FinishedModel, FromLogits, FromRuns, FromWeights, TrainHere
from distill_cli.config.settings.training import TRAINING_KEYS, split_epochs
from distill_cli.errors import UserError

STAGES = {
    "hint": {"epochs": 4, "loss": {"_target_": "my.Hint", "features": ["a"]}, "optimizer": {"lr": 0.5}, "train": ["a"]},
    "rest": {"epochs": 6, "loss": {"alpha": 0.1}, "terms": None},
}


def of_teacher(**changes: Any) -> Any:
    return settings(teacher={**TEACHER, **changes}).teacher.source


def test_a_training_gives_back_the_keys_that_it_was_made_of() -> None:
    assert settings().training.to_config() == TRAINING
    assert list(TRAINING) == list(TRAINING_KEYS)


def test_no_stages_are_one_that_is_the_whole_training() -> None:
    (stage,) = settings().stages
    assert (stage.name, stage.epochs, stage.config_path) == ("train", 10, "")
    assert stage.losses.loss == CONFIG["loss"] and stage.optimizer == TRAINING["optimizer"]


def test_a_stage_has_from_the_run_what_it_leaves_out() -> None:
    hint, rest = settings(stages=STAGES).stages
    assert hint.losses.loss == {"_target_": "my.Hint", "features": ["a"]}  # another loss: nothing of the run's
    assert hint.optimizer == {"_target_": "torch.optim.Adam", "lr": 0.5} and hint.train == ("a",)
    assert rest.losses.loss == {**CONFIG["loss"], "alpha": 0.1} and rest.train is None
    assert (rest.config_path, rest.losses.terms) == ("stages.rest.", {})


def test_a_teacher_has_the_kind_that_its_keys_choose() -> None:
    (here,) = of_teacher()
    assert isinstance(here, TrainHere) and here.seed == 3
    assert here.key_parts() == {key: TEACHER[key] for key in here.key_parts()}
    assert [m.seed for m in of_teacher(ensemble={"size": 3, "average": "logits", "weights": None})] == [3, 4, 5]
    assert of_teacher(run="a") == FromRuns((FinishedModel("a", "teacher"),))
    listed = of_teacher(run=["a", "b"], run_model=["teacher", "student"])
    assert listed == FromRuns(
        (FinishedModel("a", "teacher", "teacher.run.0"), FinishedModel("b", "student", "teacher.run.1")), listed=True
    )
    assert isinstance(of_teacher(weights="w.pt"), FromWeights)
    assert of_teacher(logits_file="o.npy", logits_kind="probabilities") == FromLogits(Path("o.npy"), "probabilities")


def test_a_member_is_trained_by_a_config_of_one_teacher() -> None:
    whole = settings(teacher={**TEACHER, "ensemble": {"size": 2, "average": "logits", "weights": [1.0, 2.0]}})
    alone = whole.for_member(1).resolved["teacher"]
    assert alone == {**TEACHER, "seed": 4}
    assert settings().for_member(0).resolved == CONFIG


def test_only_the_teachers_part_of_a_config_is_read_to_train_one() -> None:
    config = {**CONFIG, "student": None, "loss": None, "stages": 7}
    assert TeacherRunSettings.from_config(config).teacher.seed == 3


def test_a_control_has_the_students_training_but_for_its_changes() -> None:
    run = settings(controls=["scratch", {"name": "long", "epochs": 20, "optimizer": {"lr": 0.1}}])
    scratch, long = run.controls
    assert scratch.training == run.training and scratch.match_epochs and scratch.match_steps
    assert long.training == run.training.changed({"epochs": 20, "optimizer": {"lr": 0.1}})
    assert (long.match_epochs, long.match_steps) == (False, True)
    assert long.stages[0].epochs == 20 and long.stages[0].optimizer == {"_target_": "torch.optim.Adam", "lr": 0.1}


def test_a_control_shares_its_epochs_among_the_stages_or_has_one() -> None:
    shared, one = settings(stages=STAGES, controls=[{"name": "a", "epochs": 5}, {"name": "b", "stages": {}}]).controls
    assert [stage.epochs for stage in shared.stages] == [2, 3]
    assert [(stage.name, stage.epochs) for stage in one.stages] == [("train", 10)]
    with pytest.raises(UserError, match=r"controls.a.epochs=1: the run has 2 stages"):
        settings(stages=STAGES, controls=[{"name": "a", "epochs": 1}])


def test_epochs_are_shared_in_proportion_and_none_is_left_out() -> None:
    assert split_epochs(10, [1, 1, 100], "a") == [1, 1, 8]


def test_a_generation_is_a_run_of_its_own() -> None:
    (link,) = settings(generations=[{"name": "middle", "epochs": 2}]).generations
    assert (link.name, link.run.training.epochs, link.run.controls, link.run.seed) == ("middle", 2, (), 1003)
    source = link.with_teacher(Path("somewhere"), "student").run.teacher.source
    assert source == FromRuns((FinishedModel("somewhere", "student"),))


def test_a_data_set_is_a_component_and_what_is_used_of_it() -> None:
    data = DatasetSettings.from_config(CONFIG["dataset"])
    assert data.component == {"_target_": "distill_cli.data.digits.digits", "split_seed": 1}
    assert (data.rows.label_fraction, data.rows.exclude_classes, data.split_seed) == (0.5, (), 1)
    assert data.resolved == CONFIG["dataset"]


def test_precision_is_a_word() -> None:
    assert settings().runtime.device.precision == "32"


def test_a_run_command_keeps_null_for_what_the_run_says() -> None:
    config = {
        **BASE, "run": "folder", "dataset": None, "split": "val", "eval_batch_size": None,
        "bootstrap": {"resamples": None, "seed": None},
    }  # fmt: skip
    own = EvalSettings.from_config(config)
    assert (own.split, own.runtime.eval_batch_size, own.runtime.bootstrap.seed) == ("val", None, None)
    hidden = own.without_samples()
    assert not hidden.runtime.report.samples and hidden.resolved["report"] == {"html": False, "plots": True, "samples": False}
    own = ExportSettings.from_config({**config, "format": "onnx", "runtime": "cdn", "model_name": "student"})
    assert (own.format, own.runtime_source, own.runtime.device.name) == (("onnx",), "cdn", "cpu")
