"""In which folder a job runs: a new one, or that of an unfinished run of the same config; and who is writing there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from distill_cli.config.resume_policy import AUTO, NEVER, should_resume
from distill_cli.errors import UserError
from distill_cli.runs import layout
from distill_cli.utils import files, locks

RUN = "run.json"
RESUMED = ("distill", "train-teacher")  # the commands that train


def resolve_run_dir(resume: str | None, outputs: Path, command: str, out: Path, key: str, *, sweeping: bool) -> Path:
    """Return the folder of a job.

    Args:
        resume: ``auto``: the newest unfinished run of this config, if there is one; ``never``; or its folder. None: ``auto`` in a
            sweep, whose jobs have folders of their own by config, ``never`` elsewhere.
        outputs: the folder of all runs.
        command: first word of the command line.
        out: the folder that Hydra has made for the job.
        key: of the job's config.
        sweeping: whether it is a job of a sweep.

    Raises:
        UserError: the folder named has no unfinished run of this config.
    """
    if command not in RESUMED or not should_resume(resume, sweeping):
        return out
    if sweeping:
        if resume not in (None, AUTO):
            raise UserError(f"resume={resume}: a sweep goes on in its own folder; use resume={AUTO} or resume={NEVER}")
        return out
    if resume != AUTO:
        if not str(resume).strip():
            raise UserError("resume is empty: use resume=auto, resume=never, or the folder of an unfinished run")
        return _named(Path(str(resume)), command, key)
    if _is_of(out, command, key):  # chosen by hydra.run.dir
        return out
    found = [path.parent for path in (outputs / command).glob(f"*/{layout.RESUME_DIR}")]
    for folder in found:  # a run that was killed before it had said what it is never comes back to clean up
        files.remove_stale_temporaries(folder / layout.RESUME_DIR / RUN)
    fitting = [folder for folder in found if _is_of(folder, command, key)]
    return max(fitting, key=lambda folder: (folder / layout.RESUME_DIR / RUN).stat().st_mtime, default=out)


def _named(folder: Path, command: str, key: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"resume={folder}: no such folder; use resume=auto, resume=never, or the folder of an unfinished run")
    if layout.is_finished(folder):
        raise UserError(f"resume={folder}: this run is finished; leave resume out to make a new one")
    if not (folder / layout.RESUME_DIR / RUN).is_file():
        raise UserError(
            f"resume={folder}: holds no unfinished run (no {layout.RESUME_DIR}/{RUN}); leave resume out to make a new one"
        )
    if not _is_of(folder, command, key):
        begun = layout.read_json(folder / layout.RESUME_DIR / RUN).get("command_line")
        raise UserError(f"resume={folder}: begun with other settings; its own command line was: {begun}")
    return folder


def _is_of(folder: Path, command: str, key: str) -> bool:
    if layout.is_finished(folder):
        return False
    try:
        begun = layout.read_json(folder / layout.RESUME_DIR / RUN)
    except UserError:
        return False
    return begun.get("command") == command and begun.get("key") == key


def mark_started(folder: Path, command: str, key: str, command_line: str) -> None:
    """Leave a word in a run folder of what is being run in it."""
    about: dict[str, Any] = {"command": command, "key": key, "command_line": command_line}
    files.write_json(folder / layout.RESUME_DIR / RUN, about)


def clean_up_failed_run(folder: Path, before: Collection[str]) -> None:
    """Remove what a run that ended by a mistake has written, unless training states are there to go on from.

    What else has come into the folder meanwhile stays: other runs may lie below it.

    Args:
        folder: the run's, owned by this process.
        before: what lay in it when the run began.
    """
    if layout.is_finished(folder) or any((folder / layout.RESUME_DIR).glob("*/*")):
        return
    files.remove(folder / name for name in layout.RUN_FILES if name not in before)


@contextlib.contextmanager
def lock_run_dir(folder: Path) -> Iterator[None]:
    """Be the only process that writes in a run folder; the system lets go when the process dies.

    Raises:
        locks.Owned: another process is, and which.
        UserError: links in the folder lead out of it.
    """
    about: dict[str, Any] = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    about["invocation"] = os.environ.get("DISTILL_INVOCATION")
    files.ensure_no_symlinks(folder, (locks.OWNER, *layout.RUN_FILES))
    with locks.try_lock(folder / locks.OWNER, about) as owner:
        if owner is not None:
            raise locks.Owned(folder, owner)
        yield


def redirect_log(old: Path, new: Path) -> None:
    """Let the log go on in another run folder.

    Raises:
        UserError: the log there is a link.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == old.resolve():
            name = Path(handler.baseFilename).name
            files.ensure_no_symlinks(new, (name,))
            other = logging.FileHandler(new / name)
            other.setFormatter(handler.formatter)
            root.removeHandler(handler)
            handler.close()
            root.addHandler(other)
