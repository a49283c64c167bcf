"""The table of a run's models, for markdown and for the terminal.

There is one column for each model and one row for each quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_cli.reports import formatting
from distill_cli.tasks.registry import report_task
from distill_cli.tasks.task import Metric

Report = Mapping[str, Any]
LATENCY_BATCHES = ("1", "256")


def model_names(report: Report) -> list[str]:
    """Return the names of the models in the order of the columns.

    The order is teacher, student, tuned, scratch, then the other controls.
    """
    first = [name for name in ("teacher", "student", "tuned", "scratch") if report["models"].get(name)]
    return first + [name for name, model in report["models"].items() if model and name not in first]


def splits(report: Report) -> list[str]:
    """Return the scored splits: test, the extra ones, val, train."""
    metric = report_task(report).primary_metric.name
    scored = {name for model in report["models"].values() if model for name, part in model.items() if is_scores(part, metric)}
    extra = sorted(scored - {"test", "val", "train"})
    return [name for name in ("test", *extra, "val", "train") if name in scored]


def is_scores(part: object, metric: str) -> bool:
    """Return whether a part of a model's report holds the scores of a split, by the task's primary metric."""
    return isinstance(part, Mapping) and metric in part


def primary_metric(report: Report) -> Metric:
    """Return the primary metric of a report's task."""
    return report_task(report).primary_metric


def rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return title and cells of each row that has a value for any model.

    Latency is the median on the CPU.
    """
    candidates = score_rows(report) + cost_rows(report)
    return [(what, line) for what, line in candidates if any(cell != formatting.MISSING for cell in line)]


def score_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return the rows of scores.

    The first split has all scores, the others the primary metric and its interval.
    """
    models = [report["models"][name] for name in model_names(report)]
    first, *others = report_task(report).metrics
    table = []
    for i, split in enumerate(splits(report)):
        parts = [model.get(split) or {} for model in models]
        score_columns: list[tuple[str, str, Callable[[Any], str]]] = [
            (f"{split} {first.label}", first.name, formatting.score),
            ("95 % interval", f"{first.name}_ci95", formatting.interval),
        ]
        if i == 0:
            score_columns += [(metric.label, metric.name, formatting.score) for metric in others]
            score_columns += [("agreement", "agreement", formatting.score)]
        table += [(what, [show(part.get(key)) for part in parts]) for what, key, show in score_columns]
    return table


def cost_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return the rows of size, speed and training."""
    models = [report["models"][name] for name in model_names(report)]
    prepared = any(model.get("preparation_bytes") for model in models)
    cost_columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("parameters", lambda m: formatting.count(m.get("parameters"))),
        ("MACs a sample", lambda m: formatting.count(m.get("macs"))),
        ("weights", lambda m: formatting.size(m.get("weight_bytes"))),
        *([("of them preparation", lambda m: formatting.size(m.get("preparation_bytes")))] if prepared else []),
        *((f"latency, batch {b}", _latency(b)) for b in LATENCY_BATCHES),
        ("training time", lambda m: formatting.duration(m.get("train_seconds"))),
        ("samples/s", lambda m: formatting.count(m.get("samples_per_second"))),
        ("steps", lambda m: formatting.count(m.get("steps"))),
        ("epochs", lambda m: formatting.count(m.get("epochs"))),
        ("best epoch", lambda m: formatting.count(m.get("best_epoch"))),
        ("labeled samples seen", lambda m: formatting.count(m.get("labeled_samples_seen"))),
    ]
    return [(what, [show(model) for model in models]) for what, show in cost_columns]


def _latency(batch: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda m: formatting.milliseconds(((m.get("latency_ms") or {}).get(batch) or {}).get("p50"))


def class_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return part, support and each model's first figure on the first split.

    Of a class or label the figure is its F1. A part that the mean leaves out is marked ``*``.
    """
    task, split = report_task(report), splits(report)[0]
    parts = [(report["models"][name].get(split) or {}) for name in model_names(report)]
    full = next(part for part in parts if part)
    if not task.part_columns:
        return []
    key, figure, count = task.part_key, task.part_columns[0].key, task.part_columns[-1].key
    table = []
    for name, own in full[key].items():
        mark = "" if name in full.get("averaged", [name]) else " *"
        shown = [formatting.score(((part.get(key) or {}).get(name) or {}).get(figure)) for part in parts]
        table.append((name + mark, [formatting.count(own[count]), *shown]))
    return table


def class_quality_rows(report: Report) -> list[list[str]]:
    """Return the further figures of each model for each class or label.

    A row holds the name, its training rows, its rows of the first split, then each model's figures.
    """
    task, split = report_task(report), splits(report)[0]
    parts = [(report["models"][name].get(split) or {}).get(task.part_key) or {} for name in model_names(report)]
    trained = ((report.get("data") or {}).get("class_counts") or {}).get("train") or {}
    *columns, count = task.part_columns
    table = []
    for name, own in next(part for part in parts if part).items():
        figures = [formatting.score((part.get(name) or {}).get(column.key)) for part in parts for column in columns[1:]]
        table.append([name, formatting.count(trained.get(name)), formatting.count(own[count.key]), *figures])
    return table


def rows_of_splits(report: Report) -> dict[str, int]:
    """Return the number of rows of each split; of exclusive classes the sum of their counts."""
    data = report.get("data") or {}
    if isinstance(data.get("rows"), Mapping):
        return dict(data["rows"])
    counts = data.get("class_counts")
    return {split: sum(by_class.values()) for split, by_class in counts.items()} if isinstance(counts, Mapping) else {}


def member_rows(report: Report) -> list[list[str]]:
    """Return a row for each member of an ensemble teacher.

    A row holds number, architecture, weight, macro F1 of each split, source.
    """
    table = []
    for n, part in enumerate(report.get("teacher_members") or ()):
        target = str((part.get("architecture") or {}).get("target")).rpartition(".")[2]
        scores = [formatting.score((part.get(split) or {}).get(primary_metric(report).name)) for split in splits(report)]
        table.append([str(n + 1), target, f"{part['weight']:.3g}", *scores, str(part.get("source") or formatting.MISSING)])
    return table


def generation_rows(report: Report) -> list[list[str]]:
    """Return a row for each generation between teacher and student.

    A row holds name, parameters, macro F1 on test and val, training time, source.
    """
    table = []
    for part in report.get("generations") or ():
        scores = [formatting.score((part.get(split) or {}).get(primary_metric(report).name)) for split in ("test", "val")]
        cost = [formatting.count(part.get("parameters")), *scores, formatting.duration(part.get("train_seconds"))]
        table.append([str(part["name"]), *cost, str(part.get("source") or formatting.MISSING)])
    return table
