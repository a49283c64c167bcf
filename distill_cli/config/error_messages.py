"""Hydra's and OmegaConf's messages in one line of our own, for Hydra 1.3 and 1.4."""

from __future__ import annotations

import argparse
import itertools
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from distill_cli.config.options import TAKE_SEVERAL, conf_dir, moved, one_option, options, second_term
from distill_cli.config.resolvers import RESOLVERS
from distill_cli.config.validation.read_keys import reads, unread
from distill_cli.errors import UserError, did_you_mean, squashed, tokens

HYDRA14 = tuple(int(n) for n in hydra.__version__.split(".")[:2]) >= (1, 4)
TYPES = {"Integer": "int", "Float": "float", "Boolean": "bool", "string": "str"}
TOP_GROUPS = ("experiment", "hparams")  # groups whose options set keys of all others
KEYS_WANTED = "has keys of its own; set {0}.KEY=VALUE"


class CommandLine:
    """Words about one failed command line; it knows which keys and options there would have been.

    Args:
        command: its first word.
        argv: flags and overrides as they were handed to Hydra; empty inside a job.
    """

    def __init__(self, command: str, argv: Sequence[str] = ()) -> None:
        self.command = command
        self.overrides = [a for a in argv if not a.startswith("-")]
        named = [b for a, b in itertools.pairwise(argv) if a in ("--config-dir", "-cd")]
        self.config_dirs = [Path(d) for d in named]

    def options(self, group: str) -> list[str]:
        """Return the options of a group, Hydra's own groups excepted."""
        return list(options([conf_dir(), *self.config_dirs]).get(group, {}))

    def by_purpose(self, group: str, option: str) -> str:
        """Return the option whose first comment begins with a word, such as `hard` for cross_entropy; or an empty string."""
        files = options([conf_dir(), *self.config_dirs]).get(group, {})
        if any(squashed(name).startswith(squashed(option)) for name in files) or not option[:1].isalpha():
            return ""
        said = {name: tokens(file.read_text(encoding="utf-8").partition("\n")[0]) for name, file in files.items()}
        begin = tokens(option)
        return next((name for name, words in said.items() if begin and words[: len(begin)] == begin), "")

    def keys(self) -> list[str]:
        """Return all keys of the command with the options that were chosen."""
        groups = options([conf_dir(), *self.config_dirs])
        chosen = [o for o in self.overrides if o.partition("=")[0].lstrip("+").partition("@")[0] in groups and "," not in o]
        search = [f"hydra.searchpath=[{','.join(f'file://{d.resolve()}' for d in self.config_dirs)}]"]
        for overrides in (search + chosen, search):
            try:
                with hydra.initialize_config_dir(str(conf_dir()), **({} if HYDRA14 else {"version_base": "1.3"})):
                    return list(walk(hydra.compose(self.command, overrides)))
            except Exception:
                continue
        return []

    def unknown_key(self, key: str, source: str = "") -> str:
        """Return the words for a key that does not exist, with the nearest that does."""
        from distill_cli.config.validation.stages import STAGE_KEYS  # here: it loads numpy, which composing does without

        if line := moved(key):
            return f"{source}{line}"
        stage = re.fullmatch(rf"stages\.[^.]+\.({'|'.join(STAGE_KEYS)})", key)
        if stage:
            return f"{source}{key}: this stage does not set it yet; add it with +{key}=VALUE"
        if key in TOP_GROUPS and source.startswith(f"{key}/"):
            return f"{source}{self.package_error(key, source.removesuffix(': ').removeprefix(f'{key}/'))}"
        known = [*self.keys(), *options([conf_dir()])]
        plain = key.removeprefix("student.")  # what trains the student stands without its name
        return f"{source}unknown key '{key}'{did_you_mean(plain, [plain]) if plain in known else did_you_mean(key, known)}"

    def sweep_without_flag(self, word: str) -> str:
        """Return the words for several values without -m; for a group, a list is no way out."""
        place, _, value = word.partition("=")
        group = place.lstrip("+").partition("@")[0]
        if group not in options([conf_dir(), *self.config_dirs]) or group in TAKE_SEVERAL:
            return f"{word}: several values make a sweep, which needs -m; a list is written [1,2]"
        place = typed_place(place)
        names = value.split(",")
        terms = f"; for a second term: {second_term(place, names)}" if group == "loss" else ""
        return f"{place}={value}: several options make a sweep, which needs -m{terms}"

    def package_error(self, group: str, option: str) -> str:
        """Return that an option lacks its first line, which puts its keys at the top."""
        file = options([*self.config_dirs, conf_dir()]).get(group, {}).get(option)
        text = "" if file is None else file.read_text(encoding="utf-8", errors="replace")
        above = "the byte order mark" if text.startswith("\ufeff") else "what stands"
        remedy = f"take away {above} above it" if "@package _global_" in text else "add it"
        return f"'# @package _global_' must be the first line of this file; {remedy}"

    def no_option(self, group: str, option: str, listed: str = "") -> str:
        """Return the words for an option that does not exist, with those that do."""
        known = self.options(group) or [o for o in listed.split() if not o.startswith("_")]
        hint = f"; did you mean '{match}'?" if (match := self.by_purpose(group, option)) else did_you_mean(option, known)
        extra = "; pip install 'distill-cli[sweep]' brings joblib" if (group, option) == ("hydra/launcher", "joblib") else ""
        extra += "; none at all: logger=[]" if (group, option) == ("logger", "none") else ""
        there = f" (available: {', '.join(known)})" if known else ""
        return f"{group}={option}: no such option{hint}{extra}{there}"


def typed_place(key: str) -> str:
    """Return a group's override key as a user types it, such as `teacher.optimizer` for ``optimizer@teacher.optimizer``."""
    package = key.partition("@")[2]
    return package if package.startswith(("teacher.", "student.")) else key


def walk(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a config, resolving nothing."""
    for key in node:
        yield f"{prefix}{key!s}"
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_missing():
            yield from walk(inner, f"{prefix}{key!s}.")


Words = Callable[[CommandLine, re.Match[str]], str]
SOURCE = r"(?:In '([^']+)': \w+ raised while composing config: )?.*?"
PATTERNS: list[tuple[str, Words]] = [
    (r"Could not find '(?:(.+)/)?([^'/]+)'(?: Available options in '[^']+': (.*?))? ?Config search path",
     lambda line, m: line.no_option(m[1] or "", m[2], m[3] or "")),
    (r"Could not load '(?:(.+)/)?([^'/]+)'", lambda line, m: line.no_option(m[1] or "", m[2], "")),  # one of a list
    (r"looks like a config group override, but config group '([^']+)' does not exist",
     lambda line, m: f"unknown group '{m[1]}'{did_you_mean(m[1], options([conf_dir(), *line.config_dirs]))}"),
    (r"Could not override '([^']+)'", lambda line, m: line.unknown_key(m[1])),
    (r"Could not delete from config\. '([^']+)' does not exist", lambda line, m: line.unknown_key(m[1])),
    (SOURCE + r"Key '[^']+' (?:not in|is not in) .*?full_key: (\S+)",
     lambda line, m: line.unknown_key(m[2], f"{m[1]}: " if m[1] else "")),
    (SOURCE + r"Value '(.*?)' of type '\w+' could not be converted to (\w+) full_key: (\S+)",
     lambda line, m: f"{f'{m[1]}: ' if m[1] else ''}{m[4]}={m[2]}: expected {TYPES.get(m[3], m[3].lower())}"),
    (SOURCE + r"Cannot convert '\w+' to string: '(.*?)' full_key: (\S+)",
     lambda line, m: f"{f'{m[1]}: ' if m[1] else ''}{m[3]}={m[2]}: expected str"),
    (SOURCE + r"field '([^']+)' is not Optional",
     lambda line, m: f"{f'{m[1]}: ' if m[1] else ''}{m[2]}=null: a value is required"),
    (r"Invalid type assigned: \w+ is not a subclass of \w+\. value: (.*?) full_key: (\S+)",
     lambda line, m: f"{m[2]}={m[1]}: {KEYS_WANTED.format(m[2])}"),
    (r"Error merging override ([^=\s]+)=(.*?) Value '.*?' is not a valid bool",
     lambda line, m: f"{m[1]}={m[2]}: expected true or false"),
    (r"Error merging override ([^=\s]+)=(.*?) Invalid value assigned: \w+ is not a ListConfig",
     lambda line, m: f"{m[1]}={m[2]}: expected a list: {m[1]}=[{m[2]}]"),
    (r"Error merging override (.*?) Cannot merge .*?full_key: (\S+)",
     lambda line, m: f"{m[1]}: {KEYS_WANTED.format(m[2])}"),
    (r"Missing mandatory value: \S+(?: full_key: (\S+))?", lambda line, m: f"{m[1]} is required: pass {m[1]}=..."),
    (r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?= 1\.| requires)",
     lambda line, m: line.sweep_without_flag(m[1])),
    (r"An item is already at '([^']+)'", lambda line, m: f"+{m[1]}: there is such a key already; drop the +"),
    (r"UserError raised while resolving interpolation: (.*?)(?: full_key: \S+| object_type=|$)", lambda line, m: m[1]),
    (r"\w+ raised while resolving interpolation: (.*?) full_key: (\S+)", lambda line, m: f"{m[2]}: {m[1]}"),
    (r"Unsupported interpolation type (\w+) full_key: (\S+)",
     lambda line, m: f"{m[2]}: there is no ${{{m[1]}:...}}{did_you_mean(m[1], RESOLVERS)}"),
    (r"Interpolation key '([^']+)' not found(?: full_key: (\S+))?",
     lambda line, m: f"{m[2]}: there is no key '{m[1]}' to take it from"),
    (r"Additional config directory '([^']+)' not found", lambda line, m: f"--config-dir {m[1]}: no such folder"),
]  # fmt: skip


def one_line(error: BaseException, command: str, argv: Sequence[str] = ()) -> str:
    """Return what went wrong, where, and what to do, for an error raised while a job was composed or its folder made.

    Args:
        error: what Hydra, OmegaConf, PyYAML or the system raised.
        command: the command's name.
        argv: flags and overrides, for the nearest keys and options.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot write there ({error.strerror}); choose another folder with outputs="
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}: not YAML in line {error.problem_mark.line + 1}: {error.problem}"
    text = join_messages(error)
    for pattern, words in PATTERNS:
        if m := re.search(pattern, text):
            return words(CommandLine(command, argv), m)
    return re.split(r" Config search path| full_key:| See https?:", text)[0]


def composition_error(error: Exception, command: str, argv: Sequence[str]) -> str | None:
    """Return the line for what Hydra and OmegaConf stumble over while they compose; None for a bug of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    if not {"hydra", "omegaconf"} & set(Path(frames[-1].filename).parts) or any(frame.name == "task" for frame in frames):
        return None
    return (
        f"{' '.join(w for w in argv if w != '--run')}: cannot be composed ({join_messages(error)}); see distill {command} --help"
    )


def join_messages(error: BaseException) -> str:
    """Return the messages of an error and of its causes on one line."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if str(cause) not in parts:
            parts.append(str(cause))
        cause = cause.__cause__
    return " ".join(" ".join(parts).split())


class _FlagParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def check_arguments(command: str, argv: Sequence[str]) -> None:
    """Read flags and overrides as Hydra will, one by one, so that a message can name the one that is wrong.

    Raises:
        UserError: a flag or its value is unknown, an override cannot be read, or a group is given no option.
    """
    parser: Any = get_args_parser()
    parser.__class__ = _FlagParser
    try:
        parsed = parser.parse_args(list(argv))
    except UserError as e:
        wrong = str(e).removeprefix("unrecognized arguments: ")
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        if wrong != str(e):
            key = wrong.split()[0].lstrip("-")
            flag = "" if reads(command, key) else did_you_mean(wrong, [*flags, "--json", "--trust"])
            hint = flag or f"; keys have no dashes: {key}=VALUE"
            raise UserError(f"{wrong}: unknown flag{hint}") from None
        raise UserError(re.sub(r"^argument ([^:]*): ", lambda m: f"{m[1].split('/')[0]}: ", wrong)) from None
    line = CommandLine(command, argv)
    for text in parsed.overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            hint = (
                "quote values with brackets, commas, or letters and signs that are no a-z: key='\"...\"', in a list '[\"...\"]'"
            )
            raise UserError(f"{text}: cannot be read; {hint}") from None
        group, value = override.key_or_group, override.value()
        if unread_line := unread(command, group, override.package):
            raise UserError(unread_line)
        chooses = group in options([conf_dir(), *line.config_dirs]) and not override.is_delete()
        if chooses and group not in TAKE_SEVERAL:
            for choice in getattr(value, "list", []) if override.is_sweep_override() else [value]:
                refuse_list(group, text, choice)
        if chooses and not override.is_sweep_override() and not isinstance(value, str | list):
            raise UserError(line.no_option(group, "null" if value is None else str(value)))


def refuse_list(group: str, text: str, choice: Any) -> None:
    """Refuse a list of options where one is taken.

    Raises:
        UserError: says how each of them can be had.
    """
    if isinstance(choice, str) and (listed := re.fullmatch(r"\[(.*)\]", choice)):  # an element of a sweep
        choice = [name.strip() for name in listed[1].split(",") if name.strip()]
    if isinstance(choice, list):
        raise UserError(one_option(group, typed_place(text.partition("=")[0]), [str(name) for name in choice]))
