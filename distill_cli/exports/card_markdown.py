"""The model card as README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.exports.card import HEADER, rows
from distill_cli.exports.snippets import snippets
from distill_cli.reports import formatting
from distill_cli.reports.formatting import markdown_code, markdown_table, markdown_text
from distill_cli.reports.run.model_table import rows_of_splits
from distill_cli.tasks.registry import report_task

NOT_STATED = "not stated"


def markdown(card: Mapping[str, Any]) -> str:
    """Return the text of README.md."""
    escaped, parts = markdown_text, report_task(card).parts
    license_of_model, license_of_data = (escaped(card[key] or NOT_STATED) for key in ("license", "data_license"))
    lines = [
        f"# {escaped(card['title'])}", "", escaped(card["what"]), "",
        f"- Run: {escaped(card['run'])}, seed {card['seed']}",
        f"- Intended use: {escaped(card['intended_use'] or NOT_STATED)}",
        f"- License of the model: {license_of_model}; of the data: {license_of_data}",
        f"- Input: float32 rows of shape {tuple(card['input']['shape'])}, {card['input']['preparation']}.{_features(card)}",
        f"- Output: logits and probabilities of the {parts} {escaped(', '.join(card['class_names']))}, in this order.",
        "", "## Scores", "", *_scores(card), "", *_calibration(card),
        "", "## Data", "", *_data(card),
        "", "## Size and speed", "", *_size(card),
        "", "## Files", "", *markdown_table(HEADER, [[escaped(row[0]), *row[1:]] for row in rows(card["formats"])]), "",
        "Each file was run on all rows of validation and held against the model before it was kept.", *_rounded(card),
        "", "## How to run it", "", *_how(card),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _features(card: Mapping[str, Any]) -> str:
    names = card["input"]["feature_names"]
    return f" A row's values are {markdown_text(', '.join(names))}, in this order." if names else ""


def _scores(card: Mapping[str, Any]) -> list[str]:
    task = report_task(card)
    first, *others = task.metrics
    table_rows = [
        [markdown_text(split), formatting.count(part["n"]), formatting.score(part[first.name], 4),
         formatting.interval(part[f"{first.name}_ci95"]), *(formatting.score(part[metric.name], 4) for metric in others)]
        for split, part in card["scores"].items()
    ]  # fmt: skip
    header = ["split", "rows", first.label, "95 % interval", *(metric.label for metric in others)]
    split = "test" if "test" in card["scores"] else next(iter(card["scores"]))
    columns = task.part_columns
    per_class = [
        [markdown_text(name), *((formatting.count if c.is_count else formatting.score)(v[c.key]) for c in columns)]
        for name, v in (card["scores"][split].get(task.part_key) or {}).items()
    ]
    left_out = [name for name in card["class_names"] if name not in card["averaged"]]
    note = ["", f"Not averaged into macro F1: {markdown_text(', '.join(left_out))}."] if left_out else []
    return [
        *markdown_table(header, table_rows), *note, "", f"Each {task.part} on {markdown_text(split)}:", "",
        *markdown_table([task.part, *("rows" if c.is_count else c.title for c in columns)], per_class),
    ]  # fmt: skip


def _rounded(card: Mapping[str, Any]) -> list[str]:
    """Return the scores of int8 weights on each split, next to the model's own.

    Files with unrounded weights have the model's scores.
    """
    lines = []
    for name, part in card["formats"].items():
        if f1_by_split := part.get("macro_f1"):
            scores = (
                f"{markdown_text(s)} {f1:.4f} (the model: {card['scores'][s]['macro_f1']:.4f})" for s, f1 in f1_by_split.items()
            )
            lines.append(f"- {name}, weights rounded to a byte: macro F1 on {', '.join(scores)}.")
    return ["", *lines] if lines else []


def _calibration(card: Mapping[str, Any]) -> list[str]:
    temperature = card["temperature"]
    if not temperature["fitted"]:
        return [f"{report_task(card).shown_as[0].upper()}{report_task(card).shown_as[1:]}; no temperature was fitted."]
    errors = ", ".join(
        f"{markdown_text(s)} {e['before']:.4f} before and {e['after']:.4f} after" for s, e in temperature["ece"].items()
    )
    return [
        f"Probabilities are the softmax of the logits over the temperature {temperature['value']:.4f}, fitted on validation "
        f"(Guo et al. 2017). Expected calibration error: {errors}."
    ]


def _data(card: Mapping[str, Any]) -> list[str]:
    data = card["data"]
    names, rows = card["class_names"], rows_of_splits({"data": data})
    counted = [
        [markdown_text(split), formatting.count(rows[split]), *(formatting.count(counts[name]) for name in names)]
        for split, counts in data["class_counts"].items()
    ]
    header = ["split", "rows", *(markdown_text(name) for name in names)]
    about = f"{markdown_text(data['name'])}, split {markdown_text(data['split'])} (seed {data['split_seed']}), "
    about += f"fingerprint {data['fingerprint']}."
    notes = [f"- {markdown_text(note)}" for note in data["notes"]]
    settings = ", ".join(f"{key}={value}" for key, value in data["settings"].items())
    recipe = f"A row is made by {markdown_text(data['made_by'])}" + (f" with {markdown_text(settings)}" if settings else "")
    return [
        about,
        "",
        f"{recipe}; do the same to new data before it reaches the model.",
        "",
        *markdown_table(header, counted),
        *(["", *notes] if notes else []),
    ]


def _size(card: Mapping[str, Any]) -> list[str]:
    size, machine, threads = card["size"], card["provenance"]["machine"], card["provenance"]["threads"]
    p50, p99 = (formatting.milliseconds(card["latency_ms"]["1"][key]) for key in ("p50", "p99"))
    return [
        f"{size['parameters']:,} parameters, {size['macs']:,} multiply-accumulates a sample, {size['weight_bytes']:,} bytes of "
        f"float32 weights, at most {size['peak_activation_bytes']:,} bytes of activations at batch 1.",
        "",
        f"The model in PyTorch takes {p50} (p50), {p99} (p99) at batch 1 on {markdown_text(machine['processor'])}, "
        f"{threads} thread{'s' if threads != 1 else ''}; the files below are timed there too.",
    ]


def _how(card: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for title, language, text in snippets(card):
        lines += [title, "", *markdown_code(text, language), ""]
    return lines[:-1]
