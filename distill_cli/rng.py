"""All randomness is a named stream of a seed, so that one draw never moves another.

Streams in use: ``init``, ``loss_init``, ``order``, ``shift``, ``augment`` (mixup), ``dropout``, ``gradients``, ``negatives``
and ``memory/...`` (of a contrastive loss) of a run; ``split/...``, ``labels``, ``heartbeat_synthetic`` of the data; the
bootstrap's draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a table over runs draws, but needs no torch; composing a config needs neither
    import numpy as np
    import torch


def derive_seed(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> int:
    """Return a 63-bit seed that is a function of (seed, purpose, epoch, step) and of nothing else."""
    text = f"{int(seed)}/{purpose}/{int(epoch)}/{int(step)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose.

    >>> import torch
    >>> a = torch.rand(2, generator=stream(0, "order", epoch=3))
    >>> b = torch.rand(2, generator=stream(0, "order", epoch=3))
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
    """Seed torch's global generators inside the block, for code that takes no generator
    (layer initialisation, dropout), and give them back as they were."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, purpose, epoch))
        yield


def get_rng_state() -> dict[str, torch.Tensor]:
    """Return where torch's global generators stand, by device."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda:{n}": value for n, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_rng_state(state: Mapping[str, torch.Tensor]) -> None:
    """Put torch's global generators where `random_state` found them; call it inside `global_stream`."""
    import torch

    torch.set_rng_state(state["cpu"])
    for name, value in state.items():
        if name.startswith("cuda:") and int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value, name)
