"""A folder of WFDB records, read with the wfdb library.

Headers are checked against the file sizes before memory is allocated.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.data.beats import AAMI
from distill_cli.errors import UserError, did_you_mean
from distill_cli.utils.files import hash_file, hash_json, make_folder

SUFFIXES = (".hea", ".dat", ".atr")
BYTES_PER_SAMPLE = {
    "8": 1.0,
    "16": 2.0,
    "24": 3.0,
    "32": 4.0,
    "61": 2.0,
    "80": 1.0,
    "160": 2.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
END_MARK = b"\0\0"  # end of an annotation file (WFDB annot(5))
PROBE_SECONDS = 4.0


def load_wfdb() -> Any:
    """Import wfdb, or raise UserError with the command that installs it."""
    try:
        import wfdb
    except ImportError:
        raise UserError("reading WFDB records needs the wfdb package: pip install 'distill-cli[ecg]'") from None
    return wfdb


def record_names(root: Path) -> list[str]:
    """Return the records of a folder in the order of their beats' numbers."""
    return sorted(p.stem for p in root.glob("*.hea"))


def source_fingerprint(root: Path, names: list[str]) -> str:
    """Return a hash of the records' names, sizes and content.

    Raises:
        UserError: a record lacks its .dat or .atr file.
    """
    files = [root / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"{file}: no such file, but {file.stem}.hea is there; put all three files of the record in the folder"
            )
    return hash_json([[f.name, f.stat().st_size, hash_file(f)] for f in files])


def _error_text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read_header(root: Path, name: str) -> Any:
    """Return a record's header (wfdb.Record).

    Checked against the sizes of the signal files that it names.

    Raises:
        UserError: unreadable, of several segments, of an unknown format, or promising more samples than there are.
    """
    path = root / f"{name}.hea"
    try:
        header = load_wfdb().rdheader(str(root / name))
    except UserError:
        raise
    except Exception as e:  # the library raises whatever its parser meets
        raise UserError(f"{path}: not a readable WFDB header ({_error_text(e)}); get the file again") from None
    if not hasattr(header, "sig_name") or not header.sig_name or header.n_sig != len(header.sig_name):
        raise UserError(f"{path}: not the header of a record of one segment with its signals; get the file again")
    if not header.fs or not 20 <= header.fs <= 100_000:
        raise UserError(f"{path}: sampling frequency {header.fs} Hz; expected 20 to 100,000")
    if not header.sig_len or header.sig_len < 1:
        raise UserError(f"{path}: no number of samples on the first line; add it")
    _check_sizes(root, path, header)
    return header


def _check_sizes(root: Path, path: Path, header: Any) -> None:
    samples: dict[tuple[str, str, int], int] = {}
    for file, fmt, offset, per_frame in zip(
        header.file_name, header.fmt, header.byte_offset, header.samps_per_frame, strict=True
    ):
        if fmt not in BYTES_PER_SAMPLE or Path(file).name != file:
            raise UserError(
                f"{path}: signal file '{file}' of format {fmt} cannot be read; formats: {', '.join(BYTES_PER_SAMPLE)}"
            )
        key = (file, fmt, offset or 0)
        samples[key] = samples.get(key, 0) + header.sig_len * (per_frame or 1)
    for (file, fmt, offset), n in samples.items():
        if not (root / file).is_file():
            raise UserError(f"{root / file}: no such file, but {path.name} names it; put it in the folder")
        expected, actual = offset + int(n * BYTES_PER_SAMPLE[fmt]), (root / file).stat().st_size
        if actual < expected:
            raise UserError(
                f"{root / file}: truncated: {path.name} promises {expected:,} bytes, found {actual:,}; get the file again"
            )


def check_lead(lead: str, headers: dict[str, Any]) -> list[str]:
    """Return the records without `lead`.

    Of those the first channel is used.

    Raises:
        UserError: no record has it.
    """
    without = [name for name, header in headers.items() if lead not in header.sig_name]
    if len(without) == len(headers):
        leads = sorted({s for h in headers.values() for s in h.sig_name})
        raise UserError(f"heartbeat: no record has lead '{lead}'{did_you_mean(lead, leads)} (leads: {', '.join(leads)})")
    return without


def read_record(root: Path, name: str, header: Any, lead: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return signal, beat positions and beat classes of a record.

    The signal ``[T]`` is in millivolts, the classes are those of `beats.CLASS_NAMES`.

    Raises:
        UserError: the signal or the annotations cannot be read.
    """
    samples, classes = read_beats(root, name, float(header.fs))
    return read_signal(root, name, header, lead), samples, classes


def read_signal(root: Path, name: str, header: Any, lead: str) -> np.ndarray:
    """Return a record's signal ``[T]`` in millivolts.

    The first channel where the record lacks the lead.

    Raises:
        UserError: the signal cannot be read.
    """
    channel = header.sig_name.index(lead) if lead in header.sig_name else 0
    try:
        record = load_wfdb().rdrecord(str(root / name), channels=[channel], ignore_skew=True)
    except Exception as e:  # the library raises whatever its parser meets
        raise UserError(f"{root / name}.dat: the signal cannot be read ({_error_text(e)}); get the file again") from None
    signal: np.ndarray = record.p_signal[:, 0]
    return signal


def read_beats(root: Path, name: str, frequency: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions ``[B]`` and classes ``[B]`` of a record's annotated beats.

    The classes are those of `beats.CLASS_NAMES`.

    Args:
        root: folder of the record.
        name: name of the record.
        frequency: sampling frequency of the signal in Hz. An annotation file may count in other ticks ("## time resolution"):
            positions are those of the nearest sample of the signal.

    Raises:
        UserError: the annotations cannot be read, or mark no beat.
    """
    file = root / f"{name}.atr"
    try:
        whole = file.read_bytes()[-2:] == END_MARK
    except OSError as e:
        raise UserError(f"{file}: cannot read ({e.strerror})") from None
    if not whole:
        raise UserError(f"{file}: truncated: it does not end with an end mark; get the file again")
    try:
        annotation = load_wfdb().rdann(str(root / name), "atr")
    except UserError:
        raise
    except Exception as e:  # the library raises whatever its parser meets
        raise UserError(f"{file}: the annotations cannot be read ({_error_text(e)}); get the file again") from None
    beats = [(s, AAMI[k]) for s, k in zip(annotation.sample.tolist(), annotation.symbol, strict=True) if k in AAMI]
    if not beats:
        raise UserError(f"{file}: no annotated beats; take the record out of the folder, or get the file again")
    samples, classes = np.array(beats, dtype=np.int64).reshape(-1, 2).T
    ticks = annotation.fs or frequency
    if ticks != frequency:
        samples = np.rint(samples * (frequency / ticks)).astype(np.int64)
    return samples, classes


def download_records(root: Path, database: str = "mitdb") -> bool:
    """Download a database's records into an empty folder.

    Returns False without network.

    The records are written to a temporary folder next to `root`, which replaces `root` when all are complete.

    Raises:
        UserError: the download broke off.
    """
    import urllib.error
    import urllib.request

    wfdb = load_wfdb()
    try:
        urllib.request.urlopen(wfdb.io.download.config.db_index_url, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # any HTTP answer shows that there is a network
    except (OSError, ValueError):
        return False
    make_folder(root.parent)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
        target = Path(temporary) / "records"
        target.mkdir()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                wfdb.dl_database(database, str(target))
        except Exception as e:  # network errors of many libraries
            raise UserError(f"{root}: the download broke off ({_error_text(e)}); try again, or put the records there") from None
        names = record_names(target)
        source_fingerprint(target, names)
        for name in names:
            read_header(target, name)
        if not names:
            raise UserError(f"{root}: the download brought no records; put them there")
        os.replace(target, root)
    return True
