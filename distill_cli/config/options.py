"""What can be chosen: the groups in conf/, their options and the text behind them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    "schedule": "learning rates over the steps; the teacher's: teacher.schedule=OPTION",
    "stages": "stretches of training with losses, epochs and schedules of their own",
    "student": "the small model",
    "task": "what is learned; by default what the data set is for",
    "teacher": "the large model, how it is trained or where it comes from",
}
TAKE_SEVERAL = ("logger",)
# Commands that open a finished run, `run=FOLDER`; all but `predict` take any key of its data set.
RUN_COMMANDS = ("eval", "export", "bench", "predict")
# What of the student's training a control may change, and a teacher has for its own.
TRAINING_KEYS = (
    "epochs", "batch_size", "steps_per_epoch", "optimizer", "schedule", "augment", "mixup", "sampling", "select",
    "clip_grad_norm",
)  # fmt: skip
STUDENT_ONLY = (
    *TRAINING_KEYS, "student", "loss", "terms", "stages", "gradients", "balance", "controls", "search", "cache", "chain",
)  # fmt: skip
OF_A_REPORT = ("require", "objective", "report", "bootstrap")
# Keys that a command has, because it shares a file or a class, and does not read. `layers` takes a whole line of `distill`.
UNREAD = {
    "train-teacher": (
        "dataset.unlabeled", "dataset.transfer_exclude", "teacher.rename", "teacher.class_order", "teacher.outputs_kind",
        "teacher.checkpoint_model", "teacher.average", "teacher.member_weights",
    ),
    "predict": (*OF_A_REPORT, "sweep"),
    "bench": ("bootstrap", "eval_batch_size"),
}  # fmt: skip
# Keys of a teacher that is there already, or of several, which train-teacher refuses by lines of their own.
OF_A_FINISHED_TEACHER = ("members", "checkpoint", "weights", "outputs")
# Commands that show or write something and leave no run behind.
SHOWING_COMMANDS = ("layers", "predict")
# Keys that are elsewhere now, and what to type.
RENAMED_KEYS = {
    "teacher.cache": "cache.use=auto stores the teacher's outputs, cache.use=never does not",
    "on_bad_row": "on_bad_lines=skip leaves bad rows out, on_bad_lines=fail ends at the first",
    "dataset.unlabelled": "it is spelled dataset.unlabeled",
}


def moved(key: str) -> str | None:
    """Return what to type in place of a key that is elsewhere now, or of one below it; None for any other key."""
    path = key.lstrip("+").rpartition("@")[2]
    old = next((old for old in RENAMED_KEYS if path == old or path.startswith(f"{old}.")), None)
    return None if old is None else f"{old} has moved: {RENAMED_KEYS[old]}"


def conf_dir() -> Path:
    """Return the folder of the tool's own configs: beside the code in a wheel, beside the package in a checkout."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "distill.yaml").is_file():
            return folder
    raise RuntimeError("conf/ is missing from this installation of distill; install it again")


def options(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return ``{group: {option: its yaml file}}`` over config folders; the first folder that has an option wins.

    Files whose name starts with ``_`` are parts of other options and are left out.
    """
    found: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/**/*.yaml")):
            if not file.name.startswith("_"):
                group = file.parent.relative_to(folder).as_posix()
                found.setdefault(group, {}).setdefault(file.stem, file)
    return dict(sorted(found.items()))


def one_option(group: str, place: str, names: Sequence[str]) -> str:
    """Return the line for a list of options where one is taken.

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
    """Return the words that make each loss a term of its own."""
    return " ".join([f"{place}={names[0]}", *(f"+loss@terms.{name}={name}" for name in names[1:])])


def common_keys(group: str) -> list[str]:
    """Return the keys that every option of `teacher` or `student` has: those of _common.yaml, and the model."""
    text = (conf_dir() / group / "_common.yaml").read_text(encoding="utf-8")
    return ["model", *re.findall(r"@(\w+):", text), *(key for key in re.findall(r"^(\w+):", text, re.M) if key != "defaults")]


def common_text(group: str) -> str:
    """Return the keys that every option of a group has, with their comments; empty where it has none."""
    file = conf_dir() / group / "_common.yaml"
    return keys(file.read_text(encoding="utf-8")) if file.is_file() else ""


def inner_groups(group: str) -> dict[str, str]:
    """Return ``{place: group}`` of the groups that choose inside a teacher or student, such as teacher.optimizer."""
    file = conf_dir() / group / "_common.yaml"
    if group not in ("teacher", "student"):
        return {}
    named = re.findall(r"^  - /(\w+)@(\w+):", file.read_text(encoding="utf-8"), re.M)
    return {f"{group}.model": "model", **{f"{group}.{place}": inner for inner, place in named}}


def read_lines(command: str, lines: Iterable[str], prefix: str = "", above: Iterable[str] = ()) -> list[str]:
    """Return the lines of a config whose keys a command reads and no text `above` has, with a prefix before each key."""
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
    """Return the texts behind a command: its own yaml, then the shared files its defaults list names."""
    own = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    shared = [conf_dir() / f"{name}.yaml" for name in re.findall(r"^  - (_(?!self_)\w+)$", own, re.M)]
    return [own, *(file.read_text(encoding="utf-8") for file in reversed(shared))]


def default_options(text: str) -> list[str]:
    """Return the groups that a defaults list chooses from, in its order."""
    return re.findall(r"^  - (\w+): ", text, re.M)


def keys(text: str) -> str:
    """Return the lines of a config that set keys, with their comments: no head, no defaults list, no settings of Hydra."""
    body = re.sub(r"^(defaults|hydra):.*\n(?:[ #].*\n?)*", "", text, flags=re.M)
    return "\n".join(line for line in body.splitlines() if line.strip() and not line.startswith("#"))
