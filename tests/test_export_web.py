"""`distill export format=web`: in a real browser the page says what Python says."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran

from distill_cli.exports import web
from distill_cli.runs.checkpoint import load_model

Distill = Callable[..., Ran]
NPM = Path(__file__).resolve().parent.parent / "node_modules" / "onnxruntime-web" / "dist"


@pytest.fixture
def runtime() -> Path:
    """The folder of onnxruntime-web, or a skip with the reason."""
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    folder = Path(os.environ.get("DISTILL_ORT_WEB") or NPM)
    if not (folder / web.RUNTIME_FILES[0]).is_file():
        pytest.skip("browser tests: npm install onnxruntime-web in the checkout, or set DISTILL_ORT_WEB to its dist folder")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def served() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on this machine and return its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may not say a word on its console, nor ask another machine for anything."""
    words: list[str] = []
    tab = browser.new_page()
    tab.on("console", lambda message: words.append(message.text))
    tab.on("pageerror", lambda error: words.append(str(error)))
    tab.on(
        "request", lambda asked: None if asked.url.startswith(("http://127.0.0.1", "data:", "blob:")) else words.append(asked.url)
    )
    tab.words = words
    yield tab
    tab.close()


def wait(page: Any, state: str = "done") -> None:
    page.wait_for_selector(f"body[data-state={state}]", timeout=60_000, state="attached")


def probabilities(page: Any) -> np.ndarray:
    """What the page shows now, to the last digit."""
    return np.array(page.eval_on_selector_all("#classes li", "items => items.map(i => Number(i.dataset.probability))"))


def expected(run: Path, x: Any, temperature: float = 1.0) -> np.ndarray:
    model, spec = load_model(run, "student")
    rows = torch.tensor(x, dtype=torch.float32).reshape(-1, *spec.input_shape)
    with torch.no_grad():
        return torch.softmax(model(rows).logits.double() / temperature, dim=1).numpy()


def test_fifty_samples_in_the_browser_have_the_probabilities_of_python(
    run: Path, distill: Distill, runtime: Path, page: Any, served: Callable[[Path], str]
) -> None:
    ran = distill(
        "export", f"run={run}", "format=web", "output=out", "runtime=bundled", f"runtime_path={runtime}", "calibrate=true"
    )
    assert ran.code == 0, ran.err
    samples = json.loads(Path("out/web/samples.json").read_text())
    assert len(samples) == 50
    assert {sample["label"] for sample in samples} == set(ran.report["data"]["class_names"])
    wanted = expected(run, [sample["x"] for sample in samples], ran.report["export"]["temperature"]["value"])
    page.goto(served(Path("out/web")))
    wait(page)
    for number, sample in enumerate(samples):
        page.evaluate("document.body.dataset.state = 'waiting'")
        page.select_option("#sample", str(number))
        wait(page)
        found = probabilities(page)
        assert np.abs(found - wanted[number]).max() <= 1e-4, number
        assert (
            page.inner_text("#said")
            == f"Most likely {ran.report['data']['class_names'][int(wanted[number].argmax())]}; its label is {sample['label']}."
        )
    assert page.inner_text("#time").endswith(" ms here.")
    assert page.words == []


def test_an_input_is_pasted_drawn_and_cleared(
    run: Path, distill: Distill, runtime: Path, page: Any, served: Callable[[Path], str]
) -> None:
    ran = distill(
        "export", f"run={run}", "format=web", "output=out", "runtime=bundled", f"runtime_path={runtime}", "report.samples=false"
    )
    assert ran.code == 0, ran.err
    assert not Path("out/web/samples.json").exists()
    page.goto(served(Path("out/web")))
    wait(page)
    assert page.query_selector("#sample") is None
    blank = probabilities(page)
    assert np.abs(blank - expected(run, np.zeros(64))[0]).max() <= 1e-4
    page.click("summary")

    def paste(text: str) -> None:
        page.fill("#numbers", text)
        page.evaluate("document.body.dataset.state = 'waiting'")
        page.click("#use")

    paste("1, 2, x")
    assert page.inner_text("#message") == 'Number 3, "x", is no number.'
    paste("1 2 3")
    assert page.inner_text("#message") == "3 numbers are there, 64 are needed."
    x = np.random.default_rng(0).integers(0, 17, 64)
    paste(", ".join(map(str, x)))
    wait(page)
    assert page.is_hidden("#message")
    assert np.abs(probabilities(page) - expected(run, x)[0]).max() <= 1e-4
    page.evaluate("document.body.dataset.state = 'waiting'")
    page.click("#clear")
    wait(page)
    assert np.abs(probabilities(page) - blank).max() == 0
    page.locator("#drawing").scroll_into_view_if_needed()
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"], steps=5)
    page.mouse.up()
    wait(page)
    drawn = page.evaluate("Array.from(values)")
    assert min(drawn[15:48]) > 0.7  # between the ends of the stroke
    assert drawn[0] == drawn[63] == 0
    assert np.abs(probabilities(page) - expected(run, drawn)[0]).max() <= 1e-4
    assert page.words == []


def test_a_run_that_keeps_its_samples_to_itself_is_obeyed(run: Path, distill: Distill) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("samples: true", "samples: false"))
    ran = distill("export", f"run={run}", "format=web", "output=out", "report.samples=true")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in Path("out/web").iterdir()) == ["index.html", "page.css", "page.js", "student.onnx"]
    text = Path("out/web/index.html").read_text()
    assert f'src="{web.CDN}ort.wasm.min.js" integrity="sha384-' in text
    assert 'id="sample"' not in text


def test_the_link_to_the_cdn_names_the_file_that_npm_brings(runtime: Path) -> None:
    import base64
    import hashlib

    version = json.loads((runtime.parent / "package.json").read_text())["version"]
    if version != web.VERSION:
        pytest.skip(f"onnxruntime-web {version} is here, the page links {web.VERSION}")
    digest = hashlib.sha384((runtime / web.RUNTIME_FILES[0]).read_bytes()).digest()
    assert f"sha384-{base64.b64encode(digest).decode()}" == web.INTEGRITY


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["runtime=bundled"],
            "runtime_path=node_modules/onnxruntime-web/dist: there is no ort.wasm.min.js; `npm install onnxruntime-web@",
        ),
        (["runtime=local"], "runtime=local: expected cdn or bundled"),
        (["samples=-1"], "samples=-1: must be >= 0 and at most 10000"),
    ],
)
def test_wrong_input_is_one_line(run: Path, distill: Distill, words: list[str], said: str) -> None:
    ran = distill("export", f"run={run}", "format=web", "output=out", *words)
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert not Path("out").exists()
