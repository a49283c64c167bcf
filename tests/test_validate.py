"""Validation: every shipped option is sound, and every slip is one line that says what and where."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from distill_cli.cli import hydra_app  # noqa: F401  (registers resolvers and schema)
from distill_cli.config.error_messages import HYDRA14
from distill_cli.config.instantiate import instantiate_component
from distill_cli.config.options import RUN_COMMANDS, conf_dir, options
from distill_cli.config.validation.check import check, check_component, check_trusted, load_config
from distill_cli.errors import UserError

SHIPPED = options([conf_dir()])


def compose(command: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(conf_dir()), **({} if HYDRA14 else {"version_base": "1.3"})):
        return hydra.compose(command, list(overrides))


def line(command: str, *overrides: str, typed: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as error:
        check(compose(command, *overrides), command, list(typed))
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what is shipped ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "choice"),
    [
        (command, f"{group}={option}")
        for command, left_out in (("distill", {"model"}), ("train-teacher", {"model", "loss", "stages"}))
        for group, files in SHIPPED.items()
        for option in files
        if group not in left_out
    ],
)
def test_every_option_of_every_group_composes_and_fits_its_target(command: str, choice: str) -> None:
    side, _, option = choice.partition("=")
    extra = [f"{side}.model._target_=torch.nn.Identity"] if option == "custom" else []
    if choice == "dataset=csv":
        extra = ["dataset.path=table.csv"]
    if choice == "dataset=npy_files":
        extra = ["dataset.root=folder"]
    if side == "loss" and OmegaConf.is_missing(OmegaConf.load(conf_dir() / side / f"{option}.yaml"), "features"):
        extra = ["loss.features=[body.0,body.0]"]
    if choice == "stages=hint_then_soft_target":
        extra = ["stages.hint.loss.features=[body.0,body.0]"]
    cfg = compose(command, choice, *extra)
    check(cfg, command)
    if command == "distill" and option != "custom":
        check_trusted(OmegaConf.to_container(cfg, resolve=True), "config.yaml")


@pytest.mark.parametrize("option", [o for o in SHIPPED["model"] if o != "custom"])
def test_an_architecture_serves_both_sides(option: str) -> None:
    cfg = compose("distill", f"teacher={option}", f"student={option}")
    assert cfg.teacher.model == cfg.student.model


@pytest.mark.parametrize("command", ["distill", "train-teacher", *RUN_COMMANDS])
def test_a_command_without_overrides_is_sound(command: str) -> None:
    check(
        compose(
            command, *(["run=outputs"] if command in RUN_COMMANDS else []), *(["input=x.csv"] if command == "predict" else [])
        ),
        command,
    )


def test_a_teacher_option_brings_an_optimizer_of_its_own() -> None:
    cfg = compose("distill", "optimizer@teacher.optimizer=sgd")
    assert cfg.teacher.optimizer._target_ == "torch.optim.SGD"
    assert cfg.optimizer._target_ == "torch.optim.Adam"


def test_seeds_of_students_share_a_teacher_and_train_teacher_moves_it() -> None:
    assert compose("distill", "seed=3").teacher.seed == 0
    assert compose("train-teacher", "seed=3").teacher.seed == 3


# --- what a preset sets holds for its option ---------------------------------------------------------------------


def own(group: str, option: str) -> dict:
    return {
        key: value for key, value in OmegaConf.to_container(OmegaConf.load(SHIPPED[group][option])).items() if key != "defaults"
    }


OTHER_OPTIONS = [
    ("digits", "loss=dkd", "loss", ("loss", "dkd")),
    ("digits", "loss=dist", "loss", ("loss", "dist")),
    ("digits", "loss=cross_entropy", "loss", ("loss", "cross_entropy")),
    ("digits", "optimizer=sgd", "optimizer", ("optimizer", "sgd")),
    ("fitnets", "student=cnn2d", "student.model", ("model", "cnn2d")),
    ("fitnets", "model@student.model=mlp", "student.model", ("model", "mlp")),
    ("fitnets", "stages=none", "stages", ("stages", "none")),
    ("self_distillation", "teacher=cnn2d", "teacher.model", ("model", "cnn2d")),
    ("smoke", "optimizer@teacher.optimizer=sgd", "teacher.optimizer", ("optimizer", "sgd")),
    ("heartbeat_best", "loss=dkd", "loss", ("loss", "dkd")),
]


@pytest.mark.parametrize(("experiment", "choice", "place", "option"), OTHER_OPTIONS)
def test_another_option_has_its_own_values_beside_an_experiment(
    experiment: str, choice: str, place: str, option: tuple[str, str]
) -> None:
    cfg = compose("distill", f"experiment={experiment}", choice)
    assert OmegaConf.to_container(OmegaConf.select(cfg, place)) == own(*option)


def test_the_experiments_option_and_what_is_typed_keep_their_values() -> None:
    assert compose("distill", "experiment=digits", "loss=soft_target").loss.alpha == 0.5
    assert compose("distill", "experiment=digits", "optimizer=adam").optimizer.lr == 3e-3
    cfg = compose("distill", "experiment=digits", "loss=dkd", "loss.alpha=0.3", "teacher=cnn2d")
    assert (cfg.loss.alpha, cfg.loss.beta) == (0.3, 8.0)
    assert (cfg.teacher.epochs, cfg.teacher.lr_scheduler._target_) == (100, "distill_cli.training.lr_schedules.cosine")
    check(cfg, "distill")


def test_keys_of_the_recipe_outlast_another_option() -> None:
    cfg = compose("distill", "experiment=fitnets", "loss=dkd", "dataset=heartbeat_synthetic")
    assert cfg.loss.weight == {"from": 1.0, "to": 0.25}
    assert cfg.dataset.label_fraction == 0.1
    assert "split_seed" in cfg.dataset and "n" in cfg.dataset
    assert compose("distill", "experiment=smoke", "dataset=digits").dataset.get("n") is None


def test_draws_hold_for_any_option_and_those_of_a_loss_for_that_loss() -> None:
    sgd = compose("distill", "experiment=digits", "hparams=random", "optimizer=sgd")
    assert sgd.optimizer._target_ == "torch.optim.SGD" and 1e-3 <= sgd.optimizer.lr <= 1e-2
    dkd = compose("distill", "experiment=digits", "hparams=random_soft_target", "loss=dkd")
    assert OmegaConf.to_container(dkd.loss) == own("loss", "dkd") and dkd.optimizer.lr == sgd.optimizer.lr
    assert compose("distill", "experiment=digits", "hparams=random_soft_target").loss.alpha in (0.3, 0.5, 0.7, 0.9)


def test_presets_of_ones_own_follow_the_rule(tmp_path: Path) -> None:
    files = {
        "experiment/_part": "optimizer: {lr: 0.25}",
        "experiment/based": "defaults: [digits, _part, override /loss: dkd, override /optimizer: sgd, override /mixup: beta, _self_]\n"
        "mixup: {alpha: 0.7}\nloss: {beta: 2.0}",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    place = f"hydra.searchpath=[file://{tmp_path}]"
    cfg = compose("distill", place, "experiment=based")
    assert OmegaConf.to_container(cfg.loss) == {**own("loss", "dkd"), "beta": 2.0}
    assert OmegaConf.to_container(cfg.optimizer) == {**own("optimizer", "sgd"), "lr": 0.25}
    assert cfg.mixup.alpha == 0.7
    other = compose("distill", place, "experiment=based", "loss=dist", "mixup=none", "optimizer=adam")
    assert OmegaConf.to_container(other.loss) == own("loss", "dist")
    assert (other.mixup.alpha, other.optimizer.lr) == (0.0, 3e-3)


# --- ranges ------------------------------------------------------------------------------------------------------

RANGES = {
    "seed=-1": "seed=-1: must be >= 0",
    "epochs=0": "epochs=0: must be >= 1",
    "batch_size=0": "batch_size=0: must be >= 1",
    "eval_batch_size=0": "eval_batch_size=0: must be >= 1",
    "steps_per_epoch=0": "steps_per_epoch=0: must be >= 1 or null",
    "clip_grad_norm=0": "clip_grad_norm=0.0: must be > 0 or null",
    "monitor=f1": "monitor=f1: expected macro_f1 or accuracy or nll or subset_accuracy; did you mean 'macro_f1'?",
    "early_stopping.patience=0": "early_stopping.patience=0: must be >= 1 or null",
    "augment.shift=-1": "augment.shift=-1: must be >= 0",
    "augment.shift=0.5": "augment.shift=0.5: expected int",
    "mixup.alpha=-0.1": "mixup.alpha=-0.1: must be >= 0",
    "mixup.alpha=abc": "mixup.alpha=abc: expected number",
    "sampling.class_balance_power=nan": "sampling.class_balance_power=nan: must be >= 0 and at most 10",
    "bootstrap.resamples=0": "bootstrap.resamples=0: must be >= 1",
    "device.threads=0": "device.threads=0: must be >= 1 and at most 512 or null",
    "device.precision=64": "device.precision=64: expected 32 or bf16 or fp16",
    "teacher.epochs=0": "teacher.epochs=0: must be >= 1",
    "teacher.epochs=abc": "teacher.epochs=abc: expected int",
    "teacher.epochs=true": "teacher.epochs=true: expected int",
    "teacher.batch_size=0": "teacher.batch_size=0: must be >= 1",
    "teacher.seed=-1": "teacher.seed=-1: must be >= 0",
    "teacher.clip_grad_norm=-1": "teacher.clip_grad_norm=-1: must be > 0 or null",
    "teacher.monitor=loss": "teacher.monitor=loss: expected macro_f1 or accuracy or nll or subset_accuracy",
    "teacher.mixup.alpha=-1": "teacher.mixup.alpha=-1: must be >= 0",
    "teacher.sampling.class_balance_power=-1": "teacher.sampling.class_balance_power=-1: must be >= 0 and at most 10",
    "teacher.label_fraction=1.5": "teacher.label_fraction=1.5: must be above 0 and at most 1 or null",
    "dataset.label_fraction=0": "dataset.label_fraction=0: must be above 0 and at most 1",
    "loss.weight=-1": "loss.weight=-1: must be >= 0",
    "loss.weight=inf": "loss.weight=inf: must be >= 0",
}


@pytest.mark.parametrize("override", RANGES)
def test_a_value_out_of_range_is_named(override: str) -> None:
    assert line("distill", override) == RANGES[override]


CONTROLS = {
    "scratch": "controls=scratch: expected a list such as [scratch], or [] for none",
    "[scrach]": "controls.0=scrach: expected scratch, tuned or {name: ...}; did you mean 'scratch'?",
    "[scratch,scratch]": "controls.1=scratch: listed twice",
    "[matched]": "controls.0=matched: this control is called scratch; set controls=[scratch]",
    "[{name:a,epochs:3},{name:a}]": "controls.1.name=a: each needs a name of its own, of letters, digits, '.', '_' and '-', "
    "and none of teacher, student, scratch, tuned, uncorrected",
    "[{name:scratch}]": "controls.0.name=scratch: each needs a name of its own, of letters, digits, '.', '_' and '-', "
    "and none of teacher, student, scratch, tuned, uncorrected",
    "[{name:a/b}]": "controls.0.name=a/b: each needs a name of its own, of letters, digits, '.', '_' and '-', "
    "and none of teacher, student, scratch, tuned, uncorrected",
    "[{name:a,epoch:3}]": "controls.a.epoch: the student's training has no such key; did you mean 'epochs'?",
    "[{name:a,epochs:0}]": "controls.a.epochs=0: must be >= 1",
    "[{name:a,optimizer:{lrr:3}}]": "controls.a.optimizer.lrr: optimizer has no such key; did you mean 'lr'?",
    "[{name:a,optimizer:{lr:fast}}]": "controls.a.optimizer.lr=fast: expected float",
    "[{name:a,optimizer:sgd}]": "controls.a.optimizer=sgd: expected keys, such as {_target_: ...}",
}


@pytest.mark.parametrize("controls", CONTROLS)
def test_a_control_that_cannot_be_meant_is_named(controls: str) -> None:
    assert line("distill", f"controls={controls}") == CONTROLS[controls]


def test_named_controls_pass() -> None:
    check(compose("distill", "controls=[scratch,{name:scratch_122,epochs:122,optimizer:{lr:1e-3}}]"), "distill")
    check(compose("distill", "controls=[]"), "distill")


def test_terms_have_a_loss_and_a_weight() -> None:
    check(compose("distill", "+loss@terms.extra=logits_mse", "terms.extra.weight=0.1"), "distill")
    assert line("distill", "+loss@terms.extra=cross_entropy", "terms.extra.weight=-1") == "terms.extra.weight=-1: must be >= 0"
    assert line("distill", "+terms.extra=3") == "terms.extra: not a loss; add one with +loss@terms.extra=OPTION"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+epocs=3", "unknown key 'epocs'; did you mean 'epochs'?"),
        ("+early_stopping.patence=3", "unknown key 'early_stopping.patence'; did you mean 'patience'?"),
        ("+teacher.epocs=3", "unknown key 'teacher.epocs'; did you mean 'epochs'?"),
        ("+student.epochs=3", "unknown key 'student.epochs'"),
        ("+mixup.alhpa=1", "unknown key 'mixup.alhpa'; did you mean 'alpha'?"),
        ("~teacher.augment.shift", "teacher.augment.shift is missing: it cannot be taken away; set it to another value"),
        ("~teacher.batch_size", "teacher.batch_size is missing: it cannot be taken away; set it to another value"),
        ("~student.bias_correction", "student.bias_correction is missing: it cannot be taken away; set it to another value"),
        ("~epochs", "~epochs: this key cannot be taken away; set it to another value"),
    ],
)
def test_a_key_that_nobody_reads_is_refused_although_hydra_takes_it(override: str, said: str) -> None:
    assert line("distill", override) == said


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("epochs=3", "epochs belongs to the student; did you mean 'teacher.epochs'?"),
        ("optimizer.lr=0.1", "optimizer.lr belongs to the student; did you mean 'teacher.optimizer.lr'?"),
        ("student=mlp", "student belongs to the student; train-teacher has no student"),
        ("loss.alpha=0.1", "loss.alpha belongs to the student; train-teacher has no loss"),
    ],
)
def test_train_teacher_refuses_what_is_typed_for_a_student(typed: str, said: str) -> None:
    assert line("train-teacher", typed=(typed,)) == said


def test_train_teacher_takes_its_own_keys_and_an_experiment_for_both() -> None:
    typed = ["teacher.epochs=3", "optimizer@teacher.optimizer=sgd", "seed=1", "experiment=smoke"]
    check(compose("train-teacher", *typed), "train-teacher", typed)


@pytest.mark.parametrize(
    ("require", "said"),
    [
        ("++require.macro_f1=high", "require.macro_f1=high: expected a number, or a comparison such as '>=0.9' or '<=50kB'"),
        (
            "++require.weight_bytes='<=5kb'",
            "require.weight_bytes=<=5kb: expected a number, or a comparison such as '>=0.9' or '<=50kB'; did you mean 'kB'?",
        ),
        ("++require.macrof1=0.8", "require.macrof1: a report has no 'macrof1'; did you mean 'macro_f1'?"),
        ("++require=0.8", "require=0.8: expected paths of report.json, such as require.macro_f1=0.8"),
    ],
)
def test_a_gate_that_cannot_hold_is_refused_before_training(require: str, said: str) -> None:
    assert line("distill", require) == said


# --- components --------------------------------------------------------------------------------------------------

SOFT = {"_target_": "distill_cli.losses.soft_target.SoftTarget", "temperature": 2.0, "alpha": 0.9}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temprature": 3}, "loss.temprature: SoftTarget has no such parameter; did you mean 'temperature'?"),
        ({"temperature": "abc"}, "loss.temperature=abc: expected float"),
        ({"temperature": True}, "loss.temperature=true: expected float"),
        ({"temperature": None}, "loss.temperature=null: expected float"),
        ({"_target_": "distill_cli.losses.soft_target.SoftTargt"},
         "loss._target_=distill_cli.losses.soft_target.SoftTargt: not found; did you mean 'SoftTarget'?"),
        ({"_target_": "distill_cli.loses.soft_target.SoftTarget"},
         "loss._target_=distill_cli.loses.soft_target.SoftTarget: not found; did you mean 'losses'?"),
        ({"_target_": "distill_cli.__version__"}, "loss._target_=distill_cli.__version__: not a class or a function"),
    ],
)  # fmt: skip
def test_a_component_is_held_against_the_signature_of_its_target(change: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_component("loss", {**SOFT, **change})
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": "torch.optim.Adam", "lr": "fast"}, "optimizer.lr=fast: expected float"),
        ({"_target_": "torch.optim.Adam", "lrr": 0.1}, "optimizer.lrr: Adam has no such parameter; did you mean 'lr'?"),
        ({"_target_": "torch.optim.Adam", "betas": 0.9}, "optimizer.betas=0.9: expected list"),
        ({"_target_": "torch.optim.SGD", "nesterov": 1}, "optimizer.nesterov=1: expected bool"),
    ],
)
def test_optimizers_of_torch_are_checked_too(node: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_component("optimizer", node)
    assert str(error.value) == said


def test_a_component_inside_a_component_is_checked() -> None:
    bad = {**SOFT, "temprature": 1}
    for key, value in {"inner": bad, "losses": [SOFT, bad], "_args_": [bad]}.items():
        with pytest.raises(UserError, match=rf"model\.{key}.*\.temprature: SoftTarget has no such parameter"):
            check_component("model", {"_target_": "functools.partial", key: value})


def test_a_users_module_that_breaks_on_import_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_losses.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        check_component("loss", {"_target_": "my_broken_losses.Mine"})
    assert str(error.value) == "loss._target_=my_broken_losses.Mine: ModuleNotFoundError: No module named 'no_such_library'"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0}, "loss: temperature must be > 0, got 0"),
        ({"temperature": -1}, "loss: temperature must be > 0, got -1"),
        ({"alpha": 1.5}, "loss: alpha must be in [0, 1], got 1.5"),
    ],
)
def test_a_constructors_refusal_is_one_line(change: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        instantiate_component({**SOFT, **change}, "loss")
    assert str(error.value) == said


def test_build_gives_what_the_signature_names_and_lets_the_config_win() -> None:
    model = {"_target_": "distill_cli.models.mlp.MLP", "hidden": [4]}
    facts = {"num_classes": 3, "input_shape": (5,), "unknown": 1}
    assert [p.shape for p in instantiate_component(model, "m", **facts).parameters()][-1] == (3,)
    assert [p.shape for p in instantiate_component({**model, "num_classes": 7}, "m", **facts).parameters()][-1] == (7,)
    with pytest.raises(UserError, match=r"m: MLP needs 'num_classes'; set it with m\.num_classes=VALUE"):
        instantiate_component(model, "m")


def test_build_hands_tensors_over_as_they_are() -> None:
    import torch

    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = instantiate_component({"_target_": "torch.optim.SGD", "lr": 0.1}, "optimizer", params=iter([weight]))
    assert optimizer.param_groups[0]["params"][0] is weight


def test_build_leaves_a_bug_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_buggy_losses.py").write_text("def mine():\n    raise KeyError('bug')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError):
        instantiate_component({"_target_": "my_buggy_losses.mine"}, "loss")


def test_build_passes_plain_lists() -> None:
    made = instantiate_component(OmegaConf.create({"_target_": "builtins.dict", "a": [1, {"b": 2}]}), "x")
    assert type(made["a"]) is list
    assert type(made["a"][1]) is dict


# --- whom to trust -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "key"),
    [
        ({"student": {"model": {"_target_": "os.system", "command": "id"}}}, "student.model._target_=os.system"),
        ({"a": [1, {"b": {"_target_": "builtins.eval"}}]}, "a.1.b._target_=builtins.eval"),
        ({"_target_": "torch.hub.load"}, "_target_=torch.hub.load"),
        ({"_target_": "torch.load"}, "_target_=torch.load"),
        ({"_target_": "torch.nn.functional.relu"}, "_target_=torch.nn.functional.relu"),
        ({"_target_": "torch.nn.init"}, "_target_=torch.nn.init"),
        ({"_target_": "torch.nn.Parameter"}, "_target_=torch.nn.Parameter"),
        ({"_target_": "torch.optim.lr_scheduler.math"}, "_target_=torch.optim.lr_scheduler.math"),
        ({"_target_": "distill_cli.utils.files.write_text"}, "_target_=distill_cli.utils.files.write_text"),
        ({"_target_": "distill_cli.cli.hydra_app.run_command"}, "_target_=distill_cli.cli.hydra_app.run_command"),
        ({"_target_": ["os.system"]}, "_target_=['os.system']"),
        ({"_target_": {"_target_": "os.system"}}, "_target_={'_target_': 'os.system'}"),
    ],
)  # fmt: skip
def test_code_from_a_run_folder_is_refused(node: dict, key: str) -> None:
    with pytest.raises(UserError) as error:
        check_trusted(node, "run/config.yaml")
    assert str(error.value).startswith(f"run/config.yaml: {key} is not trusted; set DISTILL_TRUST=")


def test_the_line_says_how_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"student": {"model": {"_target_": "os.system"}}}
    with pytest.raises(UserError) as error:
        check_trusted(node, "run/config.yaml")
    said = "run/config.yaml: student.model._target_=os.system is not trusted; set DISTILL_TRUST='os.system' if you trust it, or type --trust 'os.system'"
    assert str(error.value) == said
    monkeypatch.setenv("DISTILL_TRUST", "my_models.* os.system")
    check_trusted(node, "run/config.yaml")
    check_trusted({"_target_": "my_models.tiny.Tiny"}, "run/config.yaml")


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.nn.Linear", "_args_": [{"_target_": "os.system"}]},
        {"_target_": "torch.nn.Linear", "_args_": "${oc.env:HOME}"},
        {"_target_": "torch.nn.Linear", "_partial_": {"_target_": "os.system"}},
        {"_target_": "torch.nn.Linear", "_convert_": "anything"},
        {"_target_": "torch.nn.Linear", "_mode_": "x"},
        {"seed": "${oc.env:HOME}"},
        {"${seed}": 1},
    ],
)
def test_hydras_special_keys_and_interpolations_from_a_run_folder_are_refused(node: dict) -> None:
    with pytest.raises(UserError, match=r"run/config\.yaml: "):
        check_trusted(node, "run/config.yaml")


def test_a_partial_of_torch_is_trusted() -> None:
    for target in ("torch.nn.Linear", "torch.optim.Adam", "torch.optim.lr_scheduler.StepLR"):
        check_trusted({"_target_": target, "_partial_": True, "_args_": [1, "a", None]}, "config.yaml")


# --- a run's config file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1\n", "not YAML (line 2); the file is damaged"),
        ("just words", "holds no keys; the file is damaged"),
        ("", "holds no keys; the file is damaged"),
        ("a: !!python/object/apply:os.system [id]", "not YAML (line 1); the file is damaged"),
        ("a: " + "[" * 100_000, "not YAML"),
        ("a: &a [1]\nb: " + "x" * 1_100_000, "larger than 1000 kB, so not a config that this tool wrote"),
        ("a: &a [b, b, b, b, b, b, b, b, b, b]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)),
         "more than 100000 values, so not a config that this tool wrote"),
    ],
    ids=["open bracket", "a scalar", "empty", "python tag", "deep", "large", "alias bomb"],
)  # fmt: skip
def test_a_damaged_or_hostile_config_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        load_config(file)
    assert str(error.value).startswith(f"{file}: {said}")


def test_a_missing_or_binary_config_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config.yaml: cannot read \(No such file or directory\)"):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="not YAML; the file is damaged"):
        load_config(tmp_path / "config.yaml")


def test_a_config_comes_back_as_it_was_written(tmp_path: Path) -> None:
    config = OmegaConf.to_container(compose("distill", "optimizer.lr=1e-5", "experiment=smoke"), resolve=True)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    assert load_config(tmp_path / "config.yaml") == json.loads(json.dumps(config))
