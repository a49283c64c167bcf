"""Reading of weight files that other programs have written.

Chooses the part of a file that fits a network, and the prefix to remove.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.errors import UserError, did_you_mean
from distill_cli.runs import layout

# What wrappers put before the names of the network inside: data parallelism, compilation, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")
COUNTER = "n_averaged"  # of torch's averaged models, beside the weights
DEPTH = 3  # dictionaries within dictionaries that are looked into


@dataclass(frozen=True)
class Reading:
    """One way to read a weight file.

    Holds the tensors at a place in it, less a prefix of their names.
    """

    place: str
    prefix: str
    tensors: Mapping[str, Tensor]

    @property
    def described(self) -> str:
        """How the file was read, printed after its name.

        Empty where nothing was chosen or removed.
        """
        parts = [f"its '{self.place}'"] if self.place else []
        parts += [f"names without '{self.prefix}'"] if self.prefix else []
        return f" ({', '.join(parts)})" if parts else ""


def read_weights(path: Path, network: nn.Module, key: str | None, prefixes: Mapping[str, str]) -> Reading:
    """Return the one reading of a file that fits a network.

    Args:
        path: ``.safetensors``, or a state dict or a dictionary with state dicts that torch reads with ``weights_only``.
        network: what the weights are for.
        key: place of the state dict in the file (``ema``, ``state.model``); None: the only one that fits.
        prefixes: old beginnings of names and what replaces them, before any other prefix is looked for.

    Raises:
        UserError: unreadable, no reading fits, or several do.
    """
    where = f"teacher.weights={path}"
    places = _places(_content(path, where))
    if not places:
        raise UserError(f"{where}: expected a state dict of tensors by name")
    if key is not None:
        if key not in places:
            held = ", ".join(place for place in places if place) or "no state dict below its top"
            raise UserError(f"teacher.weights_key={key}: {path} has none{did_you_mean(key, list(places))} (it holds {held})")
        places = {key: places[key]}
    if COUNTER not in network.state_dict():
        places = {place: {n: t for n, t in tensors.items() if n != COUNTER} for place, tensors in places.items()}
    readings = [reading for place, tensors in places.items() for reading in _readings(place, renamed(tensors, prefixes))]
    fitting = [reading for reading in readings if _fits(network, reading.tensors)]
    if not fitting and len(places) > 1:
        raise UserError(
            f"{where}: none of its state dicts ({', '.join(map(_quoted, places))}) is of this architecture; "
            "look at teacher.model, or choose one with teacher.weights_key"
        )
    if len({reading.place for reading in fitting}) > 1:
        choice = " or ".join(reading.place for reading in fitting)
        raise UserError(f"{where}: holds several weights of this architecture; choose one: teacher.weights_key={choice}")
    if not fitting:
        closest = max(readings, key=lambda reading: len(set(reading.tensors) & set(network.state_dict())))
        layout.check_weights(network, closest.tensors, where + closest.described)
    return fitting[0]


def renamed(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors with the first matching prefix of each name replaced.

    >>> list(renamed({"module.a.weight": torch.ones(1)}, {"module.": ""}))
    ['a.weight']
    """
    out = {}
    for name, tensor in tensors.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        out[name if old is None else prefixes[old] + name[len(old) :]] = tensor
    return out


def _content(path: Path, where: str) -> Any:
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    if path.suffix == ".safetensors":
        return layout.read_tensors(path)
    if _is_script(path):
        raise UserError(
            f"{where}: a TorchScript file, which holds code, and none of it is run; save the weights alone: "
            f"torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pt')"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that torch would rather not see; what matters is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile):
        raise UserError(
            f"{where}: not a plain state dict (nothing else is unpickled); save model.state_dict(), best as .safetensors"
        ) from None


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/")[1:2] in (["constants.pkl"], ["code"]) for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _places(content: Any, place: str = "", depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by name of every dictionary in a file.

    Only dictionaries that hold tensors count; the key is their place: ``state.model``.
    """
    if not isinstance(content, Mapping) or depth > DEPTH:
        return {}
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    places = {place: own} if own else {}
    for name, value in content.items():
        places |= _places(value, f"{place}.{name}" if place else str(name), depth + 1)
    return places


def _readings(place: str, tensors: Mapping[str, Tensor]) -> Iterator[Reading]:
    """Yield the tensors with their names less common prefixes.

    First as they are named, then with one prefix after the other removed that all names share.
    """
    prefix, more = "", True
    while more:
        yield Reading(place, prefix, tensors)
        more = False
        for shared in PREFIXES:
            if all(name.startswith(shared) for name in tensors):
                tensors = {name.removeprefix(shared): tensor for name, tensor in tensors.items()}
                prefix, more = prefix + shared, True
                break


def _fits(network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    expected = network.state_dict()
    return expected.keys() == tensors.keys() and all(tensors[name].shape == value.shape for name, value in expected.items())


def _quoted(place: str) -> str:
    return f"'{place}'" if place else "the top"
