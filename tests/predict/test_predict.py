"""`distill predict`: the same as the report says, from any kind of input; and what a wrong one leaves."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, Ran

from distill_cli.data.beats import CLASS_NAMES, SegmentationSettings, cut_beats
from distill_cli.data.wfdb_source import read_record

CLASSES = ["no", "yes", "=maybe"]


def train(folder: Path, *words: str) -> Path:
    """Train in a folder, in this process."""
    from hydra.core.global_hydra import GlobalHydra

    from distill_cli.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        GlobalHydra.instance().clear()
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["distill", "distill", *words, f"hydra.run.dir={folder / 'run'}"])
        patch.setattr(sys, "path", list(sys.path))
        assert main() == 0
    return folder / "run"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of three classes and a run on it."""
    folder = tmp_path_factory.mktemp("table")
    draw = np.random.default_rng(0)
    y = np.arange(150) % 3
    x = draw.normal(size=(150, 3)) + y[:, None]
    frame = pd.DataFrame({"who": y // 2, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": [CLASSES[n] for n in y]})
    frame.to_csv(folder / "rows.csv", index=False)
    train(folder, *TINY, "dataset=csv", f"dataset.path={folder / 'rows.csv'}", "eval_batch_size=7")
    return folder


@pytest.fixture(scope="module")
def beats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on drawn beats."""
    return train(
        tmp_path_factory.mktemp("beats"),
        "experiment=smoke",
        "epochs=1",
        "teacher.epochs=1",
        "controls=[]",
        "device=cpu",
        "report.html=false",
    )


@pytest.fixture
def work(table: Path, tmp_path: Path) -> Path:
    """An empty folder with a copy of the table's run."""
    shutil.copytree(table / "run", tmp_path / "run")
    shutil.copy(table / "rows.csv", tmp_path / "rows.csv")
    return tmp_path


Distill = Callable[..., Ran]


@pytest.fixture
def predict(distill: Distill) -> Iterator[Callable[..., Ran]]:
    """Predict in an empty folder."""
    yield lambda *words: distill("predict", "device=cpu", *words)


def test_predictions_are_those_of_the_run(work: Path, predict: Distill) -> None:
    ran = predict("run=run", "input=rows.csv", "drop=[who]")
    assert ran.code == 2 and "no column 'who', a feature of this model" in ran.err
    ran = predict("run=run", "input=rows.csv")
    assert ran.code == 0 and "150 rows predicted" in ran.err and not (work / "outputs").exists()
    got = pd.read_csv(work / "rows_predictions.csv")
    assert got.columns.tolist() == ["row", "predicted", *sorted(["no", "yes", "'=maybe"], key=lambda n: n.lstrip("'"))]
    told = pd.read_csv(work / "run" / "predictions.csv")
    mine = got.set_index("row").loc[told["row"]]
    assert (mine["predicted"].to_numpy() == told["student"].to_numpy()).all()
    for name in CLASSES:
        column = f"'{name}" if name.startswith("=") else name
        np.testing.assert_allclose(mine[column], told[f"student.{name}"], atol=2e-6)
    assert np.allclose(got.iloc[:, 2:].sum(axis=1), 1, atol=1e-5)


def test_a_table_an_array_and_any_block_give_the_same(work: Path, predict: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv("rows.csv").drop(columns="label")
    np.save("rows.npy", frame.to_numpy())
    frame[["c", "a", "who", "b"]].to_csv("moved.csv", index=False)
    assert predict("run=run", "input=rows.npy", "output=a.csv").code == 0
    assert predict("run=run", "input=moved.csv", "output=b.csv").code == 0
    monkeypatch.setattr("distill_cli.data.csv_reader.BLOCK_BYTES", 500)
    assert predict("run=run", "input=rows.csv", "output=c.csv").code == 0
    assert predict("run=run", "input=rows.npy", "output=p.npy").code == 0
    first = Path("b.csv").read_bytes()
    assert first == Path("c.csv").read_bytes()
    np.testing.assert_allclose(pd.read_csv("a.csv").iloc[:, 2:], pd.read_csv("b.csv").iloc[:, 2:], atol=2e-6)
    np.testing.assert_allclose(np.load("p.npy"), pd.read_csv("a.csv").iloc[:, 2:], atol=1e-6)
    assert predict("run=run", "input=rows.npy", "output=t.csv", "model_name=teacher").code == 0
    assert Path("t.csv").read_bytes() != first


def test_a_packed_table_and_one_of_an_old_mac_give_the_same(work: Path, predict: Distill) -> None:
    text = Path("rows.csv").read_text()
    Path("mac.csv").write_text(text.replace("\n", "\r"), newline="")
    Path("packed.tsv.gz").write_bytes(gzip.compress(text.replace(",", "\t").encode()))
    for name in ("rows.csv", "mac.csv", "packed.tsv.gz"):
        assert predict("run=run", f"input={name}").code == 0
    first = Path("rows_predictions.csv").read_bytes()
    assert first == Path("mac_predictions.csv").read_bytes() == Path("packed_predictions.csv").read_bytes()


def test_a_finished_model_finds_its_features_by_name(work: Path, distill: Distill) -> None:
    frame = pd.read_csv("rows.csv")
    frame[["label", "c", "a", "who", "b"]].to_csv("moved.csv", index=False)
    frame.assign(id=frame["a"] ** 2).to_csv("more.csv", index=False)
    frame.drop(columns="b").to_csv("less.csv", index=False)
    ran = [distill("eval", "run=run", "device=cpu", "report.html=false", *path) for path in ((), ("dataset.path=moved.csv",))]
    for name in ("teacher", "student"):
        assert ran[0].report["models"][name]["test"] == ran[1].report["models"][name]["test"]
    said = distill("eval", "run=run", "device=cpu", "dataset.path=more.csv").err
    assert (
        "more.csv: line 1, column 6: 'id' is no feature of this model; if it is none, leave it out with dataset.drop=[id]" in said
    )
    assert (
        "less.csv: line 1: no column 'b', a feature of this model; add it"
        in distill("eval", "run=run", "device=cpu", "dataset.path=less.csv").err
    )
    taught = distill(
        "distill",
        *TINY,
        "dataset=csv",
        "dataset.path=moved.csv",
        "dataset.label=label",
        "teacher.run=run",
        "eval_batch_size=7",
    )
    assert taught.report["models"]["teacher"]["test"] == ran[0].report["models"]["teacher"]["test"]
    model = json.loads((taught.folder / "checkpoint" / "model.json").read_text())
    assert model["columns"] == {"features": ["who", "a", "b", "c"], "beside": ["label"]}


def test_exports_name_the_features(work: Path, distill: Distill) -> None:
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    assert distill("export", "run=run", "device=cpu", "format=[onnx,c,safetensors]", "output=shipped").code == 0
    props = {p.key: p.value for p in onnx.load("shipped/student.onnx").metadata_props}
    assert json.loads(props["feature_names"]) == ["who", "a", "b", "c"]
    assert json.loads(Path("shipped/card.json").read_text())["input"]["feature_names"] == ["who", "a", "b", "c"]
    assert "A row's values are who, a, b, c, in this order." in Path("shipped/README.md").read_text()
    assert " * The values of a row, in order:\n *   who, a, b, c\n */" in Path("shipped/student.h").read_text()


def test_bad_rows_end_it_and_leave_nothing_or_are_skipped_and_counted(work: Path, predict: Distill) -> None:
    lines = Path("rows.csv").read_text().splitlines()
    lines[5] = lines[5].replace(lines[5].split(",")[2], "nan")
    lines[-1] += ",1"
    Path("bad.csv").write_text("\n".join(lines))
    before = sorted(work.iterdir())
    ran = predict("run=run", "input=bad.csv")
    said = "distill predict: error: bad.csv: line 6, column 'b': NaN; fill it or leave the row out (on_bad_lines=skip leaves such rows out)\n"
    assert (ran.code, ran.out, ran.err) == (2, "", said) and sorted(work.iterdir()) == before
    ran = predict("run=run", "input=bad.csv", "on_bad_lines=skip", "output=s.csv")
    assert ran.code == 0 and "148 rows predicted, 2 of 150 skipped" in ran.err
    assert "skipped: bad.csv: line 6, column 'b': NaN" in ran.err and "line 151 has 6 cells" in ran.err
    assert sorted(set(range(150)) - set(pd.read_csv("s.csv")["row"])) == [4, 149]
    assert predict("run=run", "input=bad.csv", "on_bad_lines=skip", "output=s.npy").code == 0
    assert np.flatnonzero(np.isnan(np.load("s.npy")).any(axis=1)).tolist() == [4, 149] and len(np.load("s.npy")) == 150
    Path("worse.csv").write_text("who,a,b,c\n1,2,3,x\n")
    ran = predict("run=run", "input=worse.csv", "on_bad_lines=skip")
    assert predict("run=run", "input=bad.csv", "output=new/folder/s.csv").code == 2 and not Path("new").exists()
    ran = predict("run=run", "input=worse.csv", "on_bad_lines=skip")
    assert ran.code == 2 and "no row can be used, the first for this: worse.csv: line 2, column 'c': 'x'" in ran.err
    assert not Path("worse_predictions.csv").exists()


WRONG = [
    (("input=nothing.csv",), "input=nothing.csv: no such file; expected a .csv, .tsv or .npy file, or a WFDB record"),
    (("input=run",), "input=run: a folder; expected a .csv, .tsv or .npy file"),
    (("input=/dev/null", "output=x.csv"), "input=/dev/null: a pipe or a device, which cannot be read twice; expected a .csv"),
    (("input=rows.csv", "output=rows.csv/x.csv"), "rows.csv: cannot make this folder (File exists); choose another"),
    (("input=rows.csv", "peaks=detected"), "peaks=detected: is for a WFDB record, and input=rows.csv is none; drop it"),
    (("input=rows.npy", "header=true"), "header=true: is for a .csv, and input=rows.npy is none; drop it"),
    (("input=rows.csv", "output=run"), "output=run: expected a name that ends in .csv or .npy"),
    (
        ("input=rows.csv", "output=rows.csv"),
        "output=rows.csv: exists already; it is not overwritten, choose another with output=",
    ),
    (("input=rows.csv", "on_bad_lines=drop"), "on_bad_lines=drop: expected fail or skip"),
    (("input=rows.csv", "drop=[a]"), "rows.csv: line 1: no column 'a', a feature of this model"),
    (("input=rows.csv", "model_name=tudent"), "holds no model 'tudent' (it has: "),
    (("input=rows.csv", "onnx=x.onnx"), "onnx=x.onnx: no such file"),
    (("input=rows.csv", "delimiter=ab"), "delimiter must be one character or auto, got 'ab'"),
    (("input=run/report.md",), "input=run/report.md: expected a .csv, .tsv or .npy file"),
    (("input=rows.csv", "output=''"), "output is empty: name a file"),
    (
        ("input=rows.csv", "on_bad_row=skip"),
        "on_bad_row is called on_bad_lines now: type on_bad_lines=...",
    ),
    ((), "input is required: pass input=..."),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_input_is_one_line(words: tuple[str, ...], said: str, work: Path, predict: Distill) -> None:
    if any("onnx" in word for word in words):
        pytest.importorskip("onnxruntime")
    before = sorted(work.iterdir())
    ran = predict("run=run", *words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1 and sorted(work.iterdir()) == before


def test_a_strangers_run_runs_no_code(work: Path, predict: Distill) -> None:
    file = work / "run" / "checkpoint" / "model.json"
    content = json.loads(file.read_text())
    content["models"]["student"]["model"]["_target_"] = "os.system"
    file.write_text(json.dumps(content))
    ran = predict("run=run", "input=rows.csv")
    assert ran.code == 2 and "os.system is not trusted" in ran.err
    content["columns"] = {"features": [1], "beside": []}
    file.write_text(json.dumps(content))
    assert "columns holds no lists of names; the file is damaged" in predict("run=run", "input=rows.csv").err


def write_record(folder: Path, name: str = "7", annotated: bool = True) -> np.ndarray:
    """A record of 19 s with a pulse at each of 22 beats; return their positions."""
    wfdb = pytest.importorskip("wfdb")
    draw = np.random.default_rng(1)
    peaks = 300 + np.arange(22) * 300 + draw.integers(-15, 15, 22)
    t = np.arange(19 * 360)
    signal = sum(np.exp(-(((t - p) / 8.0) ** 2)) for p in peaks) + 0.01 * draw.standard_normal(len(t))
    wfdb.wrsamp(name, fs=360, units=["mV"], sig_name=["II"], p_signal=signal[:, None], fmt=["16"], write_dir=str(folder))
    if annotated:
        wfdb.wrann(name, "atr", peaks, symbol=["N"] * 22, write_dir=str(folder))
    return peaks


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb", "ignore::RuntimeWarning")
def test_a_record_is_cut_like_the_data_set(beats: Path, tmp_path: Path, predict: Distill) -> None:
    peaks = write_record(tmp_path)
    ran = predict(f"run={beats}", "input=7")
    assert ran.code == 0 and "The record has no lead MLII: its first channel, II, is taken." in ran.err
    assert "22 beats at annotated R peaks; 1 left out" in ran.err
    got = pd.read_csv("7_predictions.csv")
    assert got.columns.tolist() == ["row", "sample", "seconds", "predicted", *CLASS_NAMES]
    assert got["sample"].tolist() == peaks[:-1].tolist()
    np.testing.assert_allclose(got["seconds"], peaks[:-1] / 360, atol=5e-4)
    from distill_cli.data.wfdb_source import read_header

    signal, samples, _ = read_record(tmp_path, "7", read_header(tmp_path, "7"), "MLII")
    np.save("cut.npy", cut_beats(signal, 360, samples, SegmentationSettings())[0][:, None])
    assert predict(f"run={beats}", "input=cut.npy").code == 0
    assert pd.read_csv("cut_predictions.csv")["N"].tolist() == got["N"].tolist()

    import wfdb

    wfdb.wrann("7", "atr", peaks * 2, symbol=["N"] * 22, fs=720, write_dir=str(tmp_path))
    assert predict(f"run={beats}", "input=7", "output=ticks.csv").code == 0
    assert Path("ticks.csv").read_text() == Path("7_predictions.csv").read_text()

    assert predict(f"run={beats}", "input=7.hea", "peaks=detected", "output=d.csv").code == 0
    found = pd.read_csv("d.csv")["sample"].to_numpy()
    assert np.abs(found[:, None] - peaks[1:-1]).min(axis=0).max() <= 5  # within 14 ms; the first is not looked for
    write_record(tmp_path, "8", annotated=False)
    assert "at detected R peaks" in predict(f"run={beats}", "input=8").err
    assert "8.atr: cannot read" in predict(f"run={beats}", "input=8", "peaks=annotated", "output=x.csv").err
    said = predict(f"run={beats}", "input=7", "output=x.npy").err
    assert "an array has no place for the times of beats; choose a .csv" in said and not Path("x.npy").exists()


def test_only_a_run_on_beats_cuts_a_record(work: Path, predict: Distill) -> None:
    write_record(work)
    assert "input=7: a WFDB record needs a run on heartbeats" in predict("run=run", "input=7").err


def test_an_onnx_file_says_the_same(work: Path, predict: Distill) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    import torch

    from distill_cli.runs.checkpoint import load_model

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = load_model(work / "run", "student")[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).logits

    def export(name: str, classes: list[str], model: str = "student") -> None:
        batch = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(
            Logits().eval(),
            (torch.zeros(2, 4),),
            dynamo=True,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=batch,
            verbose=False,
        )
        proto = program.model_proto
        onnx.helper.set_model_props(proto, {"class_names": json.dumps(classes), "model": model})
        (work / name).write_bytes(proto.SerializeToString())

    names = json.loads((work / "run" / "checkpoint" / "model.json").read_text())["class_names"]
    export("student.onnx", names)
    assert predict("run=run", "input=rows.csv", "output=a.csv").code == 0
    assert predict("run=run", "input=rows.csv", "output=b.csv", "onnx=student.onnx").code == 0
    a, b = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    assert (a["predicted"] == b["predicted"]).all()
    np.testing.assert_allclose(a.iloc[:, 2:], b.iloc[:, 2:], atol=1e-5)
    export("other.onnx", ["x", "y", "z"])
    assert (
        "its classes are ['x', 'y', 'z'], those of the run"
        in predict("run=run", "input=rows.csv", "output=c.csv", "onnx=other.onnx").err
    )
    export("teacher.onnx", names, "teacher")
    said = predict("run=run", "input=rows.csv", "output=c.csv", "onnx=teacher.onnx").err
    assert "onnx=teacher.onnx: holds the run's 'teacher', not 'student'; use model_name=teacher" in said
    (work / "text.onnx").write_text("no")
    assert (
        "onnx=text.onnx: not a readable ONNX file" in predict("run=run", "input=rows.csv", "output=c.csv", "onnx=text.onnx").err
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")
def test_a_real_record(beats: Path, real_data: Path, predict: Distill) -> None:
    assert predict(f"run={beats}", f"input={real_data / 'mitdb' / '100'}").code == 0
    assert predict(f"run={beats}", f"input={real_data / 'mitdb' / '100'}", "peaks=detected", "output=d.csv").code == 0
    annotated, found = pd.read_csv("100_predictions.csv"), pd.read_csv("d.csv")
    assert len(annotated) == 2271  # two run past the end
    gaps = np.abs(found["sample"].to_numpy()[:, None] - annotated["sample"].to_numpy()).min(axis=0)
    assert (gaps <= 18).mean() > 0.99  # 50 ms


def test_predict_needs_no_outputs(table: Path, work: Path, predict: Distill) -> None:
    (work / "outputs").write_text("a file in the folder's place")
    before = sorted(work.iterdir())
    assert predict(f"run={table / 'run'}", "input=rows.csv", "output=p.csv").code == 0
    assert predict(f"run={table / 'run'}", "input=nowhere.csv").code == 2
    assert sorted(work.iterdir()) == sorted([*before, work / "p.csv"])
