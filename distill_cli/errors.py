"""What a user did wrong, said in one line. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user: one line on stderr, exit code 2, no traceback.

    The message says what is wrong, where, and what to do.
    """


def near(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'X'?"`` for the closest of `words`, or an empty string."""
    match = difflib.get_close_matches(str(word), [str(w) for w in words], 1)
    return f"; did you mean '{match[0]}'?" if match else ""
