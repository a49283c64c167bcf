"""Argument parser of the commands that need no Hydra."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from distill_cli.config.overrides import config_folder
from distill_cli.errors import UserError, did_you_mean

FLAGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "--json": ((), {"action": "store_true"}),
    "--config-dir": (("-cd",), {"action": "append", "default": [], "type": config_folder}),
}


class Parser(argparse.ArgumentParser):
    """Argument parser that raises `UserError`.

    Arguments that are no flags are collected in ``words``.

    Args:
        command: name of the command.
        flags: names of flags, of `FLAGS`.
        keys: keys of ``key=value`` arguments, with an example value for the message on dashes.
    """

    def __init__(self, command: str, *flags: str, keys: Mapping[str, str] | None = None) -> None:
        super().__init__(f"distill {command}", add_help=False, allow_abbrev=False)
        self.flags, self.keys = flags, dict(keys or {})
        for flag in flags:
            aliases, how = FLAGS[flag]
            self.add_argument(flag, *aliases, **how)
        self.add_argument("words", nargs="*")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments.

        Raises:
            UserError: a flag is unknown or lacks its value.
        """
        typed, unknown = self.parse_known_intermixed_args(argv)
        for argument in unknown:
            key, _, value = argument.lstrip("-").partition("=")
            if key in self.keys:
                raise UserError(f"{argument}: drop the dashes: {key}={value or self.keys[key]}")
            raise UserError(
                f"unknown flag '{argument}'{did_you_mean(argument, [*self.flags, '--help']) or f'; see {self.prog} --help'}"
            )
        return typed

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")
