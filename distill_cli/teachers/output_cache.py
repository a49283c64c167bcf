"""A teacher's outputs on the training rows, stored on disk.

They are computed once, under a lock, and memory-mapped afterwards.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from distill_cli.data.loader import GIGABYTE
from distill_cli.data.stored_views import StoredViews
from distill_cli.errors import UserError
from distill_cli.runs import layout
from distill_cli.tasks.task import Task
from distill_cli.teachers.frozen import FrozenTeacher, PrecomputedTeacher
from distill_cli.types import Batch, ModelOutput
from distill_cli.utils import files, locks

LOGITS = "logits"
MANIFEST = "manifest.json"
ROWS_TRIED = 8
# Stored outputs are the teacher's own where they differ by no more than another batch size makes them differ.
TOLERANCE = {"32": 1e-3, "bf16": 1e-1, "fp16": 3e-2}

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class OutputCacheSpec:
    """Where outputs are kept, and what they are outputs of.

    Attributes:
        folder: of all caches.
        parts: everything that the outputs depend on, JSON-able, by name; their hash is the name of a cache's folder.
        max_gb: largest size in GiB of what may be written.
        chunk: rows computed at once.
        precision: ``32``, ``bf16`` or ``fp16``.
        autocast: arithmetic of the teacher's forward pass.
        resident_gb: outputs up to this size in GiB live on the device.
        say: told what is being done.
        task: calls the teacher; None: classification.
    """

    folder: Path
    parts: Mapping[str, Any]
    max_gb: float
    chunk: int = 256
    precision: str = "32"
    autocast: Autocast = contextlib.nullcontext
    resident_gb: float = 8.0
    say: Callable[[str], object] = lambda line: None
    task: Task | None = None


def weights_hash(model: nn.Module) -> str:
    """Return a hash of a model's weights and buffers, names and shapes included."""
    parts: list[bytes] = []
    for name, tensor in sorted(model.state_dict().items()):
        content = tensor.detach().cpu().contiguous()
        parts += [
            f"{name} {content.dtype} {tuple(content.shape)}".encode(),
            content.reshape(-1).view(torch.uint8).numpy().tobytes(),
        ]
    return files.hash_bytes(*parts)


def get_or_compute_outputs(
    cache: OutputCacheSpec, model: nn.Module, paths: Sequence[str], views: StoredViews
) -> tuple[PrecomputedTeacher, dict[str, Any]]:
    """Return the teacher's outputs on all views of the rows as a table.

    Also returns the report's section on the cache.

    Args:
        cache: where and under what key.
        model: the teacher, on the device of the rows.
        paths: modules whose outputs are kept beside the logits.
        views: the inputs.

    Raises:
        UserError: the outputs are larger than `max_gb` or the disk, or what is there is not what this run would compute.
    """
    teacher = FrozenTeacher(model, paths, cache.task)
    shapes = row_shapes(cache, teacher, views)
    rows = views.count * len(views.rows)
    size = rows * row_size(shapes)
    folder = cache.folder / files.hash_json(cache.parts)
    state = "found" if folder.exists() else _made(cache, folder, teacher, views, shapes, rows)
    tables = read(cache, folder, shapes, rows)
    device = views.rows.device
    if device.type != "cpu" and size <= cache.resident_gb * GIGABYTE:
        tables = {name: table.to(device) for name, table in tables.items()}
    table = PrecomputedTeacher(len(views.rows), tables[LOGITS], {path: tables[path] for path in paths})
    check_outputs(cache, folder, teacher, table, views)
    return table, {"state": state, "key": folder.name, "folder": str(folder), "bytes": size, "features": list(paths)}


def _made(
    cache: OutputCacheSpec,
    folder: Path,
    teacher: FrozenTeacher,
    views: StoredViews,
    shapes: Mapping[str, tuple[int, ...]],
    rows: int,
) -> str:
    """Compute the tables, unless another run has meanwhile.

    Returns ``made`` or ``found``.
    """
    size = rows * row_size(shapes)
    # The lock lies beside the folder, so that a cache may be deleted as a whole.
    with locks.file_lock(
        folder.with_suffix(".lock"), lambda: cache.say("teacher's outputs: another run is computing them; waiting")
    ):
        if folder.exists():
            return "found"
        check_size(cache, size, rows)
        cache.say(f"teacher's outputs: computing {rows:,} rows ({size / GIGABYTE:.2g} GiB) into {folder}")
        names = file_names(shapes)
        manifest = {"parts": cache.parts, "rows": rows, "files": {file: name for name, file in names.items()}}
        parts = ({names[k]: v.cpu().numpy() for k, v in part.items()} for part in iter_outputs(cache, teacher, views))
        try:
            files.write_tables(folder, rows, {names[k]: shape for k, shape in shapes.items()}, parts, manifest)
        except UserError:
            if not folder.exists():  # it does where another run was first, as a lock may be out of reach
                raise
            return "found"
    return "made"


def row_shapes(cache: OutputCacheSpec, teacher: FrozenTeacher, views: StoredViews) -> dict[str, tuple[int, ...]]:
    """Return the shape of one row of each output, from a try with the first rows."""
    positions = torch.arange(min(2, len(views.rows)))
    try:
        output = forward_samples(cache, teacher, views.batch(positions, 0))
    except ValueError as e:
        raise UserError(f"features of the teacher: {e}") from None
    for name, value in output.items():
        if len(value) != len(positions):
            raise UserError(
                f"cache: the teacher's '{name}' has {len(value)} rows for {len(positions)} samples; use cache.use=never"
            )
    return {name: tuple(value.shape[1:]) for name, value in output.items()}


def row_size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the bytes of one row of all outputs, float32."""
    return sum(4 * int(np.prod(shape)) for shape in shapes.values())


def forward_samples(cache: OutputCacheSpec, teacher: FrozenTeacher, batch: Batch) -> dict[str, Tensor]:
    """Return logits and features of some rows, float32."""
    with cache.autocast():
        output: ModelOutput = teacher(batch)
    return {LOGITS: output.logits.float(), **{path: value.float() for path, value in output.features.items()}}


def iter_outputs(cache: OutputCacheSpec, teacher: FrozenTeacher, views: StoredViews) -> Iterator[dict[str, Tensor]]:
    """Yield the outputs on all rows, view by view, a chunk at a time."""
    chunks = torch.arange(len(views.rows)).split(cache.chunk)
    for view in range(views.count):
        for batch in views.iter_batches(chunks, view):
            yield forward_samples(cache, teacher, batch)


def file_names(shapes: Mapping[str, Any]) -> dict[str, str]:
    """Return a file name for each output.

    Features are numbered, because module paths may differ in case alone.
    """
    return {name: name if name == LOGITS else f"feature_{n}" for n, name in enumerate(shapes)}


def check_size(cache: OutputCacheSpec, size: int, rows: int) -> None:
    """Check the size of outputs against the allowed size and the free disk."""
    what = f"cache: the teacher's outputs on {rows:,} rows need {size / GIGABYTE:.2f} GiB"
    instead = "or let the teacher run in the loop: cache.use=never"
    if size > cache.max_gb * GIGABYTE:
        enough = f"{np.ceil(size / GIGABYTE * 100) / 100:g}"
        raise UserError(f"{what}, and cache.max_gb={cache.max_gb:g} allows less; set cache.max_gb={enough}, {instead}")
    free = shutil.disk_usage(files.make_folder(cache.folder)).free
    if size > free:
        left = f"{free / GIGABYTE:.2f} GiB left"
        raise UserError(f"{what}, and {cache.folder} has {left}; choose another folder with cache.folder=, {instead}")


def read(cache: OutputCacheSpec, folder: Path, shapes: Mapping[str, tuple[int, ...]], rows: int) -> dict[str, Tensor]:
    """Return the tables of a cache, memory-mapped.

    Raises:
        UserError: stale, foreign, or damaged; says what differs.
    """
    if not (folder / MANIFEST).is_file():
        raise_stale_cache(folder, f"there is no {MANIFEST}")
    try:
        manifest = layout.read_json(folder / MANIFEST)
    except UserError:
        raise_stale_cache(folder, f"{MANIFEST} is damaged")
    stored_parts, parts = manifest.get("parts"), files.to_jsonable(cache.parts)
    if not isinstance(stored_parts, dict):
        raise_stale_cache(folder, f"its {MANIFEST} names no parts")
    for name in sorted({*stored_parts, *parts}):
        if stored_parts.get(name) != parts.get(name):
            raise_stale_cache(folder, f"it was made with {name} {stored_parts.get(name)}, and this run has {parts.get(name)}")
    tables = {}
    for name, file in file_names(shapes).items():
        path, shape = folder / f"{file}.npy", (rows, *shapes[name])
        try:
            # Copy-on-write: torch wants memory that may be written to, and the file stays as it is.
            array = files.open_npy(path, "c")
        except ValueError:
            raise_stale_cache(folder, f"{path.name} is missing, damaged or cut short")
        if array.shape != shape or array.dtype != np.float32:
            raise_stale_cache(
                folder, f"{path.name} holds {list(array.shape)} of {array.dtype}, expected {list(shape)} of float32"
            )
        tables[name] = torch.from_numpy(array)
    return tables


def check_outputs(
    cache: OutputCacheSpec, folder: Path, teacher: FrozenTeacher, table: PrecomputedTeacher, views: StoredViews
) -> None:
    """Try some rows: stored outputs must be what the teacher says now."""
    positions = torch.linspace(0, len(views.rows) - 1, min(ROWS_TRIED, len(views.rows))).long()
    view = views.count - 1
    batch = views.batch(positions, view)
    now, then = forward_samples(cache, teacher, batch), table(batch)
    for name, value in now.items():
        stored = then.logits if name == LOGITS else then.features[name]
        limit = TOLERANCE[cache.precision] * (1 + float(value.abs().max()))
        if not bool(((value - stored).abs() <= limit).all()):
            raise_stale_cache(folder, f"its {name} are not what this teacher says of these rows")


def raise_stale_cache(folder: Path, why: str) -> NoReturn:
    """Say that a cache is not used, why, and what to do."""
    raise UserError(f"{folder}: these stored outputs of a teacher are refused: {why}; delete the folder, or set cache.use=never")
