from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

DS = (
    "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230 "
    "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
)
SECONDS, RATE = 12, 360
SYMBOLS = ["N", "S", "V", "F", "/"]


def write_record(folder: Path, name: str, seed: int, leads: tuple[str, str] = ("MLII", "V5")) -> None:
    """A record of 12 s with a narrow pulse at each of 14 beats, and one annotation that is no beat."""
    import wfdb

    rng = np.random.default_rng(seed)
    peaks = 200 + np.arange(14) * 280 + rng.integers(-15, 15, 14)
    t = np.arange(SECONDS * RATE)
    signal = sum(np.exp(-(((t - p) / 12.0) ** 2)) for p in peaks)[:, None] * [1.0, 0.5] + 0.01 * rng.standard_normal((len(t), 2))
    wfdb.wrsamp(
        name, fs=RATE, units=["mV", "mV"], sig_name=list(leads), p_signal=signal, fmt=["212", "212"], write_dir=str(folder)
    )
    samples = np.sort(np.append(peaks, 100))
    symbols = ["+"] + [SYMBOLS[(i + seed) % 5] for i in range(14)]
    wfdb.wrann(name, "atr", samples, symbol=symbols, aux_note=["(N"] + [""] * 14, write_dir=str(folder))


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the 44 record names of DS1 and DS2; 111 has its leads the other way round, 113 lacks MLII."""
    pytest.importorskip("wfdb")
    folder = tmp_path_factory.mktemp("mitdb")
    for i, name in enumerate(DS.split()):
        write_record(folder, name, i, {"111": ("V5", "MLII"), "113": ("V5", "V2")}.get(name, ("MLII", "V5")))
    return folder


@pytest.fixture
def two_records(tmp_path: Path) -> Path:
    """A folder of two records that a test may spoil."""
    pytest.importorskip("wfdb")
    folder = tmp_path / "two"
    folder.mkdir()
    for i, name in enumerate(("100", "101")):
        write_record(folder, name, i)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that DISTILL_TEST_DATA names."""
    folder = os.environ.get("DISTILL_TEST_DATA")
    if not folder:
        pytest.skip("DISTILL_TEST_DATA does not name a folder with mitdb/ and mnist/")
    return Path(folder)
