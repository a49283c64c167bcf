"""Checks of the values of the tool's own keys.

The functions work on plain, resolved configs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from distill_cli.config.options import RENAMED_KEYS, RUN_COMMANDS, STUDENT_ONLY, common_keys, moved
from distill_cli.config.resume_policy import parse_interval
from distill_cli.config.settings.training import TRAINING_KEYS
from distill_cli.config.validation.ensembles import check_ensemble, check_source
from distill_cli.config.validation.rules import (
    MISSING,
    Rule,
    at_least,
    check_complete,
    check_rules,
    format_value,
    look_up,
    one_of,
)
from distill_cli.config.validation.run_commands import check_run_command
from distill_cli.config.validation.stages import check_losses, check_stages
from distill_cli.errors import UserError, did_you_mean
from distill_cli.utils.files import safe_name

# Built-in controls, with the same names in the report.
BUILTIN_CONTROLS = ("scratch", "tuned")
RESERVED_NAMES = ("teacher", "student", "scratch", "tuned", "uncorrected")
MOST_THREADS, MOST_POWER, MOST_WORKERS = 512, 10, 64


def fraction(*, optional: bool) -> Rule:
    """Return the rule ``0 < value <= 1``."""
    return Rule(predicate=lambda v: 0 < v <= 1, description="above 0 and at most 1", optional=optional)


TRAINING_RULES = {
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "steps_per_epoch": at_least(1, optional=True),
    "augment.shift": at_least(0),
    "mixup.alpha": at_least(0, "number"),
    "sampling.class_balance_power": Rule(predicate=lambda v: 0 <= v <= MOST_POWER, description=f">= 0 and at most {MOST_POWER}"),
    "early_stopping.patience": at_least(1, optional=True),
    "clip_grad_norm": Rule(predicate=lambda v: v > 0, description="> 0", optional=True),
}
CACHE_RULES = {
    "cache.use": one_of("auto", "never"),
    "cache.max_gb": at_least(0, "number"),
    "cache.views": at_least(0),
}
TEACHER_RULES = {
    "teacher.seed": at_least(0),
    "teacher.label_fraction": fraction(optional=True),
    "teacher.logits_kind": one_of("logits", "probabilities"),
    "teacher.ensemble.size": at_least(1),
    "teacher.ensemble.average": one_of("logits", "probabilities"),
}
BASE_RULES = {
    "seed": at_least(0),
    "verbosity": one_of("quiet", "normal", "verbose"),
    "log_every_seconds": at_least(0, "number"),
    "trial": at_least(0, optional=True),
    "eval_batch_size": at_least(1),
    "bootstrap.resamples": at_least(1),
    "bootstrap.seed": at_least(0),
    "device.name": one_of("auto", "cpu", "cuda", "mps"),
    "device.precision": one_of(32, "32", "bf16", "fp16"),
    "device.threads": Rule("int", lambda v: 1 <= v <= MOST_THREADS, f">= 1 and at most {MOST_THREADS}", optional=True),
    "device.max_device_gb": at_least(0, "number"),
    "device.workers": Rule("int", lambda v: 0 <= v <= MOST_WORKERS, f">= 0 and at most {MOST_WORKERS}"),
    "dataset.label_fraction": fraction(optional=False),
    "dataset.split_seed": at_least(0),
}


@cache
def training_rules() -> dict[str, Rule]:
    """Return the rules of a training's keys, the metrics of all tasks included."""
    from distill_cli.tasks.registry import all_epoch_metrics  # tasks import numpy: composing a config does not

    return {**TRAINING_RULES, "monitor": one_of(*all_epoch_metrics())}


@cache
def teacher_rules() -> dict[str, Rule]:
    """Return the rules of a teacher's keys, those of its training included."""
    return {**TEACHER_RULES, **{f"teacher.{key}": rule for key, rule in training_rules().items()}}


def check_values(config: Mapping[str, Any], command: str) -> None:
    """Check the values of all keys of the tool.

    Raises:
        UserError: the first fault.
    """
    if command in RUN_COMMANDS:  # null: as the run was scored
        config = {key: value for key, value in config.items() if value is not None}
        config = {**config, "bootstrap": {k: v for k, v in config["bootstrap"].items() if v is not None}}
    check_rules(config, BASE_RULES)
    for key in ("outputs", "run", "cache.folder"):
        if (value := look_up(config, key)) is not MISSING and not str(value or "").strip():
            raise UserError(f"{key} is empty: name a folder")
    if command in RUN_COMMANDS:
        check_run_command(config, command)
        return
    for group in ("dataset", "teacher", *(() if command == "train-teacher" else ("student", "loss"))):
        if not isinstance(config.get(group), Mapping):
            raise UserError(f"{group} is required: choose one with {group}=OPTION; see distill ls {group}")
    check_exclude(config["dataset"])
    parse_interval(config["save_every"])
    if not isinstance(config["logger"], Mapping | None):
        raise UserError(
            f"logger={format_value(config['logger'])}: expected one or more of distill ls logger, such as [csv,tensorboard]"
        )
    check_rules(config, teacher_rules())
    for key in RENAMED_KEYS:
        if look_up(config, key) is not MISSING:
            raise UserError(str(moved(key)))
    check_complete(config["teacher"], common_keys("teacher"), "teacher.")
    check_groups(config["teacher"], "teacher.")
    check_ensemble(config["teacher"])
    check_source(config["teacher"], trained=command == "train-teacher")
    if command == "distill":
        check_complete(config["student"], common_keys("student"), "student.")
        check_rules(config, {"student.bias_correction": one_of(True, False)})
        check_groups(config, "")
        check_rules(config, training_rules())
        check_rules(config, CACHE_RULES)
        check_losses(config["loss"], config["terms"], "")
        check_stages(config)
        for _ in control_settings(config):
            pass


def check_exclude(dataset: Mapping[str, Any]) -> None:
    """Check that the excluded classes are a list, also in a run folder's config.

    Raises:
        UserError: they are not.
    """
    exclude = dataset.get("exclude_classes") or []
    if not isinstance(exclude, list):
        raise UserError(f"dataset.exclude_classes={format_value(exclude)}: expected a list of classes, such as [3]")


def check_groups(config: Mapping[str, Any], prefix: str) -> None:
    """Check that the groups without a `_target_` exist and have known keys."""
    for group in ("augment", "mixup", "sampling", "early_stopping"):
        if not isinstance(config.get(group), Mapping):
            raise UserError(
                f"{prefix}{group}={format_value(config.get(group))}: has keys of its own; set {prefix}{group}.KEY=VALUE"
            )
        known = [path.partition(".")[2] for path in TRAINING_RULES if path.startswith(f"{group}.")]
        check_complete(config[group], known, f"{prefix}{group}.")


def control_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Check `controls`, and yield name and settings of those that change training.

    Raises:
        UserError: the value is no list, a name is taken or no file name, or the student's training has no such key.
    """
    controls = config["controls"]
    if not isinstance(controls, list):
        raise UserError(f"controls={format_value(controls)}: expected a list such as [scratch], or [] for none")
    names: set[str] = set()
    for n, control in enumerate(controls):
        if isinstance(control, str) and control in BUILTIN_CONTROLS and control not in names:
            if control == "tuned" and config.get("tuned_from") is None:
                raise UserError(f"controls.{n}=tuned: its settings come from a sweep of trials; give tuned_from=FOLDER")
            names.add(control)
            continue
        if control == "matched":
            raise UserError(f"controls.{n}=matched: this control is called scratch; set controls=[scratch]")
        if not isinstance(control, Mapping):
            known = ", ".join(BUILTIN_CONTROLS)
            listed = isinstance(control, str) and control in BUILTIN_CONTROLS
            hint = "listed twice" if listed else f"expected {known} or {{name: ...}}{did_you_mean(control, BUILTIN_CONTROLS)}"
            raise UserError(f"controls.{n}={format_value(control)}: {hint}")
        name = control.get("name")
        if not isinstance(name, str) or safe_name(name) != name or name.casefold() in {*RESERVED_NAMES, *names}:
            problem = (
                f"controls.{n}.name={format_value(name)}: each needs a name of its own, of letters, digits, '.', '_' and '-'"
            )
            raise UserError(f"{problem}, and none of {', '.join(RESERVED_NAMES)}")
        names.add(name.casefold())
        settings = {k: v for k, v in control.items() if k != "name"}
        check_control(config, f"controls.{name}.", settings)
        yield name, settings


def check_control(config: Mapping[str, Any], prefix: str, settings: Mapping[str, Any]) -> None:
    """Check the keys of a control, and their values."""
    for key, value in settings.items():
        if key == "stages":
            if value != {}:
                raise UserError(
                    f"{prefix}stages={format_value(value)}: expected {{}}, one stage; else it has those of the student"
                )
            continue
        if key not in TRAINING_KEYS:
            no_key = f"{prefix}{key}: the student's training has no such key{did_you_mean(key, TRAINING_KEYS)}"
            raise UserError(moved(f"{prefix}{key}") or no_key)
        if isinstance(config.get(key), Mapping):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{key}={format_value(value)}: expected keys, such as {{{next(iter(config[key]))}: ...}}")
            for inner in value:
                if inner not in config[key]:
                    raise UserError(f"{prefix}{key}.{inner}: {key} has no such key{did_you_mean(inner, config[key])}")
    check_rules(settings, training_rules(), prefix)


def check_typed(command: str, typed: list[str]) -> None:
    """Check that no student key is typed where only a teacher is trained.

    An experiment may still set such a key.

    Raises:
        UserError: names the teacher's key where there is one.
    """
    for override in typed if command == "train-teacher" else ():
        path = override.lstrip("+~").partition("=")[0]
        package = path.partition("@")[2]
        path = package if package.startswith("student.") else path
        key = path.split(".")[0].split("@")[0]
        if key not in STUDENT_ONLY or package.startswith("teacher"):
            continue
        hint = f"; did you mean 'teacher.{path}'?" if key in TRAINING_KEYS else f"; train-teacher has no {key}"
        raise UserError(f"{path} belongs to the student{hint}")
