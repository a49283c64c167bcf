"""What the keys of commands that open a finished run must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.config.validation.rules import Rule, at_least, check_rules, format_value, one_of
from distill_cli.errors import UserError, did_you_mean

FORMATS = ("safetensors", "onnx", "onnx-int8", "c", "web")
MOST_SECONDS, LARGEST_BATCH, MOST_SAMPLES = 60, 65536, 10_000
EXPORT_RULES = {
    "calibrate": one_of(True, False),
    "samples": Rule("int", lambda v: 0 <= v <= MOST_SAMPLES, f">= 0 and at most {MOST_SAMPLES}"),
    "runtime": one_of("cdn", "bundled"),
    "max_f1_drop": Rule(predicate=lambda v: 0 <= v <= 1, description=">= 0 and at most 1"),
    "calibration_rows": at_least(1),
    "device.name": Rule(choices=("cpu", "auto")),
}
RUNTIMES = ("torch", "onnx", "onnx-int8")
BENCH_RULES = {
    "seconds": Rule(predicate=lambda v: 0 < v <= MOST_SECONDS, description=f"above 0 and at most {MOST_SECONDS}"),
    "calibration_rows": at_least(1),
    "device.name": Rule(choices=("cpu", "auto")),
}
PREDICT_RULES = {
    "on_bad_lines": one_of("fail", "skip"),
    "header": one_of("auto", True, False),
    "peaks": one_of("auto", "annotated", "detected"),
}


def check_run_command(config: Mapping[str, Any], command: str) -> None:
    """Check the keys of one of these commands.

    Raises:
        UserError: the first that is wrong.
    """
    if command == "predict":
        check_rules(config, PREDICT_RULES)
        for key in ("input", "output", "onnx"):
            if key in config and not str(config[key]).strip():
                raise UserError(f"{key} is empty: name a file")
        return
    if not isinstance(config.get("dataset"), Mapping | None):
        raise UserError(f"dataset={config['dataset']}: expected an option or keys; see distill ls dataset")
    if command == "export":
        check_rules(config, EXPORT_RULES)
        formats(config["format"])
        for key in ("output", "model_name"):
            if config.get(key) is not None and not str(config[key]).strip():
                raise UserError(f"{key} is empty: {'name a folder' if key == 'output' else 'name a model of the run'}")
    if command == "bench":
        check_rules(config, BENCH_RULES)
        parse_choices(config["runtimes"], "runtimes", RUNTIMES)
        batches = config["batches"]
        sizes = batches if isinstance(batches, list) else []
        if not sizes or not all(type(size) is int and 1 <= size <= LARGEST_BATCH for size in sizes):
            raise UserError(
                f"batches={format_value(batches)}: expected a list of numbers from 1 to {LARGEST_BATCH}, such as [1,64]"
            )


def formats(value: Any) -> list[str]:
    """Return the formats that were asked for, each once.

    Raises:
        UserError: none, or one that does not exist.
    """
    return parse_choices(value, "format", FORMATS)


def parse_choices(value: Any, key: str, known: tuple[str, ...]) -> list[str]:
    """Return the words of a key that takes one or a list, each once.

    Raises:
        UserError: none, or one that is not known.
    """
    wanted = list(value) if isinstance(value, list | tuple) else [value]
    for word in wanted:
        if word not in known:
            raise UserError(
                f"{key}={format_value(word)}: there is no such {key.rstrip('s')}{did_you_mean(str(word), known)} (there are: {', '.join(known)})"
            )
    if not wanted:
        raise UserError(f"{key}=[]: name one or more of {', '.join(known)}")
    return list(dict.fromkeys(wanted))
