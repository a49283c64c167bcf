"""Runs that are made once and looked up by their key.

They are made under a lock, however many jobs ask at the same time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from distill_cli.factory.context import RunContext
from distill_cli.runs import layout
from distill_cli.utils import locks


def find_or_create(
    context: RunContext, key: str, field: str, what: str, make: Callable[[Path], Path], home: Path
) -> tuple[Path, bool]:
    """Return the finished run of a key, and whether it was there.

    Args:
        context: its `outputs` hold the register and the new folder.
        key: what the run is found by.
        field: of its report, which must say the same key.
        what: what messages call it; ``teacher`` or ``generation: NAME``.
        make: runs it in a folder of its own, below a folder that it adds, registers it, and returns the folder.
        home: that folder.
    """
    folder = layout.registered(context.output_dir, key, field)
    if folder is None:
        lock = context.output_dir / layout.REGISTER / f"{key}.lock"
        with locks.file_lock(lock, lambda: context.progress.say(f"{what}: another run is training it; waiting")):
            folder = layout.registered(context.output_dir, key, field) or _finished(context.output_dir, key, field, home)
            if folder is None:
                return make(_started_or_new(context, key, what)), False
    context.progress.say(f"{what}: found {folder}")
    return folder, True


def _finished(outputs: Path, key: str, field: str, home: Path) -> Path | None:
    """Register and return a finished run that is not in the register yet.

    Such a run died between its report and its entry.
    """
    started = layout.started_run(outputs, key)
    if started is None or not layout.is_finished(home / started):
        return None
    layout.register(outputs, key, home / started)
    return layout.registered(outputs, key, field)


def _started_or_new(context: RunContext, key: str, what: str) -> Path:
    """Return the name of the run's folder.

    It is that of an unfinished run with the key, where runs are resumed, or a new one.
    """
    started = layout.started_run(context.output_dir, key)
    if started is not None and context.checkpoint_policy.resume:
        context.progress.say(f"{what}: going on in {started}")
        return started
    context.progress.say(f"{what}: none with key {key} in {context.output_dir}; training one")
    name = Path(f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    layout.mark_started(context.output_dir, key, name)
    return name
