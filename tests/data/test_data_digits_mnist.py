from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from distill_cli.data import digits as module
from distill_cli.data.digits import digits, read_digits
from distill_cli.data.mnist import IMAGES, mnist, read_idx
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    read_x, read_y = read_digits()
    np.testing.assert_array_equal(read_x, (x / 16).astype(np.float32))
    np.testing.assert_array_equal(read_y, y)


def test_digits_without_the_bundled_file_come_from_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_digits()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for a, b in zip(read_digits(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_digits_data_set() -> None:
    d = digits()
    check_dataset(d)
    assert {k: len(p) for k, p in d.pools.items()} == {"train": 1078, "val": 270, "test": 449}
    assert d.input_shape == (64,) and d.train.x.min() == 0 and d.train.x.max() == 1
    assert digits(split_seed=1).fingerprint != d.fingerprint
    assert digits(split_seed=1).source_fingerprint == d.source_fingerprint


def idx(array: np.ndarray, magic: int) -> bytes:
    return np.array([magic, *array.shape], ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 20)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (n, 28, 28)), 2051))
        with gzip.open(tmp_path / f"{part}-labels-idx1-ubyte.gz", "wb") as f:
            f.write(idx(np.arange(n) % 10, 2049))
    return tmp_path


def test_mnist_reads_plain_and_gzipped_files(files: Path) -> None:
    d = mnist(str(files))
    check_dataset(d)
    assert {k: len(p) for k, p in d.pools.items()} == {"train": 50, "val": 10, "test": 20}
    raw = np.frombuffer((files / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(20, 1, 28, 28)
    np.testing.assert_allclose(d.test.x, raw / 255, rtol=1e-6)
    np.testing.assert_array_equal(d.test.y, np.arange(20) % 10)
    assert sorted(np.concatenate([d.train.index, d.val.index])) == list(range(60))


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images"
    path.write_bytes(np.array([2051, 2**31, 2**15, 2**15], ">u4").tobytes() + b"\0" * 10)
    with pytest.raises(UserError) as e:
        read_idx(path, IMAGES)
    promised = f"{2**61:,}"
    assert str(e.value) == f"{path}: the header promises {promised} bytes of data, the file holds 10; get the file again"


def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(np.array([2051, 80, 1024, 1024], ">u4").tobytes() + bytes(80 << 20)))
    monkeypatch.setattr("distill_cli.data.mnist._read_all", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError) as e:
        read_idx(path, IMAGES)
    assert str(e.value) == (
        f"{path}: the header promises 83,886,080 bytes of data, and the file has {path.stat().st_size:,}: "
        "more than images can be compressed; get the file again, or unpack it with gunzip if it is sound"
    )


def test_wrong_mnist_files(files: Path) -> None:
    def line() -> str:
        with pytest.raises(UserError) as e:
            mnist(str(files))
        return str(e.value)

    images, labels = files / "t10k-images-idx3-ubyte", files / "t10k-labels-idx1-ubyte.gz"
    good, good_labels = images.read_bytes(), labels.read_bytes()
    images.write_bytes(good[:-1])
    assert line() == f"{images}: the header promises 15,680 bytes of data, the file holds 15,679; get the file again"
    images.write_bytes(good + b"x")
    assert line() == f"{images}: the header promises 15,680 bytes of data, the file holds more; get the file again"
    images.write_bytes(b"PNG" + good)
    assert line() == f"{images}: not an idx file of images (it should begin with 2051)"
    images.write_bytes(good)
    labels.write_bytes(good_labels[:-12])
    assert line().startswith(f"{labels}: cannot read this file (") and line().endswith("); get it again")
    labels.write_bytes(gzip.compress(idx(np.arange(19) % 10, 2049)))
    assert line() == f"{labels}: 19 labels for the 20 images of t10k-images-idx3-ubyte"
    labels.write_bytes(gzip.compress(idx(np.arange(20), 2049)))
    assert line() == f"{labels}: label 19 at position 19; labels are 0 to 9"
    labels.unlink()
    assert (
        line() == f"{files}: no t10k-labels-idx1-ubyte.gz here; put the four MNIST files (train-images-idx3-ubyte.gz, ...) there"
    )


def test_no_mnist_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as e:
        mnist(str(tmp_path / "none"))
    assert str(e.value) == f"{tmp_path / 'none'}: no such folder; set dataset.root to the folder of the four MNIST files"


def test_real_mnist(real_data: Path) -> None:
    d = mnist(str(real_data / "mnist"))
    assert {k: len(p) for k, p in d.pools.items()} == {"train": 50_000, "val": 10_000, "test": 10_000}
    assert np.bincount(d.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    trained = np.concatenate([d.train.rows, d.val.rows])
    assert float(d.train.source[trained].mean()) == pytest.approx(0.1307, abs=1e-4)


def test_reading_digits_does_not_import_scikit_learn() -> None:
    import subprocess

    code = "import sys; from distill_cli.data.digits import digits; digits(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(module.__file__).parents[2])
