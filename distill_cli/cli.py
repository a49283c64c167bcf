"""The door: reads the first word and hands the rest on. Standard library only, so that help costs no import of hydra or torch."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from distill_cli.errors import UserError, near

COMMANDS = {
    "train-teacher": "train a teacher, which distill then finds",
    "distill": "train a student from a teacher, with its control beside it",
    "eval": "score a finished run again: run=FOLDER",
}
PLAIN = {
    "report": "one table over runs and sweeps: mean and deviation over seeds, best first",
    "ls": "what can be chosen: distill ls [GROUP[/OPTION]]",
}
FLAGS = """\
flags:
  -m, --multirun        one job for every combination: seed=0,1,2 loss=soft_target,hard
  --cfg job             print the composed config and run nothing
  --info defaults       print where every part of the config comes from
  --config-dir DIR      a folder with your own groups and experiments
  --json                print report.json to stdout, and nothing else there
  --hydra-help          further flags
"""
VALUE_FLAGS = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--experimental-rerun"}
SHOWING_FLAGS = {"--cfg", "-c", "--info", "-i", "--hydra-help"}
OPEN_KEYS = ("require", "teacher.rename")  # dictionaries that users fill with keys of their own
TEACHER_GROUPS = r"(teacher|student)\.(model|optimizer|schedule|mixup|sampling)=([^{\[].*)"
# Settings that cannot change a job's result, so that a sweep is found again whatever they are.
NOT_HASHED = ("hydra.launcher", "hydra/launcher", "hydra.verbose", "require", "++require", "outputs=")


def usage() -> str:
    """Return the text of `distill --help`."""
    rows = "\n".join(f"  {name:<14} {text}" for name, text in {**COMMANDS, **PLAIN}.items())
    return (
        f"usage: distill COMMAND [GROUP=OPTION ...] [key=value ...] [flags]\n\ncommands:\n{rows}\n\n"
        "  distill COMMAND --help      groups, keys and flags of a command\n"
        "  distill --version\n"
        '  eval "$(distill -sc install=bash)"      completion; zsh and fish likewise\n'
    )


def command_help(command: str) -> str:
    """Return the text of `distill <command> --help`, read from conf/ as it stands, composing nothing."""
    from distill_cli.groups import PURPOSES, command_files, conf_dir, default_options, keys, options

    texts = command_files(command)
    known = options([conf_dir()])
    chosen = [group for text in texts for group in default_options(text)]
    rows = "\n".join(f"  {g:<12}{PURPOSES.get(g, '')}\n{'':14}{', '.join(known.get(g, {})) or '-'}" for g in chosen)
    settings = "\n".join(f"  {line}" for text in texts for line in keys(text).splitlines())
    return (
        f"usage: distill {command} [GROUP=OPTION ...] [key=value ...] [flags]\n\n{COMMANDS[command]}\n\n"
        f"groups (distill ls GROUP/OPTION prints an option's keys):\n{rows}\n\nkeys:\n{settings}\n\n{FLAGS}"
    )


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return flags (with their values) and overrides: Hydra 1.3 refuses overrides on both sides of a flag."""
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        if re.match(r"--[\w./@-]+=", word) and word.split("=")[0] not in VALUE_FLAGS | {"--info"}:
            raise UserError(f"{word}: drop the dashes: {word.lstrip('-')}")
        flags.append(word)
        if word in VALUE_FLAGS:
            flags += [value] if (value := next(words, None)) is not None else []
    if flags and flags[-1] in ("--info", "-i") and overrides and "=" not in overrides[0]:
        flags.append(overrides.pop(0))
    return flags, overrides


def rewrite(command: str, override: str) -> str:
    """Return an override as Hydra wants it: ``++`` where new keys are welcome, ``group@package`` for a nested group.

    Raises:
        UserError: the word is not an override at all.
    """
    if override.startswith("~"):
        return override
    key, equals, _ = override.partition("=")
    if not equals or not key:
        hint = f"run={key}" if command == "eval" and "/" in key else f"{key or 'KEY'}=VALUE"
        raise UserError(f"'{override}' is not key=value; did you mean '{hint}'?")
    if nested := re.fullmatch(TEACHER_GROUPS, override, re.S):
        side, group, option = nested.groups()
        return f"{group}@{side}.{group}={option}"
    open_keys = (*OPEN_KEYS, "dataset") if command == "eval" else OPEN_KEYS
    chooses_group = key == "dataset"
    if not chooses_group and any(key == k or key.startswith(f"{k}.") for k in open_keys):
        return f"++{override}"
    return override


def sweep_key(command: str, flags: list[str], overrides: list[str]) -> str:
    """Return a hash of a command line in which order does not matter: the name of its sweep's folder."""
    folder = next((f"{a} {b}" for a, b in itertools.pairwise(flags) if a in ("--config-dir", "-cd")), "")
    kept = sorted(o for o in overrides if not o.startswith(NOT_HASHED))
    return hashlib.sha256(json.dumps([command, kept, folder]).encode()).hexdigest()[:10]


@contextlib.contextmanager
def stdout_kept_for_json() -> Iterator[TextIO]:
    """Send what this process and its children print to stderr; yield the real stdout."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as real:
        os.dup2(2, 1)
        try:
            yield real
        finally:
            sys.stdout.flush()
            real.flush()
            os.dup2(real.fileno(), 1)


def run_hydra(command: str, argv: list[str]) -> int:
    """Compose conf/<command>.yaml with the overrides in `argv`, run it, and return the exit code."""
    as_json = "--json" in argv
    try:
        flags, overrides = split_arguments([a for a in argv if a != "--json"])
        overrides = [rewrite(command, o) for o in overrides]
        for flag in flags:
            if flag.split("=")[0] in ("--config-name", "-cn", "--config-path", "-cp"):
                raise UserError(f"{flag}: the command chooses the config; use experiment=NAME with --config-dir DIR")
            if as_json and flag.split("=")[0] in SHOWING_FLAGS:
                raise UserError(f"--json prints a report, and {flag} runs nothing; drop one of them")
    except UserError as e:
        sys.stderr.write(f"distill {command}: error: {e}\n")
        return 2
    os.environ["DISTILL_SWEEP_KEY"] = sweep_key(command, flags, overrides)
    sys.argv = [sys.argv[0], *flags, *overrides]
    sys.path.append(os.getcwd())  # a console script lacks it, and `_target_: my_losses.Mine` lies there
    if not as_json:
        from distill_cli.app import run_command

        return run_command(command)
    os.environ["DISTILL_JSON"] = "1"
    with stdout_kept_for_json() as real:
        from distill_cli.app import run_command

        return run_command(command, real)


def completion(argv: list[str]) -> int:
    """Answer the shell's hook: ``distill -sc query=SHELL`` with the line typed so far in COMP_LINE."""
    command = "distill"
    if argv[:1] and argv[0].startswith("query="):
        line = os.environ.get("COMP_LINE", "")
        words = line.split()
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print(" ".join({**COMMANDS, **PLAIN}))
            return 0
        if words[1] not in COMMANDS:
            return 0
        command = words[1]
        os.environ["COMP_LINE"] = " ".join([words[0], *line.split(None, 2)[2:]]) + (" " if len(words) == 2 else "")
    sys.argv = [sys.argv[0], "-sc", *argv]
    sys.path.append(os.getcwd())
    from distill_cli.app import run_command

    return run_command(command)


def run_plain(command: str, argv: list[str]) -> int:
    """Run a command that needs no Hydra."""
    try:
        if command == "ls":
            from distill_cli.commands.ls import main as plain
        else:
            from distill_cli.commands.report import main as plain
        return plain(argv)
    except UserError as e:
        sys.stderr.write(f"distill {command}: error: {e}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def main() -> int:
    """Run the command line; return 0, 1 (a bug), 2 (a mistake of the user), 3 (a `require` missed) or 130 (interrupted)."""
    command, *argv = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        sys.stdout.write(usage())
    elif command == "--version":
        from distill_cli import __version__

        print(f"distill {__version__}")
    elif command in ("-sc", "--shell-completion"):
        return completion(argv)
    elif command in PLAIN:
        return run_plain(command, argv)
    elif command not in COMMANDS:
        hint = near(command, [*COMMANDS, *PLAIN]) or "; see distill --help"
        sys.stderr.write(f"distill: error: unknown command '{command}'{hint}\n")
        return 2
    elif {"-h", "--help"} & set(argv):
        sys.stdout.write(command_help(command))
    else:
        return run_hydra(command, argv)
    return 0
