"""The loss terms of a run as markdown: weights, values and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.reports.formatting import markdown_table, markdown_text

NONE = "-"


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the section on loss terms, with a row for each term of each stage.

    The section is empty where the report has no terms.
    """
    stages = report.get("stages") or {"": {"terms": report.get("terms") or {}}}
    terms = [(stage, name, term) for stage, part in stages.items() for name, term in part["terms"].items()]
    if not terms:
        return []
    columns = {"term": [markdown_text(name) for _, name, _ in terms]}
    if len(stages) > 1:
        columns = {"stage": [markdown_text(stage) for stage, _, _ in terms], **columns}
    columns["weight"] = [weight(term) for _, _, term in terms]
    columns["weighted mean in the best epoch"] = [number(term.get("value")) for _, _, term in terms]
    if any(term.get("gradient_share") for _, _, term in terms):
        columns["share of the gradient"] = [ends(term.get("gradient_share")) for _, _, term in terms]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    block = ["## Loss terms", "", *markdown_table(list(columns), rows, left=2 if len(stages) > 1 else 1)]
    if len(stages) > 1:
        block += ["", "The best epoch is one of the last stage; of an earlier stage its last epoch is shown."]
    return block + features(terms) + cosines(terms)


def weight(term: Mapping[str, Any]) -> str:
    """Return a term's weight as text, with its first and last value if it changes.

    The factor of gradient balancing is added in parentheses.
    """
    first, last = ((term.get("weights") or {}).get(key, term["weight"]) for key in ("first", "last"))
    text = f"{term['weight']:.4g}" if first == last else f"{first:.4g} to {last:.4g}"
    return text if term.get("balance") is None else f"{text} (balance {term['balance']:.4g})"


def features(terms: list[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each layer pair of a term, with the adapter in between."""
    pairs = []
    for _, name, term in terms:
        for pair in term.get("features") or ():
            adapter = f", {pair['adapter']}" if pair["adapter"] else ""
            pairs.append(
                f"- {markdown_text(name)}: " + markdown_text(f"{pair['student']} learns from {pair['teacher']}{adapter}")
            )
    return ["", "Layers compared:", "", *dict.fromkeys(pairs)] if pairs else []


def cosines(terms: list[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each pair of terms: the cosine between their gradients."""
    by_pair: dict[tuple[str, frozenset[str]], str] = {}
    for stage, name, term in terms:
        for second_term, value in (term.get("cosine") or {}).items():
            by_pair.setdefault(
                (stage, frozenset((name, second_term))),
                f"- {markdown_text(name)} and {markdown_text(second_term)}: {ends(value)}",
            )
    if not by_pair:
        return []
    return ["", "Cosine between gradients, from the first measurement to the last:", "", *by_pair.values()]


def ends(value: Mapping[str, Any] | None) -> str:
    """Return the first and the last of a measured value as text."""
    return NONE if value is None else f"{number(value['first'])} to {number(value['last'])}"


def number(value: float | None) -> str:
    """Return a number with four significant digits."""
    return NONE if value is None else f"{value:.4g}"
