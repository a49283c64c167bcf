"""The groups in conf/, their options and the texts behind them.

Only the standard library is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill_cli.config.settings.training import TRAINING_KEYS

GROUP_HELP = {
    "augment": "changes of training inputs, before mixup",
    "dataset": "the data and how it is split",
    "device": "where it runs, and in what precision",
    "experiment": "whole recipes",
    "hparams": "tuned settings, to be laid over a recipe",
    "logger": "where each epoch's numbers go; several: logger=[csv,tensorboard]",
    "loss": "what the student minimises; more terms by +loss@terms.NAME=OPTION",
    "mixup": "blending of training samples",
    "model": "architectures, for student.model and teacher.model",
    "optimizer": "optimizer of student and controls; the teacher's: teacher.optimizer=OPTION",
    "sampling": "how training rows are drawn",
    "lr_scheduler": "learning rates over the steps; the teacher's: teacher.lr_scheduler=OPTION",
    "stages": "stretches of training with losses, epochs and schedules of their own",
    "student": "the small model",
    "task": "what is learned; by default what the data set is for",
    "teacher": "the large model, how it is trained or where it comes from",
}
TAKE_SEVERAL = ("logger",)
ROLES = ("student", "teacher")  # groups that choose among `model`, beside files of their own
# Commands that open a finished run, `run=FOLDER`; all but `predict` take any key of its data set.
RUN_COMMANDS = ("eval", "export", "bench", "predict")
# Keys of the student, which a teacher has for its own or not at all.
STUDENT_ONLY = (
    *TRAINING_KEYS, "student", "loss", "terms", "stages", "log_gradients", "balance_gradients", "controls", "tuned_from", "cache",
    "generations",
)  # fmt: skip
OF_A_REPORT = ("require", "optimized_metric", "report", "bootstrap")
# Keys that a command shares with others but does not read. `layers` accepts any command line of `distill`.
UNREAD = {
    "train-teacher": (
        "dataset.unlabeled", "dataset.exclude_classes", "teacher.rename", "teacher.class_order", "teacher.logits_kind",
        "teacher.run_model", "teacher.ensemble.average", "teacher.ensemble.weights",
    ),
    "predict": (*OF_A_REPORT, "sweep"),
    "bench": ("bootstrap", "eval_batch_size"),
}  # fmt: skip
# Keys of an existing teacher, or of several, which train-teacher rejects with messages of their own.
OF_A_FINISHED_TEACHER = ("ensemble", "run", "weights", "logits_file")
# Commands that show or write something without a run.
SHOWING_COMMANDS = ("layers", "predict")
# Old names of keys: the new name, or what to type where a name alone would not do.
RENAMED_KEYS = {
    "teacher.cache": "cache.use=auto|never",
    "on_bad_row": "on_bad_lines",
    "dataset.unlabelled": "dataset.unlabeled",
    "dataset.transfer_exclude": "dataset.exclude_classes",
    "search": "tuned_from",
    "chain": "generations",
    "schedule": "lr_scheduler",
    "select.patience": "early_stopping.patience",
    "select.metric": "monitor",
    "select": "monitor",
    "objective": "optimized_metric",
    "prepare": "preprocessing",
    "balance": "balance_gradients=at_start",
    "gradients.every": "log_gradients.every",
    "gradients.batches": "log_gradients.batches",
    "gradients": "log_gradients",
    "sampling.power": "sampling.class_balance_power",
    "checkpoint.every": "save_every",
    "checkpoint": "save_every",
    "progress.every": "log_every_seconds",
    "progress.level": "verbosity",
    "progress": "verbosity",
    "device.resident_gb": "device.max_device_gb",
    "checkpoint_model": "model_name",
    "student.prepare": "student.preprocessing",
    "student.bias_fix": "student.bias_correction",
    "teacher.schedule": "teacher.lr_scheduler",
    "teacher.select.patience": "teacher.early_stopping.patience",
    "teacher.select.metric": "teacher.monitor",
    "teacher.select": "teacher.monitor",
    "teacher.sampling.power": "teacher.sampling.class_balance_power",
    "teacher.prepare": "teacher.preprocessing",
    "teacher.members": "teacher.ensemble.size",
    "teacher.average": "teacher.ensemble.average",
    "teacher.member_weights": "teacher.ensemble.weights",
    "teacher.checkpoint": "teacher.run",
    "teacher.checkpoint_model": "teacher.run_model",
    "teacher.outputs": "teacher.logits_file",
    "teacher.outputs_kind": "teacher.logits_kind",
}
# Keys that hold such keys by a name of their own.
NAMED_PARTS = r"(?:stages|generations|controls)\.[^.]+\."


def moved(key: str) -> str | None:
    """Return the message on a renamed key, or None for any other key.

    >>> moved("select.metric")
    'select.metric is called monitor now: type monitor=...'
    """
    path = key.lstrip("+").rpartition("@")[2]
    inner = re.sub(f"^{NAMED_PARTS}", "", path)
    prefix = path.removesuffix(inner)
    old = next((old for old in RENAMED_KEYS if inner == old or inner.startswith(f"{old}.")), None)
    if old is None:
        return None
    new, _, value = RENAMED_KEYS[old].partition("=")
    return f"{prefix}{old} is called {prefix}{new} now: type {prefix}{new}={value or '...'}"


def conf_dir() -> Path:
    """Return the folder of the tool's own configs.

    The folder is next to the code in a wheel, and next to the package in a checkout.
    """
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "distill.yaml").is_file():
            return folder
    raise RuntimeError("conf/ is missing from this installation of distill; install it again")


def options(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return ``{group: {option: its yaml file}}`` over config folders.

    The first folder that has an option wins. Every model is an option of each role, unless the role has a file of that name.
    Files whose name starts with ``_`` are parts of options and are left out.
    """
    files: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/**/*.yaml")):
            if not file.name.startswith("_"):
                group = file.parent.relative_to(folder).as_posix()
                files.setdefault(group, {}).setdefault(file.stem, file)
    for role in ROLES if "model" in files else ():
        files[role] = dict(sorted({**files["model"], **files.get(role, {})}.items()))
    return dict(sorted(files.items()))


def one_option(group: str, place: str, names: Sequence[str]) -> str:
    """Return the message on a list of options where one is allowed.

    >>> one_option("student", "student", ["mlp", "cnn2d"])
    'student=[mlp,cnn2d]: takes one option, not a list; to compare them, sweep: -m student=mlp,cnn2d'
    """
    line = f"{place}=[{','.join(names)}]: takes one option, not a list"
    if not names:
        return f"{line}; choose one with {place}=OPTION; see distill ls {group}"
    if len(names) == 1:
        return f"{line}; write {place}={names[0]}"
    terms = f"; for a second term: {second_term(place, names)}" if group == "loss" else ""
    return f"{line}{terms}; to compare them, sweep: -m {place}={','.join(names)}"


def second_term(place: str, names: Sequence[str]) -> str:
    """Return the overrides that make each loss a term of its own."""
    return " ".join([f"{place}={names[0]}", *(f"+loss@terms.{name}={name}" for name in names[1:])])


def common_keys(group: str) -> list[str]:
    """Return the keys that every option of `teacher` or `student` has.

    The keys are those of _common.yaml, and `model`.
    """
    text = (conf_dir() / group / "_common.yaml").read_text(encoding="utf-8")
    return ["model", *re.findall(r"@(\w+):", text), *(key for key in re.findall(r"^(\w+):", text, re.M) if key != "defaults")]


def common_text(group: str) -> str:
    """Return the keys that every option of a group has, with their comments.

    The text is empty where the group has none.
    """
    file = conf_dir() / group / "_common.yaml"
    return keys(file.read_text(encoding="utf-8")) if file.is_file() else ""


def inner_groups(group: str) -> dict[str, str]:
    """Return ``{place: group}`` of the groups inside a teacher or student.

    An example is ``teacher.optimizer``.
    """
    file = conf_dir() / group / "_common.yaml"
    if group not in ROLES:
        return {}
    named = re.findall(r"^  - /(\w+)@(\w+):", file.read_text(encoding="utf-8"), re.M)
    return {f"{group}.model": "model", **{f"{group}.{place}": inner for inner, place in named}}


def read_lines(command: str, lines: Iterable[str], prefix: str = "", above: Iterable[str] = ()) -> list[str]:
    """Return the lines of a config whose keys a command reads.

    Args:
        command: name of the command.
        lines: lines of the config.
        prefix: text before each key.
        above: keys that were already shown.
    """
    unread = (*above, *UNREAD.get(command, ()), *(STUDENT_ONLY if command == "train-teacher" else ()))
    if command == "train-teacher":
        unread = (*unread, *(f"teacher.{key}" for key in OF_A_FINISHED_TEACHER))
    shown, reads = [], True
    for line in lines:
        if line[:1].strip():
            reads = f"{prefix}{line.partition(':')[0]}" not in unread
            line = f"{prefix}{line}"
        if reads:
            shown.append(line)
    return shown


def command_files(command: str) -> list[str]:
    """Return the texts behind a command: its own yaml, then the shared files."""
    own = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    shared = [conf_dir() / f"{name}.yaml" for name in re.findall(r"^  - (_(?!self_)\w+)$", own, re.M)]
    return [own, *(file.read_text(encoding="utf-8") for file in reversed(shared))]


def default_options(text: str) -> list[str]:
    """Return the groups of a defaults list, in its order."""
    return re.findall(r"^  - (\w+): ", text, re.M)


def keys(text: str) -> str:
    """Return the lines of a config that set keys, with their comments.

    The head, the defaults list and Hydra's settings are left out.
    """
    body = re.sub(r"^(defaults|hydra):.*\n(?:[ #].*\n?)*", "", text, flags=re.M)
    return "\n".join(line for line in body.splitlines() if line.strip() and not line.startswith("#"))
