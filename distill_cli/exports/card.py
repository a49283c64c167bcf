"""The model card as card.json, and the terminal table of an export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli.exports.subject import ExportSource
from distill_cli.reports import formatting
from distill_cli.reports.terminal import console, print_line, print_origin, table

README, CARD_JSON = "README.md", "card.json"
PREPARED = (
    "as the data set has them",
    "as the data set has them: they are standardised inside the files, by the statistics of the training rows",
)
# Keys of a data set about its location or its choice of rows, not about how a row is made.
NOT_OF_A_ROW = ("root", "path", "cache", "download", "label_fraction", "exclude_classes", "unlabeled")
HEADER = ("file", "weights", "in all", "latency, batch 1", "rows checked", "most a logit differs", "changed", "macro F1", "drop")


def card_of(
    report: Mapping[str, Any], subject: ExportSource, texts: Mapping[str, Any], node: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of card.json.

    Args:
        report: report of the export so far.
        subject: the exported model.
        texts: keys `card` of the command: title, intended use, licenses.
        node: config of the data set, which says how a row is made.
    """
    model, data = report["models"][subject.name], report["data"]
    target = str(model["architecture"]["target"]).rpartition(".")[2]
    task, metric = subject.task, subject.task.primary_metric.name
    kinds = f"{len(data['class_names'])} {task.parts}"
    splits = {name: part for name, part in model.items() if isinstance(part, Mapping) and metric in part}
    return {
        "schema_version": 1,
        "title": texts.get("title") or f"{target} for {data['name']}",
        "what": f"A classifier of {kinds}, the model '{subject.name}' of the run {report['name']}.",
        "intended_use": texts.get("intended_use"),
        "license": texts.get("license"),
        "data_license": texts.get("data_license"),
        "architecture": model["architecture"],
        "input": {
            "shape": list(subject.input_shape),
            "feature_names": list(subject.feature_names) or None,
            "type": "float32",
            "preprocessing": subject.spec.preprocessing,
            "preparation": PREPARED[subject.spec.preprocessing != "none"],
        },
        "class_names": list(data["class_names"]),
        "averaged": list(data["averaged"]),
        "data": {
            **({"rows": data["rows"]} if "rows" in data else {}),
            **{key: data[key] for key in ("name", "split", "split_seed", "class_counts", "fingerprint", "notes")},
            "made_by": node["_target_"],
            "settings": {key: value for key, value in node.items() if key not in (*NOT_OF_A_ROW, "_target_")},
        },
        "task": task.name,
        "scores": splits,
        "temperature": report["export"]["temperature"],
        "size": {key: model[key] for key in ("parameters", "macs", "weight_bytes", "peak_activation_bytes")},
        "latency_ms": model["latency_ms"],
        "formats": report["export"]["formats"],
        "provenance": report["provenance"],
        "seed": report["seed"],
        "run": report["source_run"],
    }


def rows(formats: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of one table row for each artifact."""
    table_rows = []
    for name, part in formats.items():
        parity, time = part["parity"], part["latency_ms"]["1"]["p50"]
        table_rows.append([
            f"{name}: {_names(list(part['files']))}", _bytes(part["weight_bytes"]), _bytes(part["file_bytes"]),
            formatting.milliseconds(time), formatting.count(parity["rows"]), f"{parity['max_logit_difference']:.1e}",
            formatting.count(parity["changed_predictions"]), formatting.score(parity["macro_f1"], 4),
            f"{parity['macro_f1_drop']:.4f}",
        ])  # fmt: skip
    return table_rows


def _names(files: list[str]) -> str:
    return ", ".join(files) if len(files) <= 2 else f"{files[0]} and {len(files) - 1} more"


def _bytes(value: float) -> str:
    return f"{value:,.0f} B"


def show(report: Mapping[str, Any], out: Path) -> None:
    """Print the table of artifacts, the temperature, and the folders."""
    on = console()
    print_origin(on, report)
    on.print(table(on, HEADER, rows(report["export"]["formats"])))
    temperature = report["export"]["temperature"]
    if temperature["fitted"]:
        errors = ", ".join(f"{split} {e['before']:.4f} -> {e['after']:.4f}" for split, e in temperature["ece"].items())
        print_line(on, f"temperature {temperature['value']:.4f}; ECE {errors}")
    print_line(on, f"exported to: {report['export']['folder']}", style="bold")
    print_line(on, f"run folder: {out}")
