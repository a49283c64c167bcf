"""Choice of the device that models run on."""

from __future__ import annotations

import torch

from distill_cli.errors import UserError


def choose_device(name: str, job: int | None) -> torch.device:
    """Return the device of a name.

    Raises:
        UserError: there is no such device here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise UserError("device=cuda: no CUDA GPU is usable here; use device=cpu or device=auto")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: no Apple GPU is usable here; use device=cpu or device=auto")
    if name in ("auto", "cuda") and gpus:
        return torch.device("cuda", 0 if job is None else job % gpus)
    if name == "auto" and torch.backends.mps.is_available():
        return torch.device("mps")
    if name in ("auto", "cpu", "mps"):
        return torch.device("cpu" if name == "auto" else name)
    raise UserError(f"device.name={name}: expected auto, cpu, cuda or mps")
