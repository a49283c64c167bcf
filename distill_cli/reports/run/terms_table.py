"""What each loss term weighed and how hard it pulled, as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.reports.formatting import markdown_table, markdown_text

NONE = "-"


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the section on loss terms, a row for each term of each stage; empty where the report has none."""
    stages = report.get("stages") or {"": {"terms": report.get("terms") or {}}}
    found = [(stage, name, term) for stage, part in stages.items() for name, term in part["terms"].items()]
    if not found:
        return []
    columns = {"term": [markdown_text(name) for _, name, _ in found]}
    if len(stages) > 1:
        columns = {"stage": [markdown_text(stage) for stage, _, _ in found], **columns}
    columns["weight"] = [weight(term) for _, _, term in found]
    columns["weighted mean in the best epoch"] = [number(term.get("value")) for _, _, term in found]
    if any(term.get("gradient_share") for _, _, term in found):
        columns["share of the gradient"] = [ends(term.get("gradient_share")) for _, _, term in found]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    block = ["## Loss terms", "", *markdown_table(list(columns), rows, left=2 if len(stages) > 1 else 1)]
    if len(stages) > 1:
        block += ["", "The best epoch is one of the last stage; of an earlier stage its last epoch is shown."]
    return block + features(found) + cosines(found)


def weight(term: Mapping[str, Any]) -> str:
    """Return a weight, or where it came from and went to, and the factor of the balance in it."""
    first, last = ((term.get("weights") or {}).get(key, term["weight"]) for key in ("first", "last"))
    said = f"{term['weight']:.4g}" if first == last else f"{first:.4g} to {last:.4g}"
    return said if term.get("balance") is None else f"{said} (balance {term['balance']:.4g})"


def features(found: list[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each pair of layers that a term compares, and how the student's was brought to the teacher's shape."""
    said = []
    for _, name, term in found:
        for pair in term.get("features") or ():
            how = f", {pair['adapter']}" if pair["adapter"] else ""
            said.append(f"- {markdown_text(name)}: " + markdown_text(f"{pair['student']} learns from {pair['teacher']}{how}"))
    return ["", "Layers compared:", "", *dict.fromkeys(said)] if said else []


def cosines(found: list[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each pair of terms: the cosine between their gradients."""
    said: dict[tuple[str, frozenset[str]], str] = {}
    for stage, name, term in found:
        for other, value in (term.get("cosine") or {}).items():
            said.setdefault(
                (stage, frozenset((name, other))), f"- {markdown_text(name)} and {markdown_text(other)}: {ends(value)}"
            )
    if not said:
        return []
    return ["", "Cosine between gradients, from the first measurement to the last:", "", *said.values()]


def ends(value: Mapping[str, Any] | None) -> str:
    """Return the first and the last of a measured value."""
    return NONE if value is None else f"{number(value['first'])} to {number(value['last'])}"


def number(value: float | None) -> str:
    """Return a number with four digits."""
    return NONE if value is None else f"{value:.4g}"
