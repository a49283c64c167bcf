"""Training checkpoints on disk, written atomically and read without pickle.

At most two are kept. A checkpoint of another training is skipped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, get_num_threads, uint8

from distill_cli.errors import UserError
from distill_cli.utils import files
from distill_cli.utils import signals as stop_signals
from distill_cli.utils.serialization import flatten_state, unflatten_state

MAX_TO_KEEP = 2
NAME = re.compile(r"state-(\d{9,})\.safetensors")


@dataclass
class CheckpointManager:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: folder of the checkpoints; created by the first save.
        key: hash of everything that decides this training; a checkpoint with another key is skipped.
        every_steps: optimizer steps between checkpoints; None: not by steps.
        every_seconds: seconds between checkpoints; None: not by time.
        resume: whether an existing checkpoint is resumed; else it is removed.
        clock: monotonic clock in seconds, for tests.
    """

    folder: Path
    key: str
    every_steps: int | None = None
    every_seconds: float | None = None
    resume: bool = True
    clock: Any = time.monotonic
    _steps: int = 0
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.clock()

    def should_save(self) -> bool:
        """Count a step, and return whether to save a checkpoint after it."""
        self._steps += 1
        if stop_signals.stop_requested() is not None:
            return True
        if self.every_steps is not None and self._steps >= self.every_steps:
            return True
        return self.every_seconds is not None and self.clock() - self._at >= self.every_seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, and remove old ones.

        Args:
            state: nested dicts and lists of tensors and JSON values.

        Raises:
            UserError: the folder is not writable, the disk is full, or an optimizer holds what a checkpoint cannot.
            Interrupted: a signal has asked the training to stop; the checkpoint is written.
        """
        try:
            packed, tensors = flatten_state(state)
        except TypeError as e:
            if self.every_steps is None and self.every_seconds is None:
                stop_signals.raise_if_requested()
                return  # no checkpoints were asked for: the training continues without
            raise UserError(f"{self.folder}: {e}; set save_every=null, and choose an optimizer and a schedule of torch") from None
        before = self._written()
        number = before[-1][0] + 1 if before else 0
        text = json.dumps({"key": self.key, "threads": get_num_threads(), "state": packed})
        about = {"state": text, "digest": checksum(text, tensors)}
        files.write_arrays(self.folder / f"state-{number:09d}.safetensors", tensors, about)
        files.remove(path for _, path in before[: max(0, len(before) - MAX_TO_KEEP + 1)])
        self._steps, self._at = 0, self.clock()
        stop_signals.raise_if_requested()

    def load_latest(self) -> tuple[dict[str, Any] | None, str]:
        """Return the newest intact state of this training or None, and messages.

        Half-written files of killed processes are removed.
        """
        files.remove_all_temporaries(self.folder)
        if not self.resume:
            files.remove(path for _, path in self._written())
        messages = []
        for _, path in reversed(self._written()):
            state, key, threads = _read(path)
            if state is None:
                messages = [f"{path}: damaged, skipped"]
            elif key != self.key:
                messages = [f"{path}: of another data set, teacher, setting or version, skipped"]
            else:
                if threads != get_num_threads():
                    messages.append(
                        f"{path}: written with threads={threads}, resuming with {get_num_threads()}: last digits may differ"
                    )
                return state, "; ".join(messages)
        return None, "; ".join(messages)

    def _written(self) -> list[tuple[int, Path]]:
        matches = [(match, path) for path in self.folder.glob("state-*") if (match := NAME.fullmatch(path.name))]
        return sorted((int(match[1]), path) for match, path in matches)


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of a checkpoint's text and tensors.

    Why: a flipped bit in a weight would change a result unnoticed.
    """
    parts = (tensors[name].reshape(-1).view(uint8).numpy().data for name in sorted(tensors))
    return files.hash_bytes(text.encode(), *parts)


def _read(path: Path) -> tuple[dict[str, Any] | None, str, int]:
    """Return state, key and thread count of a file.

    The state is None where the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as f:
            about = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        if about["digest"] != checksum(about["state"], tensors):
            return None, "", 0
        text = json.loads(about["state"])
        state = unflatten_state(text["state"], tensors)
        return (state if isinstance(state, dict) else None), str(text["key"]), int(text["threads"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None, "", 0
