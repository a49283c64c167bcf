"""Folder of a job, new or of an unfinished run, and its lock."""

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
        resume: ``auto``: the newest unfinished run of this config, if there is one; ``never``; or a run folder. None: ``auto``
            in a sweep, whose jobs have folders by config, else ``never``.
        outputs: folder of all runs.
        command: name of the command.
        out: folder that Hydra has made for the job.
        key: key of the job's config.
        sweeping: whether the job belongs to a sweep.

    Raises:
        UserError: the named folder has no unfinished run of this config.
    """
    if command not in RESUMED or not should_resume(resume, sweeping):
        return out
    if sweeping:
        if resume not in (None, AUTO):
            raise UserError(f"resume={resume}: a sweep resumes in its own folder; use resume={AUTO} or resume={NEVER}")
        return out
    if resume != AUTO:
        if not str(resume).strip():
            raise UserError("resume is empty: use resume=auto, resume=never, or the folder of an unfinished run")
        return _named(Path(str(resume)), command, key)
    if _is_of(out, command, key):  # chosen by hydra.run.dir
        return out
    unfinished = [path.parent for path in (outputs / command).glob(f"*/{layout.RESUME_DIR}")]
    for folder in unfinished:  # a run that was killed before run.json was written leaves a temporary file
        files.remove_stale_temporaries(folder / layout.RESUME_DIR / RUN)
    fitting = [folder for folder in unfinished if _is_of(folder, command, key)]
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
        started = layout.read_json(folder / layout.RESUME_DIR / RUN).get("command_line")
        raise UserError(f"resume={folder}: started with other settings; its own command line was: {started}")
    return folder


def _is_of(folder: Path, command: str, key: str) -> bool:
    if layout.is_finished(folder):
        return False
    try:
        started = layout.read_json(folder / layout.RESUME_DIR / RUN)
    except UserError:
        return False
    return started.get("command") == command and started.get("key") == key


def mark_started(folder: Path, command: str, key: str, command_line: str) -> None:
    """Write run.json: command, config key and command line of a started run."""
    content: dict[str, Any] = {"command": command, "key": key, "command_line": command_line}
    files.write_json(folder / layout.RESUME_DIR / RUN, content)


def clean_up_failed_run(folder: Path, before: Collection[str]) -> None:
    """Remove the files of a run that failed by a user error, if nothing is trained.

    Files that have come into the folder otherwise stay, because other runs may lie below it.

    Args:
        folder: run folder, locked by this process.
        before: names in the folder when the run started.
    """
    if layout.is_finished(folder) or any((folder / layout.RESUME_DIR).glob("*/*")):
        return
    files.remove(folder / name for name in layout.RUN_FILES if name not in before)


@contextlib.contextmanager
def lock_run_dir(folder: Path) -> Iterator[None]:
    """Lock a run folder against other processes, until the block or process ends.

    Raises:
        locks.Owned: another process holds the lock; names the process.
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
    """Redirect the log file of one run folder to another.

    Raises:
        UserError: the log file there is a link.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == old.resolve():
            name = Path(handler.baseFilename).name
            files.ensure_no_symlinks(new, (name,))
            redirected = logging.FileHandler(new / name)
            redirected.setFormatter(handler.formatter)
            root.removeHandler(handler)
            handler.close()
            root.addHandler(redirected)
