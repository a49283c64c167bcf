"""`distill export`: what is written is held against the model, and a failed check leaves nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_cli import exports
from distill_cli.config.settings.dataset import DatasetSettings
from distill_cli.errors import UserError
from distill_cli.exports import onnx_int8
from distill_cli.exports.parity import Reference, compare
from distill_cli.exports.subject import Artifact, Outputs, runner_of
from distill_cli.factory.data import load_dataset
from distill_cli.metrics.calibration import fit_temperature
from distill_cli.metrics.classification import ece, log_probabilities
from distill_cli.models.cnn1d import CNN1d
from distill_cli.models.mlp import MLP
from distill_cli.profiling.model_cost import peak_activation_bytes
from distill_cli.runs.checkpoint import load_model
from distill_cli.tasks.registry import find_task

Distill = Callable[..., Ran]


def digits_val() -> tuple[np.ndarray, np.ndarray]:
    pool = load_dataset(DatasetSettings.from_config({"_target_": "distill_cli.data.digits.digits"})).val
    return pool.x, pool.y


def test_every_file_says_what_the_model_says(run: Path, distill: Distill) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    ran = distill("export", f"run={run}", "format=[safetensors,onnx]", "output=out", "calibrate=true", "card.license='MIT <b>'")
    assert ran.code == 0, ran.err
    report, card = ran.report, json.loads(Path("out/card.json").read_text())
    told = json.loads((run / "report.json").read_text())["models"]["student"]
    assert report["models"]["student"]["test"].items() <= told["test"].items()
    x, y = digits_val()
    model, _ = load_model(run, "student")
    with torch.no_grad():
        logits = model(torch.from_numpy(x)).logits.numpy()
    session = onnxruntime.InferenceSession("out/student.onnx")
    temperature = report["export"]["temperature"]["value"]
    assert temperature == fit_temperature(logits, y) != 1.0
    for n in (1, 7, len(x)):
        given_logits, probabilities = session.run(["logits", "probabilities"], {"input": x[:n]})
        assert np.abs(given_logits - logits[:n]).max() <= 1e-4
        assert np.abs(probabilities - np.exp(log_probabilities(logits[:n] / temperature))).max() <= 1e-6
    kept = session.get_modelmeta().custom_metadata_map
    assert kept["model"] == "student"
    assert json.loads(kept["class_names"]) == report["data"]["class_names"]
    assert (json.loads(kept["temperature"]), kept["opset"]) == (temperature, "18")
    assert kept["input_preparation"] == "standardize, inside the graph"
    again, _ = load_model(Path("out"), "student")
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(x)).logits, torch.from_numpy(logits))
    for name, part in card["formats"].items():
        parity = part["parity"]
        assert (parity["rows"], parity["changed_predictions"], parity["macro_f1_drop"]) == (len(x), 0, 0), name
        assert parity["macro_f1"] == told["val"]["macro_f1"]
        assert part["weight_bytes"] == told["weight_bytes"]
        assert part["file_bytes"] == sum((Path("out") / file).stat().st_size for file in part["files"])
    error = report["export"]["temperature"]["ece"]["val"]
    assert error == {"before": told["val"]["ece"], "after": pytest.approx(card["formats"]["onnx"]["parity"]["ece"], abs=1e-3)}
    text = Path("out/README.md").read_text()
    assert "MIT &lt;b&gt;" in text
    assert f"{told['test']['macro_f1']:.4f}" in text
    assert not [
        line
        for line in Path("out/student.onnx").read_bytes().split(b"\n")
        if b"site-packages" in line or b"/distill_cli/" in line
    ]


def test_rounded_files_lose_no_more_than_they_may(run: Path, distill: Distill) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    ran = distill("export", f"run={run}", "format=[onnx-int8,c]", "output=out", "max_f1_drop=0.1", "calibration_rows=70")
    assert ran.code == 0, ran.err
    found = json.loads(Path("out/card.json").read_text())["formats"]
    told = json.loads((run / "report.json").read_text())["models"]["student"]
    assert list(found) == ["onnx-int8", "c", "c-int8"]
    assert found["c"]["parity"]["max_logit_difference"] <= 1e-4
    assert found["c"]["parity"]["macro_f1"] == told["val"]["macro_f1"]
    assert found["c"]["weight_bytes"] == told["weight_bytes"]
    for name in ("onnx-int8", "c-int8"):
        assert found[name]["parity"]["macro_f1_drop"] == told["val"]["macro_f1"] - found[name]["parity"]["macro_f1"] <= 0.1
        assert found[name]["weight_bytes"] < told["weight_bytes"] / 2
        assert found[name]["macro_f1"]["val"] == found[name]["parity"]["macro_f1"]
        assert abs(found[name]["macro_f1"]["test"] - told["test"]["macro_f1"]) <= 0.1
        assert (
            f"test {found[name]['macro_f1']['test']:.4f} (the model: {told['test']['macro_f1']:.4f})"
            in Path("out/README.md").read_text()
        )
    assert "macro_f1" not in found["c"]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md",
        "card.json",
        "student.c",
        "student.h",
        "student.int8.onnx",
    ]


@pytest.mark.parametrize("count", [1, 67, 70, 128])
def test_any_number_of_rows_calibrates(count: int) -> None:
    rows = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    calibration, parts = onnx_int8.Rows(rows), []
    while (part := calibration.get_next()) is not None:
        parts.append(part["input"])
    assert np.array_equal(np.concatenate(parts), rows) and len({len(part) for part in parts}) == 1
    assert len(parts[0]) == {1: 1, 67: 1, 70: 35, 128: 64}[count]


def test_a_rounded_model_that_loses_too_much_is_refused() -> None:
    dataset = load_dataset(DatasetSettings.from_config({"_target_": "distill_cli.data.digits.digits"}))
    pool, task = dataset.val, find_task("classification")
    logits = np.eye(10, dtype=np.float32)[pool.y]
    wrong = np.roll(logits, 1, axis=0)
    parts = iter([wrong, wrong[:1]])
    written = Artifact("onnx-int8", ("x",), 1, lambda x: ((part := next(parts)), part), None)
    reference = Reference(pool, logits, partial(task.evaluator, dataset=dataset), task.shown, 1.0, len(pool), 0.01)
    with pytest.raises(
        UserError, match=r"format=onnx-int8: macro F1 falls by 0\.\d+ to 0\.\d+, more than max_f1_drop=0.01 allows, on"
    ):
        compare(written, reference)


def test_the_check_of_a_file_is_followed_in_lines(run: Path, distill: Distill) -> None:
    ran = distill("export", f"run={run}", "format=onnx-int8", "output=out", "log_every_seconds=0", "eval_batch_size=50")
    assert ran.code == 0, ran.err
    for what in ("checking", "scoring"):
        said = re.findall(rf"^onnx-int8: {what} (\d+)%: (\d+) rows, [\d,]+ rows/s, .* left$", ran.err, re.M)
        assert len(said) > 2 and said == sorted(said, key=lambda words: int(words[1])), ran.err


def test_the_cards_python_runs_as_it_stands(run: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = distill("export", f"run={run}", "output=out")
    assert ran.code == 0, ran.err
    code = Path("out/README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir("out")
    exec(code, {})


def test_nothing_is_overwritten_and_nothing_is_left_half_written(
    run: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out").mkdir()
    ran = distill("export", f"run={run}", "output=out")
    assert (ran.code, ran.err) == (
        2,
        "distill export: error: output=out: is there already, and nothing is overwritten; choose another folder\n",
    )
    real = exports.FORMATS["safetensors"]

    def off_by_a_little(*given: object) -> list[Artifact]:
        (written,) = real(*given)  # type: ignore[arg-type]
        wrong = lambda x: (written.run(x)[0] + np.float32(1e-3), written.run(x)[1])  # noqa: E731
        return [Artifact(written.name, written.files, written.weight_bytes, wrong, written.difference)]

    monkeypatch.setitem(exports.FORMATS, "safetensors", off_by_a_little)
    ran = distill("export", f"run={run}", "output=new/folder")
    assert ran.code == 2
    assert "format=safetensors: logits differ by up to 0.001 from the model's, more than 0, on the" in ran.err.splitlines()[-1]
    assert ran.err.splitlines()[-1].endswith("rows of validation; nothing was written")
    assert sorted(path.name for path in Path().iterdir() if path.name not in ("out", "run", "data")) in ([], ["outputs"])


def test_sound_formats_are_kept_and_the_others_refused(run: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_layer(subject: object, settings: object) -> None:
        raise UserError("format=c: layer 'gate' (GRU): has no C; use format=onnx")

    def broken(subject: object, folder: Path, settings: object) -> list[Artifact]:
        (folder / "web").mkdir()
        (folder / "web/index.html").write_text("half")
        raise UserError("format=web: gives outputs that are NaN or infinite; nothing was written")

    monkeypatch.setitem(exports.LOOKS, "c", no_layer)
    monkeypatch.setitem(exports.LOOKS, "web", lambda subject, settings: None)
    monkeypatch.setitem(exports.FORMATS, "web", broken)
    ran = distill("export", f"run={run}", "format=[c,safetensors,web]", "output=out", "verbosity=quiet")
    assert ran.code == 2
    assert [line for line in ran.err.splitlines() if "error" in line] == [
        "distill export: error: format=c: layer 'gate' (GRU): has no C; use format=onnx",
        "distill export: error: format=web: gives outputs that are NaN or infinite; kept: safetensors",
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == ["README.md", "card.json", "checkpoint"]
    assert list(ran.report["export"]["formats"]) == ["safetensors"] and list(ran.report["export"]["refused"]) == ["c", "web"]
    none = distill("export", f"run={run}", "format=[c,web]", "output=none", "verbosity=quiet")
    assert (none.code, none.err.count("distill export: error: format=")) == (2, 2)
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=onx"], "format=onx: there is no such format; did you mean 'onnx'? (there are: "),
        (["format=[]"], "format=[]: name one or more of "),
        (["format=onnx,c"], "format=onnx,c: several values make a sweep, which needs -m; a list is written [1,2]"),
        (
            ["model_name=studnt"],
            "model_name=studnt: run has no such model; did you mean 'student'? (it has: student, teacher)",
        ),
        (["max_f1_drop=2"], "max_f1_drop=2.0: must be >= 0 and at most 1"),
        (["calibration_rows=0"], "calibration_rows=0: must be >= 1"),
        (["card.licence=MIT"], "unknown key 'card.licence'; did you mean 'card.license'?"),
        (["run=nowhere"], "run=nowhere: no such folder"),
        (["dataset=csv", "dataset.path=none.csv", "dataset.label=y"], "none.csv: no such file"),
        (["device=cuda"], "device.name=cuda: expected cpu or auto"),
    ],
)
def test_wrong_input_is_one_line(run: Path, distill: Distill, words: list[str], said: str) -> None:
    ran = distill("export", f"run={run}", *words)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert said in ran.err
    assert not list(Path("outputs").glob("export/*"))


def test_a_strangers_run_names_no_code(run: Path, distill: Distill) -> None:
    path = run / "checkpoint" / "model.json"
    path.write_text(path.read_text().replace("distill_cli.models.mlp.MLP", "os.system"))
    ran = distill("export", f"run={run}")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "os.system is not trusted" in ran.err


def test_data_that_the_run_was_not_scored_on_are_told(run: Path, distill: Distill) -> None:
    ran = distill("export", f"run={run}", "dataset.split_seed=3", "output=out")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"run {run}, seed 0; NOT on the data of the run: fingerprint ")
    assert "note: NOT on the data of the run" in ran.err and "note: student was trained on " in ran.err
    assert "NOT on the data of the run" in Path("out/README.md").read_text()


def test_an_export_is_no_row_of_a_table(run: Path, distill: Distill) -> None:
    assert distill("export", f"run={run}").code == 0
    found = json.loads(distill("report", "run", "outputs", "--json", "output=table").out)
    assert sum(row["n"] for row in found["rows"]) == 1


@given(seed=st.integers(0, 1000), sharp=st.floats(0.2, 5.0))
@settings(max_examples=25, deadline=None)
def test_the_temperature_is_the_one_of_least_likelihood_loss(seed: int, sharp: float) -> None:
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(400, 3))
    y = np.array([draw.choice(3, p=p) for p in np.exp(log_probabilities(logits))])
    logits *= sharp
    found = fit_temperature(logits, y)

    def nll(t: float) -> float:
        return -log_probabilities(logits / t)[np.arange(len(y)), y].mean()

    assert nll(found) <= min(nll(t) for t in np.geomspace(0.05, 20, 60)) + 1e-9
    assert found == pytest.approx(sharp, rel=0.5)


def test_a_temperature_mends_an_overconfident_model() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 3))
    y = np.array([draw.choice(3, p=p) for p in np.exp(log_probabilities(logits))])
    before, after = (ece(np.exp(log_probabilities(4 * logits / t)), y) for t in (1.0, fit_temperature(4 * logits, y)))
    assert after < 0.03 < 0.2 < before


def test_peak_activations_are_the_most_that_live_at_once() -> None:
    assert peak_activation_bytes(MLP(3, (8,), hidden=(16,)).eval(), (8,)) == 4 * (8 + 16 + 16)
    assert peak_activation_bytes(CNN1d(5, (1, 187)).eval(), (1, 187)) == 4 * (187 + 32 * 183 + 32 * 45)


def test_a_missing_package_is_one_line(run: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    ran = distill("export", f"run={run}", "format=onnx")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == (
        "distill export: error: format=onnx: needs the package onnxscript; pip install 'distill-cli[export]'"
    )


def test_outputs_divide_by_the_temperature() -> None:
    from distill_cli.models.classifier import Classifier

    model = Classifier(MLP(3, (4,), hidden=()), "none", (4,)).eval()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    logits, probabilities = runner_of(Outputs(model, 2.0, find_task("classification")))(x)
    assert np.allclose(probabilities, np.exp(log_probabilities(logits / 2)), atol=1e-6)


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    from distill_cli.utils.files import atomic_folder, write_text

    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "a") as folder:
        write_text(folder / "x", "x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "a") as folder:
        write_text(folder / "x", "x")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "x"]
    with pytest.raises(UserError, match="is there already"), atomic_folder(tmp_path / "a"):
        pass


@pytest.mark.slow
def test_a_teacher_with_residual_sums_is_exported_too(distill: Distill) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    words = (
        "dataset.n=400",
        "teacher=resnet1d",
        "teacher.model.width=12",
        "teacher.epochs=1",
        "epochs=1",
        "controls=[]",
        "hydra.run.dir=run",
    )
    assert distill("distill", "experiment=smoke", *words).code == 0
    words = ("model_name=teacher", "format=[onnx,c]", "max_f1_drop=1")
    ran = distill("export", "run=run", "output=out", *words)
    assert ran.code == 0, ran.err
    card = json.loads(Path("out/card.json").read_text())
    told = json.loads(Path("run/report.json").read_text())["models"]["teacher"]
    for name in ("onnx", "c"):
        parity = card["formats"][name]["parity"]
        assert (parity["macro_f1"], parity["changed_predictions"]) == (told["val"]["macro_f1"], 0)
        assert parity["max_logit_difference"] <= 1e-4
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md", "card.json", "teacher.c", "teacher.h", "teacher.onnx",
    ]  # fmt: skip
