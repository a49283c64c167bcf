from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf" / "dataset"
OPTIONS = sorted(p.stem for p in CONF.glob("*.yaml") if not p.stem.startswith("_"))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_yaml_names_every_argument_of_its_function_with_its_default(option: str) -> None:
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    module, name = node.pop("_target_").rsplit(".", 1)
    assert node.pop("defaults") == ["_common", "_self_"]
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    own = {key: p for key, p in parameters.items() if key != "columns"}  # of a finished model, given by the pipeline
    assert set(node) == set(own)
    defaults = {k: p.default for k, p in own.items() if p.default is not inspect.Parameter.empty}
    assert {k: node[k] for k in defaults} == pytest.approx(defaults)


def test_the_common_keys_are_the_pipelines_own() -> None:
    assert yaml.safe_load((CONF / "_common.yaml").read_text()) == {
        "label_fraction": 1.0,
        "exclude_classes": [],
        "unlabeled": None,
    }
