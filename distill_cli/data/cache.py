"""Prepared arrays on disk, built once under a lock and memory-mapped afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.errors import UserError
from distill_cli.utils.files import hash_json, make_folder, open_npy, write_json, write_npy
from distill_cli.utils.locks import file_lock

Arrays = dict[str, np.ndarray]
Built = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""Arrays by name, and further facts to store (JSON-able)."""


def cached_arrays(
    cache: str | Path, name: str, settings: Mapping[str, Any], build: Callable[[], Built]
) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of `build()`, from the cache where they exist.

    The folder is ``<cache>/<name>-<hash of settings>/``.

    Each array is one .npy file, returned memory-mapped; meta.json is written last and marks the folder as complete. A damaged
    folder is built again.

    Args:
        cache: folder of prepared data.
        name: name of the data set.
        settings: everything that the arrays depend on, the source's fingerprint included.
        build: function that builds the arrays; called at most once, under a lock, so that parallel jobs build them once.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(cache) / f"{name}-{hash_json(settings)}"
    cached = _load(folder)
    if cached is not None:
        return cached
    try:
        make_folder(folder)
    except UserError:
        raise UserError(f"{cache}: prepared data cannot be written here; choose another folder with dataset.cache=") from None
    with file_lock(folder.with_suffix(".lock")):
        cached = _load(folder)
        if cached is None:
            arrays, facts = build()
            for key, array in arrays.items():
                write_npy(folder / f"{key}.npy", array)
            shapes = {key: list(array.shape) for key, array in arrays.items()}
            write_json(folder / "meta.json", {"settings": settings, "facts": facts, "shapes": shapes})
            cached = _load(folder)
    if cached is None:
        raise UserError(f"{folder}: prepared data cannot be read back; delete this folder and try again")
    return cached


def _load(folder: Path) -> tuple[Arrays, dict[str, Any]] | None:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays = {key: open_npy(folder / f"{key}.npy") for key in meta["shapes"]}
        complete = all(list(arrays[key].shape) == shape for key, shape in meta["shapes"].items())
        return (arrays, meta["facts"]) if complete else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
