from __future__ import annotations

import shutil
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from distill_cli.data import heartbeat_source, wfdb_source
from distill_cli.data.beats import SegmentationSettings, beat_lengths, cut_beats
from distill_cli.data.heartbeat import DS1, DS2, VALIDATION, heartbeat
from distill_cli.data.leakage import find_overlap, record_training_rows
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")
STANDARD = SegmentationSettings(125, 187, 1.2, 10, "minmax_beat")
HERE = "put the MIT-BIH records (100.hea, 100.dat, 100.atr, ...) there, or mitbih_train.csv and mitbih_test.csv"


def fault(**options) -> str:
    with pytest.raises(UserError) as e:
        heartbeat(**options)
    assert "\n" not in str(e.value)
    return str(e.value)


def reference_beat(signal: np.ndarray, start: int, length: int, window: int) -> np.ndarray:
    row = [signal[start + k] for k in range(min(length, window))]
    low, high = min(row), max(row)
    return np.array([(v - low) / (high - low) for v in row] + [0.0] * (window - len(row)))


def test_beats_equal_a_loop_over_samples() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(125 * 31)
    peaks = np.array([5, 130, 240, 380, 1240, 1260, 1400, 1490, 1640, 2490, 3700, 3790])
    rows, kept = cut_beats(signal, 125, peaks, STANDARD)
    # fixed windows of 1,250 samples hold the first five beats, the next five, and two, for which 100 samples are taken
    lengths = [int(1.2 * np.median(np.diff(peaks[:5])))] * 5 + [int(1.2 * np.median(np.diff(peaks[5:10])))] * 5 + [120] * 2
    assert beat_lengths(peaks, STANDARD).tolist() == lengths
    assert kept.tolist() == [True] * 11 + [False]  # 3,790 + 120 is past the end
    expected = [reference_beat(signal, p, n, 187) for p, n in zip(peaks[:11], lengths[:11], strict=True)]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_a_beat_over_missing_samples_is_dropped() -> None:
    signal = np.random.default_rng(0).standard_normal(125 * 10)
    signal[400] = np.nan
    rows, kept = cut_beats(signal, 125, np.array([100, 350, 700]), STANDARD)
    assert kept.tolist() == [True, False, True] and len(rows) == 2 and np.isfinite(rows).all()


def test_signals_are_resampled_to_the_rate() -> None:
    t = np.arange(360 * 12) / 360
    slow = SegmentationSettings(100, 150, 1.2, 10, "none")
    rows, _ = cut_beats(np.sin(2 * np.pi * t), 360, np.array([360 * 3, 360 * 4]), slow)
    assert rows.shape == (2, 150)
    np.testing.assert_allclose(rows[0, :96], np.sin(2 * np.pi * np.arange(96) / 100), atol=0.02)
    assert (rows[0, 96:] == 0).all()  # 1.2 x 0.8 s, as there are two beats only


def test_normalisations() -> None:
    signal = np.random.default_rng(0).standard_normal(125 * 20)
    peaks = np.array([300, 1500])
    raw, _ = cut_beats(signal, 125, peaks, SegmentationSettings(125, 100, 1.2, 10, "none"))
    by_window, _ = cut_beats(signal, 125, peaks, SegmentationSettings(125, 100, 1.2, 10, "minmax_window"))
    for i, part in enumerate((signal[:1250], signal[1250:])):
        np.testing.assert_allclose(by_window[i], (raw[i] - part.min()) / (part.max() - part.min()), atol=1e-5)
    flat, _ = cut_beats(np.ones(500), 125, np.array([100]), SegmentationSettings(125, 100, 1.2, 10, "minmax_window"))
    assert np.isfinite(flat).all()


def test_records_become_beats(records: Path, tmp_path: Path) -> None:
    d = heartbeat(str(records), cache=str(tmp_path))
    check_dataset(d)
    assert d.input_shape == (1, 187) and d.class_names == ("N", "S", "V", "F", "Q") and d.macro_classes == (0, 1, 2, 3, 4)
    n = sum(len(p) for p in d.pools.values())
    assert n == 44 * 14 and len(d.test) == pytest.approx(0.2 * n, abs=2) and len(d.val) == pytest.approx(0.08 * n, abs=2)
    for p in d.pools.values():
        assert (p.x[:, 0, :3].max(axis=1) > 0.95).all() and p.x.min() == 0  # each starts at its pulse
    order = np.argsort(np.concatenate([p.index for p in d.pools.values()]))
    y = np.concatenate([p.y for p in d.pools.values()])[order]
    seeds = {name: i for i, name in enumerate([*DS1, *DS2])}
    assert y.tolist() == [(i + seeds[name]) % 5 for name in sorted(seeds) for i in range(14)]
    group = np.concatenate([p.group for p in d.pools.values() if p.group is not None])[order]
    assert group.tolist() == ["201" if name == "202" else name for name in sorted(seeds) for _ in range(14)]
    assert not d.grouped
    assert d.notes == (
        "Records without lead MLII give their first channel: 113.",
        "Beats are split at random: the same patients are in train, validation and test.",
    )


def test_a_dropped_beat_keeps_its_number_and_takes_its_class_along(two_records: Path) -> None:
    import wfdb

    # the fourth beat, of 3 s, runs past the end; the fifth lies in the next window, where beats are shorter
    peaks = np.array([180, 1080, 1980, 3528, 3780])
    wfdb.wrann("100", "atr", peaks, symbol=["N", "V", "S", "F", "N"], write_dir=str(two_records))
    arrays, facts = heartbeat_source.cut_records(two_records, ["100", "101"], "MLII", STANDARD)
    assert arrays["y"][:5].tolist() == [0, 2, 1, 0, 1]
    assert arrays["index"].tolist() == [0, 1, 2, 4, *range(5, 19)]
    assert arrays["record"].tolist() == ["100"] * 4 + ["101"] * 14
    assert facts["notes"] == [
        "1 of 19 annotated beats are left out: they run past the end of their record or over missing samples."
    ]


def test_the_lead_is_found_by_name(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    halves = {}
    for lead in ("MLII", "V5"):  # the second channel has half the height
        arrays, _ = heartbeat_source.cut_records(records, ["100", "111"], lead, SegmentationSettings(125, 187, 1.2, 10, "none"))
        halves[lead] = [arrays["x"][arrays["record"] == r].max() for r in ("100", "111")]
    assert halves["MLII"] == pytest.approx([1.0, 0.5], abs=0.1) and halves["V5"] == pytest.approx([0.5, 1.0], abs=0.1)


def test_inter_patient_is_by_records(records: Path, tmp_path: Path) -> None:
    d = heartbeat(str(records), split="inter_patient", cache=str(tmp_path))
    check_dataset(d)
    assert d.grouped and d.macro_classes == (0, 1, 2, 3) and list(d.extra_test_sets) == ["test_without_202"]
    record = np.load(next(tmp_path.rglob("record.npy")))
    of = {k: set(record[p.rows].tolist()) for k, p in d.pools.items()}
    assert of["train"] == set(DS1) - set(VALIDATION) and of["val"] == set(VALIDATION) and of["test"] == set(DS2)
    assert of["test_without_202"] == set(DS2) - {"202"} and len(DS1) == len(DS2) == 22
    assert any("201 (DS1) and 202 (DS2) are the same person" in note for note in d.notes)


def test_the_tutorial_validates_on_a_fifth_of_test(records: Path, tmp_path: Path) -> None:
    d = heartbeat(str(records), split="tutorial", cache=str(tmp_path))
    check_dataset(d)
    random = heartbeat(str(records), cache=str(tmp_path))
    np.testing.assert_array_equal(d.test.index, random.test.index)
    assert set(d.val.index) <= set(d.test.index) and len(d.val) == pytest.approx(len(d.test) / 5, abs=3)
    assert set(d.train.index) == set(random.train.index) | set(random.val.index)
    assert "Validation is a fifth of the test split" in d.notes[-1]


def test_split_seed_moves_the_random_splits_only(records: Path, tmp_path: Path) -> None:
    def ids(split: str, split_seed: int) -> set[int]:
        return set(heartbeat(str(records), split=split, split_seed=split_seed, cache=str(tmp_path)).test.index.tolist())

    assert ids("random", 0) != ids("random", 1) and ids("inter_patient", 0) == ids("inter_patient", 1)


def test_a_teacher_of_the_random_split_has_seen_the_patients_of_inter_patient(records: Path, tmp_path: Path) -> None:
    random = heartbeat(str(records), cache=str(tmp_path))
    student = heartbeat(str(records), split="inter_patient", cache=str(tmp_path))
    assert "of the student's val split" in (find_overlap(record_training_rows(random.train, random), student) or "")
    assert find_overlap(record_training_rows(student.train, student), student) is None
    # another cut of the same records is the same source: ids number annotated beats, whatever the settings
    other = heartbeat(str(records), split_seed=1, window=100, beat=0.8, cache=str(tmp_path))
    assert other.source_fingerprint == student.source_fingerprint and other.fingerprint != student.fingerprint
    assert find_overlap(record_training_rows(other.train, other), student) is not None


def test_beats_are_cut_once_and_memory_mapped(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = heartbeat(str(records), cache=str(tmp_path))
    monkeypatch.setattr(heartbeat_source, "cut_records", lambda *a: pytest.fail("cut again"))
    again = heartbeat(str(records), cache=str(tmp_path))
    assert isinstance(again.train.source, np.memmap) and again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.x, first.train.x)


def test_changed_records_are_cut_again(two_records: Path, tmp_path: Path) -> None:
    first = heartbeat(str(two_records), cache=str(tmp_path))
    data = bytearray((two_records / "100.dat").read_bytes())
    data[900] ^= 64
    (two_records / "100.dat").write_bytes(data)
    assert heartbeat(str(two_records), cache=str(tmp_path)).source_fingerprint != first.source_fingerprint
    assert len(list(tmp_path.glob("heartbeat-*/meta.json"))) == 2


def test_missing_and_empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wfdb")
    root = tmp_path / "mitdb"
    assert fault(root=str(root)) == (
        f"{root}: no such folder; set dataset.root to the folder of the WFDB records (an empty one is filled by download)"
    )
    root.mkdir()

    def offline(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    cache = str(tmp_path / "cache")
    assert fault(root=str(root), cache=cache) == f"{root}: no WFDB records here (no network to download them); {HERE}"
    assert fault(root=str(root), cache=cache, download=False) == f"{root}: no WFDB records here; {HERE}"
    (root / "notes.txt").write_text("x")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: pytest.fail("a folder in use is not downloaded into"))
    assert fault(root=str(root), cache=cache) == f"{root}: no WFDB records here; {HERE}"


class Answer:
    def close(self) -> None: ...


def test_an_empty_folder_is_filled_whole_or_not_at_all(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wfdb

    root = tmp_path / "mitdb"
    root.mkdir()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: Answer())

    def breaks_off(database: str, target: str) -> None:
        shutil.copy(records / "100.hea", target)
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(wfdb, "dl_database", breaks_off)
    said = fault(root=str(root), cache=str(tmp_path / "cache"))
    assert said == f"{root}: the download broke off (reset by peer); try again, or put the records there"
    assert list(root.iterdir()) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["cache", "mitdb"]

    def half_a_record(database: str, target: str) -> None:
        for suffix in (".hea", ".atr", ".dat"):
            shutil.copy(records / f"100{suffix}", target)
        (Path(target) / "100.dat").write_bytes(b"\0")

    monkeypatch.setattr(wfdb, "dl_database", half_a_record)
    assert "100.dat: truncated" in fault(root=str(root), cache=str(tmp_path / "cache"))
    assert list(root.iterdir()) == []

    monkeypatch.setattr(wfdb, "dl_database", lambda database, target: shutil.copytree(records, target, dirs_exist_ok=True))
    assert len(heartbeat(str(root), cache=str(tmp_path / "cache")).test) > 0
    assert len(list(root.iterdir())) == 44 * 3


HEADER = "101 2 360 4320\n101.dat 212 200 12 0 0 0 0 MLII\n101.dat 212 200 12 0 0 0 0 V5\n"


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("hello world\n", "101.hea: not a readable WFDB header (invalid syntax in record line); get the file again"),
        (
            "101/4 2 360 1000\na 10\nb 10\n",
            "101.hea: not the header of a record of one segment with its signals; get the file again",
        ),
        (
            HEADER.replace("4320", "99999999999"),
            "101.dat: truncated: 101.hea promises 299,999,999,997 bytes, found 12,960; get the file again",
        ),
        (
            HEADER.replace("212", "212x1000000", 1),
            "101.dat: truncated: 101.hea promises 6,480,006,480 bytes, found 12,960; get the file again",
        ),
        (
            HEADER.replace("101 2", "101 999999999"),
            "101.hea: not the header of a record of one segment with its signals; get the file again",
        ),
        (HEADER.replace("360", "0.001"), "101.hea: sampling frequency 0.001 Hz; expected 20 to 100,000"),
        (HEADER.replace(" 4320", ""), "101.hea: no number of samples on the first line; add it"),
        (
            HEADER.replace("212", "516"),
            "101.hea: signal file '101.dat' of format 516 cannot be read; formats: 8, 16, 24, 32, 61, 80, 160, 212, 310, 311",
        ),
        (HEADER.replace("101.dat", "1o1.dat"), "1o1.dat: no such file, but 101.hea names it; put it in the folder"),
    ],
)
def test_a_header_is_not_taken_at_its_word(two_records: Path, tmp_path: Path, header: str, line: str) -> None:
    (two_records / "101.hea").write_text(header)
    assert fault(root=str(two_records), cache=str(tmp_path / "cache")) == f"{two_records}/{line}"
    assert not list(tmp_path.rglob("meta.json"))


def test_broken_records(two_records: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    dat, atr = two_records / "101.dat", two_records / "101.atr"
    whole, notes = dat.read_bytes(), atr.read_bytes()
    dat.write_bytes(whole[:1000])
    assert fault(root=str(two_records), cache=cache) == (
        f"{dat}: truncated: 101.hea promises 12,960 bytes, found 1,000; get the file again"
    )
    dat.write_bytes(whole)
    atr.write_bytes(notes[:-3])
    assert fault(root=str(two_records), cache=cache) == f"{atr}: truncated: it does not end with an end mark; get the file again"
    atr.write_bytes(b"\0\0")
    said = fault(root=str(two_records), cache=cache)
    assert said == f"{atr}: no annotated beats; take the record out of the folder, or get the file again"
    atr.unlink()
    assert fault(root=str(two_records), cache=cache) == (
        f"{atr}: no such file, but 101.hea is there; put all three files of the record in the folder"
    )


def test_wrong_settings(two_records: Path, tmp_path: Path) -> None:
    def said(**options) -> str:
        return fault(root=str(two_records), cache=str(tmp_path / "cache"), **options)

    assert said(lead="MLI") == "heartbeat: no record has lead 'MLI'; did you mean 'MLII'? (leads: MLII, V5)"
    assert said(split="inter-patient") == (
        "heartbeat: no split 'inter-patient'; did you mean 'inter_patient'? (splits: random, inter_patient, tutorial)"
    )
    assert said(normalise="minmax") == "heartbeat: normalise must be one of minmax_beat, minmax_window, none, got 'minmax'"
    assert said(rate=0) == "heartbeat: rate must be 20 to 1000, got 0"
    assert said(window=10**9) == "heartbeat: window must be 8 to 4096, got 1000000000"
    assert said(rr_window_seconds=0.1) == "heartbeat: rr_window_seconds must be 1 to 3600, got 0.1"
    assert said(beat=-1) == "heartbeat: beat must be above 0 and at most 4, got -1"
    assert said(test_fraction=1) == "test_fraction must be above 0 and below 1, got 1"
    missing = ", ".join(sorted({*DS1, *DS2} - {"100", "101"}))
    assert (
        said(split="inter_patient")
        == f"{two_records}: inter_patient needs the 44 records of DS1 and DS2; without beats: {missing}"
    )


def test_without_wfdb_the_line_says_how_to_install_it(two_records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert fault(root=str(two_records), cache=str(tmp_path / "cache")) == (
        "reading WFDB records needs the wfdb package: pip install 'distill-cli[ecg]'"
    )


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "kaggle"
    folder.mkdir()
    for name, n in (("mitbih_train.csv", 100), ("mitbih_test.csv", 50)):
        table = np.column_stack([rng.random((n, 187)), np.arange(n) % 5])
        np.savetxt(folder / name, table, delimiter=",", fmt="%.18e")
    return folder


def test_the_csv_pair_is_read_and_its_split_kept(kaggle: Path, tmp_path: Path) -> None:
    d = heartbeat(str(kaggle), cache=str(tmp_path / "cache"))
    check_dataset(d)
    assert {k: len(p) for k, p in d.pools.items()} == {"train": 90, "val": 10, "test": 50} and d.input_shape == (1, 187)
    assert d.test.index.tolist() == list(range(100, 150)) and d.test.group is None
    np.testing.assert_allclose(d.test.x[:, 0], np.loadtxt(kaggle / "mitbih_test.csv", delimiter=",")[:, :-1], rtol=1e-6)
    np.testing.assert_array_equal(d.test.y, np.arange(50) % 5)
    assert "its test file is the test split" in d.notes[0]
    tutorial = heartbeat(str(kaggle), split="tutorial", cache=str(tmp_path / "cache"))
    assert {k: len(p) for k, p in tutorial.pools.items()} == {"train": 100, "val": 10, "test": 50}


def test_wrong_csv_pairs(kaggle: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert fault(root=str(kaggle), split="inter_patient", cache=cache) == (
        f"{kaggle}: the CSV pair does not say which patient a beat is from; inter_patient needs the WFDB records"
    )
    test = kaggle / "mitbih_test.csv"
    rows = np.zeros((3, 188))
    rows[1, -1] = 7
    np.savetxt(test, rows, delimiter=",")
    assert fault(root=str(kaggle), cache=cache) == f"{test}: class '7' in the last column; heartbeat classes are 0 to 4"
    np.savetxt(test, rows[:, :-1], delimiter=",")
    assert fault(root=str(kaggle), cache=cache) == f"{test}: 187 columns; a heartbeat CSV has 188"


@pytest.mark.slow
def test_real_records_give_the_published_beats(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    d = heartbeat(str(real_data / "mitdb"), cache=str(tmp_path))
    y = np.concatenate([p.y for p in d.pools.values()])
    assert np.bincount(y).tolist() == [90_583, 2_780, 7_236, 803, 8_039]
    between = heartbeat(str(real_data / "mitdb"), split="inter_patient", cache=str(tmp_path))
    check_dataset(between)
    assert {k: len(p) for k, p in between.pools.items()} == {
        "train": 40_384,
        "val": 10_614,
        "test": 49_686,
        "test_without_202": 47_551,
    }


@pytest.mark.parametrize("ticks", [250, 720, 1000])
def test_annotations_that_count_in_ticks_of_their_own_mark_the_same_beats(two_records: Path, ticks: int) -> None:
    wfdb = pytest.importorskip("wfdb")
    same = wfdb_source.read_beats(two_records, "100", 360.0)
    annotation = wfdb.rdann(str(two_records / "100"), "atr")
    sample = np.rint(annotation.sample * ticks / 360).astype(int)
    wfdb.wrann("100", "atr", sample, symbol=annotation.symbol, fs=ticks, write_dir=str(two_records))
    samples, classes = wfdb_source.read_beats(two_records, "100", 360.0)
    assert np.abs(samples - same[0]).max() <= 360 / ticks  # half a tick, and half a sample
    assert classes.tolist() == same[1].tolist()
    if ticks > 360:  # finer ticks lose nothing: the peaks of the signal are where they were drawn
        assert samples.tolist() == same[0].tolist()
