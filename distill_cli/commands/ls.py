"""The command `distill ls`: groups, options, and an option's file.

Only the standard library is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill_cli.commands.parser import Parser
from distill_cli.config.options import GROUP_HELP, common_text, conf_dir, inner_groups, options
from distill_cli.errors import UserError, did_you_mean

HELP = """\
usage: distill ls [GROUP[/OPTION]] [--config-dir DIR]

  distill ls                  groups and their options
  distill ls loss             one line an option
  distill ls loss/hint        the option's file: its keys, their defaults and what they mean
"""


def main(argv: Sequence[str]) -> int:
    """Print groups, options or a file, and return the exit code.

    Raises:
        UserError: a group, option, folder or flag does not exist.
    """
    typed = Parser("ls", "--config-dir").read(argv)
    if len(typed.words) > 1:
        raise UserError(f"'{typed.words[1]}': expected one GROUP or GROUP/OPTION; see distill ls --help")
    path = "".join(typed.words).strip("/").removesuffix(".yaml")
    known = options([conf_dir(), *typed.config_dir])
    if not path:
        for group, files in known.items():
            print(f"{group:<12}{GROUP_HELP.get(group, '')}\n{'':14}{', '.join(files)}")
    elif path in known:
        width = max(map(len, known[path]))
        for option, file in known[path].items():
            print(f"{option:<{width + 2}}{first_comment(file)}".rstrip())
        print(shared_keys(path), end="")
    else:
        file, group = find_option(known, path), path.rpartition("/")[0]
        text = file.read_text(encoding="utf-8")
        in_role = file.parent.name != group.rpartition("/")[2]  # a model, as student or teacher
        print("\n".join([*typed_keys(f"{group}.model", text), ""]) if in_role else text, end="")
        if in_role or "- _common" in text:
            print(shared_keys(group), end="")
    return 0


def shared_keys(group: str) -> str:
    """Return the keys that every option of a group has, as text to type.

    The text is empty where the group has none.
    """
    lines = [f"{place}={'|'.join(options([conf_dir()])[inner])}" for place, inner in inner_groups(group).items()]
    lines += typed_keys(group, common_text(group))
    return "\n".join([f"\nwith every option of {group}:", *lines, ""]) if lines else ""


def typed_keys(place: str, text: str) -> list[str]:
    """Return the lines of a config with its keys as they are typed on a command line."""
    return [f"{place}.{line}" if line[:1].strip() and not line.startswith("#") else line for line in text.splitlines()]


def find_option(known: dict[str, dict[str, Path]], path: str) -> Path:
    """Return the file of ``group/option``.

    Raises:
        UserError: the group or option does not exist; names the nearest.
    """
    group, slash, option = path.rpartition("/")
    if not slash or group not in known:
        group = group or option
        hint = did_you_mean(group, known) or f" (groups: {', '.join(known)})"
        raise UserError(f"no group '{group}'{hint}")
    if option not in known[group]:
        raise UserError(
            f"no option '{option}' in {group}{did_you_mean(option, known[group])} (available: {', '.join(known[group])})"
        )
    return known[group][option]


def first_comment(file: Path) -> str:
    """Return the comment on the first line of an option's file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
        if line and not line.startswith("#"):
            break
    return ""
