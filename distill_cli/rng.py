"""Named random streams of a seed.

Each purpose has a stream of its own, so that one draw never changes another.

Streams in use: ``init``, ``loss_init``, ``order``, ``shift``, ``augment`` (mixup), ``dropout``, ``gradients``, ``negatives``
and ``memory/...`` (of a contrastive loss) of a run; ``split/...``, ``labels``, ``heartbeat_synthetic`` of the data; the
bootstrap's draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a leaderboard uses NumPy's generators without torch, and composing a config uses neither
    import numpy as np
    import torch


def derive_seed(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> int:
    """Return a 63-bit seed that depends on (seed, purpose, epoch, step) alone."""
    text = f"{int(seed)}/{purpose}/{int(epoch)}/{int(step)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose.

    >>> import torch
    >>> a = torch.rand(2, generator=torch_generator(0, "order", epoch=3))
    >>> b = torch.rand(2, generator=torch_generator(0, "order", epoch=3))
    >>> bool((a == b).all())
    True
    """
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch, step))


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a NumPy generator for one purpose (splits, bootstrap draws)."""
    import numpy as np

    return np.random.default_rng(derive_seed(seed, purpose))


@contextmanager
def seeded(seed: int, purpose: str, epoch: int = 0) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them afterwards.

    For code that takes no generator, such as layer initialisation and dropout.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, purpose, epoch))
        yield


def get_rng_state() -> dict[str, torch.Tensor]:
    """Return the state of torch's global generators by device."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda:{n}": value for n, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_rng_state(state: Mapping[str, torch.Tensor]) -> None:
    """Restore a state of torch's global generators that `get_rng_state` returned.

    Call it inside `seeded`, which restores the caller's state at the end.
    """
    import torch

    torch.set_rng_state(state["cpu"])
    for name, value in state.items():
        if name.startswith("cuda:") and int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value, name)
