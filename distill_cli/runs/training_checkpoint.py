"""Training states on disk: written atomically, at most two kept, read without pickle, passed over where another training's."""

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
    """The states of one training, in a folder of their own.

    Args:
        folder: where they lie; made by the first save.
        key: what decides this training; a state with another key is not continued.
        every_steps: steps from one state to the next; None: not by steps.
        every_seconds: seconds from one state to the next; None: not by time.
        resume: whether a state that is there is gone on from; else it is removed.
        clock: seconds that never go back, for tests.
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
        """Count a step; return whether a state is to be saved after it."""
        self._steps += 1
        if stop_signals.stop_requested() is not None:
            return True
        if self.every_steps is not None and self._steps >= self.every_steps:
            return True
        return self.every_seconds is not None and self.clock() - self._at >= self.every_seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state beside the last one, and take away those before.

        Raises:
            UserError: the folder is not writable, the disk is full, or an optimizer keeps what no state can hold.
            Interrupted: a signal has asked the training to stop; the state is there.
        """
        try:
            packed, tensors = flatten_state(state)
        except TypeError as e:
            if self.every_steps is None and self.every_seconds is None:
                stop_signals.raise_if_requested()
                return  # nobody asked for states: the training goes on without
            raise UserError(f"{self.folder}: {e}; set save_every=null, and choose an optimizer and a schedule of torch") from None
        before = self._written()
        number = before[-1][0] + 1 if before else 0
        text = json.dumps({"key": self.key, "threads": get_num_threads(), "state": packed})
        about = {"state": text, "digest": checksum(text, tensors)}
        files.write_arrays(self.folder / f"state-{number:09d}.safetensors", tensors, about)
        files.remove(old for _, old in before[: max(0, len(before) - MAX_TO_KEEP + 1)])
        self._steps, self._at = 0, self.clock()
        stop_signals.raise_if_requested()

    def load_latest(self) -> tuple[dict[str, Any] | None, str]:
        """Return the newest whole state of this training, and what a user should know of it and the others.

        Half-written files of killed processes are removed.
        """
        files.remove_all_temporaries(self.folder)
        if not self.resume:
            files.remove(path for _, path in self._written())
        said = []
        for _, path in reversed(self._written()):
            state, key, threads = _read(path)
            if state is None:
                said = [f"{path}: damaged, passed over"]
            elif key != self.key:
                said = [f"{path}: of another data set, teacher, setting or version, passed over"]
            else:
                if threads != get_num_threads():
                    said.append(
                        f"{path}: written with threads={threads}, going on with {get_num_threads()}: last digits may differ"
                    )
                return state, "; ".join(said)
        return None, "; ".join(said)

    def _written(self) -> list[tuple[int, Path]]:
        found = [(match, path) for path in self.folder.glob("state-*") if (match := NAME.fullmatch(path.name))]
        return sorted((int(match[1]), path) for match, path in found)


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of all that a state holds: a flipped bit in a weight would change a result, and nobody would see it."""
    parts = (tensors[name].reshape(-1).view(uint8).numpy().data for name in sorted(tensors))
    return files.hash_bytes(text.encode(), *parts)


def _read(path: Path) -> tuple[dict[str, Any] | None, str, int]:
    """Return the state in a file, None where it is damaged; the key of its training, and the threads that made it."""
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
