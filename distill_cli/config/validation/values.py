"""Which values the tool's own keys may take. Works on a plain, resolved config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distill_cli.config.options import RENAMED_KEYS, RUN_COMMANDS, STUDENT_ONLY, TRAINING_KEYS, common_keys, moved
from distill_cli.config.resume_policy import parse_interval
from distill_cli.config.validation.ensembles import check_ensemble
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
from distill_cli.tasks.registry import all_epoch_metrics
from distill_cli.utils.files import safe_name

# Controls without a name of their own; the report calls them the same.
BUILTIN_CONTROLS = ("scratch", "tuned")
RESERVED_NAMES = ("teacher", "student", "scratch", "tuned", "uncorrected")
MOST_THREADS, MOST_POWER = 512, 10


def fraction(*, optional: bool) -> Rule:
    """Return the rule ``0 < value <= 1``."""
    return Rule(predicate=lambda v: 0 < v <= 1, description="above 0 and at most 1", optional=optional)


TRAINING_RULES = {
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "steps_per_epoch": at_least(1, optional=True),
    "augment.shift": at_least(0),
    "mixup.alpha": at_least(0, "number"),
    "sampling.power": Rule(predicate=lambda v: 0 <= v <= MOST_POWER, description=f">= 0 and at most {MOST_POWER}"),
    "select.metric": one_of(*all_epoch_metrics()),
    "select.patience": at_least(1, optional=True),
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
    "teacher.outputs_kind": one_of("logits", "probabilities"),
    "teacher.members": at_least(1),
    "teacher.average": one_of("logits", "probabilities"),
    **{f"teacher.{key}": rule for key, rule in TRAINING_RULES.items()},
}
BASE_RULES = {
    "seed": at_least(0),
    "progress.level": one_of("quiet", "normal", "verbose"),
    "progress.every": at_least(0, "number"),
    "trial": at_least(0, optional=True),
    "eval_batch_size": at_least(1),
    "bootstrap.resamples": at_least(1),
    "bootstrap.seed": at_least(0),
    "device.name": one_of("auto", "cpu", "cuda", "mps"),
    "device.precision": one_of(32, "32", "bf16", "fp16"),
    "device.threads": Rule("int", lambda v: 1 <= v <= MOST_THREADS, f">= 1 and at most {MOST_THREADS}", optional=True),
    "device.resident_gb": at_least(0, "number"),
    "dataset.label_fraction": fraction(optional=False),
    "dataset.split_seed": at_least(0),
}


def check_values(config: Mapping[str, Any], command: str) -> None:
    """Check every value that the tool's own keys hold.

    Raises:
        UserError: the first that is wrong.
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
    parse_interval(config["checkpoint"]["every"])
    if not isinstance(config["logger"], Mapping | None):
        raise UserError(
            f"logger={format_value(config['logger'])}: expected one or more of distill ls logger, such as [csv,tensorboard]"
        )
    check_rules(config, TEACHER_RULES)
    for key in RENAMED_KEYS:
        if look_up(config, key) is not MISSING:
            raise UserError(str(moved(key)))
    check_complete(config["teacher"], common_keys("teacher"), "teacher.")
    check_groups(config["teacher"], "teacher.")
    check_ensemble(config["teacher"])
    if command == "distill":
        check_complete(config["student"], common_keys("student"), "student.")
        check_rules(config, {"student.bias_fix": one_of(True, False)})
        check_groups(config, "")
        check_rules(config, TRAINING_RULES)
        check_rules(config, CACHE_RULES)
        check_losses(config["loss"], config["terms"], "")
        check_stages(config)
        for _ in control_settings(config):
            pass


def check_exclude(dataset: Mapping[str, Any]) -> None:
    """See that the classes left out are a list, also in a config from a run folder.

    Raises:
        UserError: they are not.
    """
    exclude = dataset.get("transfer_exclude") or []
    if not isinstance(exclude, list):
        raise UserError(f"dataset.transfer_exclude={format_value(exclude)}: expected a list of classes, such as [3]")


def check_groups(config: Mapping[str, Any], prefix: str) -> None:
    """Check that the groups without a `_target_` are there, with keys that have a rule."""
    for group in ("augment", "mixup", "sampling", "select"):
        if not isinstance(config.get(group), Mapping):
            raise UserError(
                f"{prefix}{group}={format_value(config.get(group))}: has keys of its own; set {prefix}{group}.KEY=VALUE"
            )
        known = [path.partition(".")[2] for path in TRAINING_RULES if path.startswith(f"{group}.")]
        check_complete(config[group], known, f"{prefix}{group}.")


def control_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Check `controls`; yield name and settings of each that changes the student's training.

    Raises:
        UserError: not a list, a name that is taken or no file name, or a key that the student's training does not have.
    """
    controls = config["controls"]
    if not isinstance(controls, list):
        raise UserError(f"controls={format_value(controls)}: expected a list such as [scratch], or [] for none")
    names: set[str] = set()
    for n, control in enumerate(controls):
        if isinstance(control, str) and control in BUILTIN_CONTROLS and control not in names:
            if control == "tuned" and config.get("search") is None:
                raise UserError(f"controls.{n}=tuned: its settings come from a sweep of trials; give search=FOLDER")
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
            said = f"controls.{n}.name={format_value(name)}: each needs a name of its own, of letters, digits, '.', '_' and '-'"
            raise UserError(f"{said}, and none of {', '.join(RESERVED_NAMES)}")
        names.add(name.casefold())
        settings = {k: v for k, v in control.items() if k != "name"}
        check_control(config, f"controls.{name}.", settings)
        yield name, settings


def check_control(config: Mapping[str, Any], prefix: str, settings: Mapping[str, Any]) -> None:
    """Check that a control's keys exist in the student's training, and their values."""
    for key, value in settings.items():
        if key == "stages":
            if value != {}:
                raise UserError(
                    f"{prefix}stages={format_value(value)}: expected {{}}, one stage; else it has those of the student"
                )
            continue
        if key not in TRAINING_KEYS:
            raise UserError(f"{prefix}{key}: the student's training has no such key{did_you_mean(key, TRAINING_KEYS)}")
        if isinstance(config.get(key), Mapping):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{key}={format_value(value)}: expected keys, such as {{{next(iter(config[key]))}: ...}}")
            for inner in value:
                if inner not in config[key]:
                    raise UserError(f"{prefix}{key}.{inner}: {key} has no such key{did_you_mean(inner, config[key])}")
    check_rules(settings, TRAINING_RULES, prefix)


def check_typed(command: str, typed: list[str]) -> None:
    """Refuse what a user typed for a student where only a teacher is trained; an experiment may still set it.

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
