"""The entry point: reads the first word and runs its command.

Only the standard library is imported, so that ``--help`` is fast.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator

from distill_cli.config.options import SHOWING_COMMANDS
from distill_cli.config.overrides import TYPED_WORDS, by_job, normalize_override, split_arguments, sweep_key
from distill_cli.config.paths import expanded
from distill_cli.errors import UserError, did_you_mean, printable
from distill_cli.utils.pipes import guard

COMMANDS = {
    "train-teacher": "train a teacher, which distill then finds",
    "distill": "train a student from a teacher, with its control beside it; `distill train` is the same",
    "eval": "score a finished run again: run=FOLDER",
    "export": "ship a run's model as files that run elsewhere, checked, with a model card: run=FOLDER format=onnx",
    "bench": "latency, throughput, memory and bytes of teacher and student, in PyTorch and ONNX: run=FOLDER",
    "predict": "classes and probabilities of a file's rows or a record's beats: run=FOLDER input=FILE",
    "layers": "list the modules of teacher and student, and pairs for losses on features",
}
ALIASES = {"train": "distill", "version": "--version"}
COMMANDS_WITHOUT_HYDRA = {
    "report": "one table over runs and sweeps: mean and deviation over seeds, best first",
    "ls": "what can be chosen: distill ls [GROUP[/OPTION]]",
    "verify": "each loss against its formula, finite differences and its word: distill verify [loss=NAME]",
}
FLAGS = """\
flags:
  -m, --multirun        one job for every combination: seed=0,1,2 KEY=a,b
  --cfg job             print the composed config and run nothing
  --info defaults       print where every part of the config comes from
  --config-dir DIR      a folder with your own groups and experiments
  --trust PATTERN       classes that a stranger's run folder may name, beside those of DISTILL_TRUST
  --json                print report.json to stdout, and nothing else there
  --hydra-help          further flags
"""
SHOWING_FLAGS = {"--cfg", "-c", "--info", "-i", "--hydra-help"}


def usage() -> str:
    """Return the text of `distill --help`."""
    rows = "\n".join(f"  {name:<14} {text}" for name, text in {**COMMANDS, **COMMANDS_WITHOUT_HYDRA}.items())
    return (
        f"usage: distill COMMAND [GROUP=OPTION ...] [key=value ...] [flags]\n\ncommands:\n{rows}\n\n"
        "  distill COMMAND --help      groups, keys and flags of a command\n"
        "  distill --version\n"
        '  eval "$(distill -sc install=bash)"      completion; zsh and fish likewise\n'
    )


def command_help(command: str) -> str:
    """Return the text of `distill <command> --help`.

    The text is read from the files of conf/, without composing a config.
    """
    from distill_cli.config.options import (
        GROUP_HELP,
        STUDENT_ONLY,
        command_files,
        common_text,
        conf_dir,
        default_options,
        inner_groups,
        keys,
        options,
        read_lines,
    )  # fmt: skip

    texts = command_files(command)
    known = options([conf_dir()])
    hidden = STUDENT_ONLY if command == "train-teacher" else ()
    chosen = [group for text in texts for group in default_options(text) if group not in hidden]
    rows = "\n".join(f"  {g:<12}{GROUP_HELP.get(g, '')}\n{'':14}{', '.join(known.get(g, {})) or '-'}" for g in chosen)
    inner = {place: group for g in chosen for place, group in inner_groups(g).items()}
    rows += "".join(f"\n  {place}={'|'.join(known[group])}" for place, group in inner.items())
    lines: list[str] = []
    for text in texts:
        lines += read_lines(command, keys(text).splitlines(), above=[line.partition(":")[0] for line in lines])
    lines += [line for g in chosen for line in read_lines(command, common_text(g).splitlines(), f"{g}.")]
    settings = "\n".join(f"  {line}" for line in lines)
    return (
        f"usage: distill {command} [GROUP=OPTION ...] [key=value ...] [flags]\n\n{COMMANDS[command]}\n\n"
        f"groups (distill ls GROUP/OPTION prints an option's keys):\n{rows}\n\nkeys:\n{settings}\n\n{FLAGS}"
    )


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr inside the block.

    Output of child processes and of C libraries is redirected, too.
    """
    sys.stdout.flush()
    stdout_copy = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout_copy, 1)
        os.close(stdout_copy)


def take_patterns(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without ``--trust PATTERN``, and the patterns.

    Raises:
        UserError: the flag has no pattern.
    """
    rest, patterns = [], []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag != "--trust":
            rest.append(argument)
            continue
        value = value if equals else next(arguments, "")
        if not value or "=" in value or value.startswith("-"):
            raise UserError("--trust: expected a class or a pattern, such as --trust 'my_models.*'")
        patterns += value.split()
    return rest, patterns


@contextlib.contextmanager
def trusting(patterns: list[str]) -> Iterator[None]:
    """Add patterns to DISTILL_TRUST inside the block.

    The variable holds for this process and the jobs that it starts.
    """
    before = os.environ.get("DISTILL_TRUST")
    if patterns:
        os.environ["DISTILL_TRUST"] = " ".join([*(before or "").split(), *patterns])
    try:
        yield
    finally:
        if patterns and before is None:
            del os.environ["DISTILL_TRUST"]
        elif patterns:
            os.environ["DISTILL_TRUST"] = str(before)


def run_hydra(command: str, argv: list[str]) -> int:
    """Compose conf/<command>.yaml with the overrides in `argv`, and run the job.

    Returns:
        The exit code.
    """
    as_json, typed = "--json" in argv, argv
    try:
        argv, patterns = take_patterns(argv)
        flags, overrides = split_arguments([a for a in argv if a != "--json"])
        overrides = [normalize_override(command, o) for o in overrides]
        shown = [flag for flag in flags if flag.split("=")[0] in SHOWING_FLAGS]
        if as_json and shown:
            raise UserError(f"--json prints a report, and {shown[0]} runs nothing; drop one of them")
        if command in SHOWING_COMMANDS and (odd := [flag for flag in ("--json", "-m", "--multirun") if flag in argv]):
            raise UserError(f"{odd[0]}: {command} makes no report; drop it")
    except UserError as e:
        sys.stderr.write(f"distill {command}: error: {e}\n")
        return 2
    os.environ["DISTILL_SWEEP_KEY"] = sweep_key(command, flags, overrides)
    os.environ[TYPED_WORDS] = json.dumps(typed)
    sys.argv = [sys.argv[0], *flags, *map(by_job, overrides)]
    sys.path.append(os.getcwd())  # for `_target_: my_losses.Mine`; a console script lacks the working folder
    if not as_json:
        from distill_cli.cli.hydra_app import run_command

        with trusting(patterns):
            return run_command(command)
    os.environ["DISTILL_JSON"] = "1"
    report = io.StringIO()
    with trusting(patterns), stdout_to_stderr():
        from distill_cli.cli.hydra_app import run_command

        code = run_command(command, report)
    sys.stdout.write(report.getvalue())
    return code


def completion(argv: list[str]) -> int:
    """Print the completions for the shell's hook ``distill -sc query=SHELL``.

    The line typed so far is in COMP_LINE.
    """
    command, folder = "distill", list[str]()
    if argv[:1] and argv[0].startswith("query="):
        line = os.environ.get("COMP_LINE", "")
        typed = line.split()
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join({**COMMANDS, **COMMANDS_WITHOUT_HYDRA}))
            return 0
        command = ALIASES.get(typed[1], typed[1])
        if command not in COMMANDS:
            return 0
        match = re.search(r"\s(?:--config-dir|-cd)[\s=]+(\S+)", line)
        folder = ["--config-dir", path] if match and os.path.isdir(path := expanded(match[1])) else []
        os.environ["COMP_LINE"] = " ".join([typed[0], *line.split(None, 2)[2:]]) + (" " if len(typed) == 2 else "")
    sys.argv = [sys.argv[0], "-sc", *argv, *folder]
    sys.path.append(os.getcwd())
    from distill_cli.cli.hydra_app import run_command

    offered = io.StringIO()
    with contextlib.redirect_stdout(offered):
        code = run_command(command)
    # Files whose name starts with _ are parts of options, not options.
    sys.stdout.write(re.sub(r"(?<!\S)[^\s=]*=_\w*[ \t]?", "", offered.getvalue()))
    return code


def run_plain(command: str, argv: list[str]) -> int:
    """Run a command without Hydra, and return the exit code."""
    try:
        module = importlib.import_module(f"distill_cli.commands.{command}")
        if {"-h", "--help"} & set(argv):
            sys.stdout.write(module.HELP)
            return 0
        return module.main(argv)
    except UserError as e:
        sys.stderr.write(f"distill {command}: error: {e}\n")
        return 2


def dispatch(command: str, argv: list[str]) -> int:
    """Run the command that the first word names, and return the exit code."""
    command = ALIASES.get(command, command)
    if command in ("-h", "--help", "help"):
        sys.stdout.write(usage())
    elif command == "--version":
        from distill_cli import __version__

        print(f"distill {__version__}")
    elif command in ("-sc", "--shell-completion"):
        return completion(argv)
    elif command in COMMANDS_WITHOUT_HYDRA:
        return run_plain(command, argv)
    elif command not in COMMANDS:
        hint = did_you_mean(command, [*COMMANDS, *COMMANDS_WITHOUT_HYDRA, *ALIASES]) or "; see distill --help"
        sys.stderr.write(f"distill: error: unknown command '{printable(command)}'{hint}\n")
        return 2
    elif {"-h", "--help"} & set(argv):
        sys.stdout.write(command_help(command))
    else:
        return run_hydra(command, argv)
    return 0


def main() -> int:
    """Run the command line, and return the exit code.

    Returns:
        0, 1 (a bug), 2 (a mistake of the user), 3 (a missed `require`) or 130 (interrupted).
    """
    guard()
    command, *argv = sys.argv[1:] or ["--help"]
    try:
        return dispatch(command, argv)
    except KeyboardInterrupt:
        return 130
