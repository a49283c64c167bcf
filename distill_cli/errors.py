"""What a user did wrong, said in one line. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 4000  # characters of a line; what data holds may be longer


class UserError(Exception):
    """A mistake of the user: one line on stderr, exit code 2, no traceback.

    The message says what is wrong, where, and what to do. What it quotes from files may hold ends of lines and codes that move a
    terminal: they are shown as escapes, and what is too long is left out in the middle.
    """

    def __init__(self, line: str = "") -> None:
        super().__init__(printable(str(line)))


def printable(text: str) -> str:
    """Return a text as one line of printable characters.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def near(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'X'?"`` for the closest of `words`, or an empty string."""
    match = difflib.get_close_matches(str(word), [str(w) for w in words], 1)
    return f"; did you mean '{match[0]}'?" if match else ""
