"""Errors of the user, each reported in one line. Standard library only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

LONGEST = 4000  # characters of a line; quoted data may be longer
SHORTEST = 3  # letters that a beginning needs to count as a match


class UserError(Exception):
    """A mistake of the user: one line on stderr, exit code 2, no traceback.

    The message names the place, the problem and the remedy. Text quoted from files may hold line breaks and terminal control
    codes: these are shown as escapes, and a text that is too long is shortened in the middle.
    """

    def __init__(self, line: str = "") -> None:
        super().__init__(printable(str(line)))


class UserErrors(UserError):
    """Several mistakes at once: one line each on stderr, exit code 2."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = [printable(line) for line in lines]


def printable(text: str) -> str:
    """Return a text as one line of printable characters.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the closest known name, or an empty string.

    >>> did_you_mean("soft", ["ft", "soft_target"])
    "; did you mean 'soft_target'?"
    """
    match = nearest(str(name), known)
    return f"; did you mean '{match}'?" if match else ""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the known name that is meant, or an empty string.

    Compared are the beginnings, then whole words in the names, then letters.
    """
    known = [str(w) for w in names]
    plain, parts = squashed(name), tokens(name)
    by_meaning: list[Callable[[str], bool]] = [
        lambda w: squashed(w) == plain,
        lambda w: len(plain) >= SHORTEST and squashed(w).startswith(plain),
        lambda w: set(parts) <= set(tokens(w)),
        lambda w: len(plain) >= SHORTEST and all(any(own.startswith(part) for own in tokens(w)) for part in parts),
    ]
    for fits in by_meaning if plain else ():
        if matches := [w for w in known if fits(w)]:
            return min(matches, key=len)
    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def tokens(text: str) -> list[str]:
    """Return the words that a name is made of, in lower case."""
    return re.findall(r"[a-z]+|\d+", text.lower()) if text.isascii() else text.lower().split()


def squashed(text: str) -> str:
    """Return letters and digits alone, in lower case."""
    return "".join(c for c in text.lower() if c.isalnum())
