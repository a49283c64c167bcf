from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from distill_cli.data.cache import cached_arrays
from distill_cli.errors import UserError


class Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "names": np.array(["a", "bb", "c"])}, {"notes": ["n"]}


def test_arrays_are_built_once_and_memory_mapped(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(2):
        arrays, facts = cached_arrays(tmp_path, "d", {"rate": 1}, build)
    assert build.calls == 1 and isinstance(arrays["x"], np.memmap) and facts == {"notes": ["n"]}
    np.testing.assert_array_equal(arrays["x"], [[0, 1], [2, 3], [4, 5]])
    assert list(arrays["names"]) == ["a", "bb", "c"]
    cached_arrays(tmp_path, "d", {"rate": 2}, build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["no meta", "short array", "other shape"])
def test_a_damaged_folder_is_built_again(tmp_path: Path, damage: str) -> None:
    build = Builder()
    cached_arrays(tmp_path, "d", {}, build)
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    if damage == "no meta":
        (folder / "meta.json").unlink()
    elif damage == "short array":
        os.truncate(folder / "x.npy", 130)
    else:
        np.save(folder / "x.npy", np.zeros((1, 2), np.float32))
    arrays, _ = cached_arrays(tmp_path, "d", {}, build)
    assert build.calls == 2 and arrays["x"].shape == (3, 2)


def test_a_build_that_fails_leaves_no_finished_folder(tmp_path: Path) -> None:
    def fail():
        raise UserError("broken record")

    with pytest.raises(UserError, match="broken record"):
        cached_arrays(tmp_path, "d", {}, fail)
    assert not list(tmp_path.rglob("meta.json"))
    build = Builder()
    cached_arrays(tmp_path, "d", {}, build)
    assert build.calls == 1
    assert json.loads(next(tmp_path.rglob("meta.json")).read_text())["shapes"] == {"x": [3, 2], "names": [3]}


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError) as e:
        cached_arrays(file, "d", {}, Builder())
    assert str(e.value) == f"{file}: prepared data cannot be written here; choose another folder with dataset.cache="
