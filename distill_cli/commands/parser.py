"""The flags and words of the commands that need no Hydra."""

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
    """A parser whose mistakes are a `UserError`; what is no flag becomes ``words``.

    Args:
        command: the word after ``distill``.
        flags: of `FLAGS`.
        keys: of ``key=value`` words that must not have dashes, with a value for the hint.
    """

    def __init__(self, command: str, *flags: str, keys: Mapping[str, str] | None = None) -> None:
        super().__init__(f"distill {command}", add_help=False, allow_abbrev=False)
        self.flags, self.keys = flags, dict(keys or {})
        for flag in flags:
            others, how = FLAGS[flag]
            self.add_argument(flag, *others, **how)
        self.add_argument("words", nargs="*")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return what was typed.

        Raises:
            UserError: an unknown flag, or a flag without its value.
        """
        typed, others = self.parse_known_intermixed_args(argv)
        for word in others:
            key, _, value = word.lstrip("-").partition("=")
            if key in self.keys:
                raise UserError(f"{word}: drop the dashes: {key}={value or self.keys[key]}")
            raise UserError(f"unknown flag '{word}'{did_you_mean(word, [*self.flags, '--help']) or f'; see {self.prog} --help'}")
        return typed

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")
