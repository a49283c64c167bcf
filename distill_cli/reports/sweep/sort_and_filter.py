"""Order and selection of the rows of a table."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from statistics import median
from typing import TYPE_CHECKING

from distill_cli.errors import UserError, did_you_mean
from distill_cli.reports.sweep.settings import leaves
from distill_cli.tasks.registry import all_metrics

if TYPE_CHECKING:
    from distill_cli.reports.sweep.table import Leaderboard, Row

Number = Callable[["Row"], float | None]
LESS_IS_BETTER = ("p", "detectable", "parameters", "weights", "latency")
LATENCY_BATCH = "1"
CONDITION = re.compile(r"([^<>=!~\s]+)\s*(>=|<=|!=|>|<|=|~)\s*(.*)")
CONDITIONS = "a condition is a column or key, one of > >= < <= = != ~, and a value; commas separate conditions"
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


def numbers(table: Leaderboard) -> dict[str, Number]:
    """Return the value function of every numeric column, None for an empty cell."""
    functions: dict[str, Number] = {
        "val": lambda row: _mean(row.val),
        "n": lambda row: len(row.runs),
        "difference": lambda row: _of_first(row, "mean"),
        "p": lambda row: _of_first(row, "p_holm" if _of_first(row, "p_holm") is not None else "p"),
        "detectable": lambda row: _of_first(row, "minimum_detectable_effect"),
        "parameters": lambda row: size(row, "parameters"),
        "weights": lambda row: size(row, "weight_bytes"),
        "latency": latency,
    }
    for model in dict.fromkeys(name for row in table.rows for name in row.test):
        functions[model] = lambda row, model=model: _mean(row.test.get(model, ()))  # type: ignore[misc]
    return functions


def size(row: Row, key: str) -> float | None:
    """Return a figure of the student, or of the teacher where there is no student."""
    models = row.runs[0].report["models"]
    value = (models.get("student") or models.get("teacher") or {}).get(key)
    return value if isinstance(value, (int, float)) else None


def latency(row: Row) -> float | None:
    """Return the median latency of one sample in ms, over the runs of a row.

    The latency is the student's, or the teacher's where there is no student.
    """
    models = [run.report["models"] for run in row.runs]
    parts = [(m.get("student") or m.get("teacher") or {}).get("latency_ms") or {} for m in models]
    known = [p50 for part in parts if (p50 := (part.get(LATENCY_BATCH) or {}).get("p50")) is not None]
    return median(known) if known else None


def sort(table: Leaderboard, by: str) -> None:
    """Sort the rows in place, best first, by ``validation`` or a numeric column.

    Args:
        table: sorted in place.
        by: ``validation`` or a column of `numbers`.

    Raises:
        UserError: there is no such column.
    """
    columns = numbers(table)
    known = ["validation", *(name for name in columns if name != "val")]
    if by not in known and by != "val":
        raise UserError(f"sort={by}: no such column of numbers{did_you_mean(by, known)} (available: {', '.join(known)})")
    by = "validation" if by == "val" else by
    value = columns["val" if by == "validation" else by]
    scored = by not in ("n", *LESS_IS_BETTER)
    sign = -1 if (scored and not all_metrics()[table.metric].higher_is_better) or by in LESS_IS_BETTER else 1

    def key(row: Row) -> tuple[bool, bool, float, str]:
        number = value(row)
        return number is None, "student" not in row.test, -sign * (number or 0.0), row.label

    table.rows.sort(key=key)
    table.sorted_by = by


def filter_rows(table: Leaderboard, expression: str) -> None:
    """Remove the rows that do not meet every condition.

    Tests, corrections and labels stay those of the whole table.

    Args:
        table: changed in place; a note says how many rows are shown.
        expression: conditions separated by commas: ``student>0.85``, ``n>=5``, ``loss.temperature=4`` (any key of the config),
            ``method~dkd`` (contains), or a word that the method contains.

    Raises:
        UserError: a condition names an unknown column or key, compares text with ``<``, or matches no row.
    """
    conditions = [part.strip() for part in re.split(r",(?![^\[]*\])", expression) if part.strip()]
    every = len(table.rows)
    for condition in conditions:
        holds = _condition(table, condition)
        table.rows[:] = [row for row in table.rows if holds(row)]
    if every and not table.rows:
        raise UserError(f"filter={expression}: no row is left of {every}")
    if len(table.rows) < every:
        table.notes.append(
            f"filter {expression}: {len(table.rows)} of {every} rows are shown; p and verdicts are those of all rows"
        )


def _condition(table: Leaderboard, text: str) -> Callable[[Row], bool]:
    match = CONDITION.fullmatch(text)
    if match is None:
        if re.search("[<>=!~]", text):
            raise UserError(f"filter={text}: cannot be read; {CONDITIONS}")
        return lambda row: text.casefold() in row.label.casefold()
    name, sign, operand = match.groups()
    columns = {**numbers(table), "validation": numbers(table)["val"]}
    value: Callable[[Row], object]
    if name in columns:
        if sign in ("=", "!=") and operand != "null" and not _is_number(operand):
            raise UserError(f"filter={text}: {name} holds numbers, '{operand}' is none; {CONDITIONS}")
        value = columns[name]
    elif name == "method":
        value = _label
    else:
        configs = {id(row): dict(leaves(row.runs[-1].report.get("config") or {})) for row in table.rows}
        keys = {key for config in configs.values() for key in config}
        if name not in keys:
            known = ["method", *columns]
            raise UserError(
                f"filter={text}: no column and no key of the config is called '{name}'{did_you_mean(name, [*known, *keys])} "
                f"(columns: {', '.join(known)})"
            )
        value = lambda row: configs[id(row)].get(name)  # noqa: E731
    return _comparison(value, sign, operand, text)


def _comparison(value: Callable[[Row], object], sign: str, operand: str, text: str) -> Callable[[Row], bool]:
    if sign == "~":
        return lambda row: operand.casefold() in str(value(row)).casefold()
    if not _is_number(operand):
        if sign not in ("=", "!="):
            raise UserError(f"filter={text}: {sign} needs a number, '{operand}' is none; {CONDITIONS}")
        return lambda row: (_typed(value(row)) == operand) == (sign == "=")

    limit = float(operand)

    def holds(row: Row) -> bool:
        number = value(row)
        return isinstance(number, (int, float)) and not isinstance(number, bool) and COMPARE[sign](number, limit)

    return holds


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _typed(value: object) -> str:
    literals = {None: "null", True: "true", False: "false"}
    return literals[value] if value is None or isinstance(value, bool) else str(value)


def _label(row: Row) -> str:
    return row.label


def _mean(values: object) -> float | None:
    known = list(values)  # type: ignore[call-overload]
    return sum(known) / len(known) if known else None


def _of_first(row: Row, key: str) -> float | None:
    return row.comparisons[0].result.get(key) if row.comparisons else None
