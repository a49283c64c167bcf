"""Hydra's and OmegaConf's messages, in one line of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from omegaconf import DictConfig

from distill_cli.errors import near
from distill_cli.groups import conf_dir


def one_line(error: BaseException, command: str) -> str:
    """Return what went wrong, where, and what to do, on one line, for an error raised while composing or starting a job."""
    return " ".join(str(error).split())


def flag_error(argv: list[str]) -> str | None:
    """Return what is wrong with the flags among `argv`, or None."""
    return None
