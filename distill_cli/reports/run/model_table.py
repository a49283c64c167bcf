"""The table of a run's models: one column a model, one row a quantity; the same for markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_cli.reports import formatting

Report = Mapping[str, Any]
LATENCY_BATCHES = ("1", "256")


def model_names(report: Report) -> list[str]:
    """Return teacher, student, tuned, scratch, then the other controls, as far as they are there."""
    first = [name for name in ("teacher", "student", "tuned", "scratch") if report["models"].get(name)]
    return first + [name for name, model in report["models"].items() if model and name not in first]


def splits(report: Report) -> list[str]:
    """Return the scored splits: test, the extra ones, val, train."""
    found = {name for model in report["models"].values() if model for name, part in model.items() if is_scores(part)}
    extra = sorted(found - {"test", "val", "train"})
    return [name for name in ("test", *extra, "val", "train") if name in found]


def is_scores(part: object) -> bool:
    """Whether a part of a model's report holds the scores of a split."""
    return isinstance(part, Mapping) and "macro_f1" in part


def rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return (what, one cell a model) for each row that any model fills; latency is the median on the CPU."""
    found = score_rows(report) + cost_rows(report)
    return [(what, line) for what, line in found if any(cell != formatting.MISSING for cell in line)]


def score_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return the rows of scores: the first split in full, the others by macro F1 and its interval."""
    models = [report["models"][name] for name in model_names(report)]
    table = []
    for i, split in enumerate(splits(report)):
        parts = [model.get(split) or {} for model in models]
        wanted: list[tuple[str, str, Callable[[Any], str]]] = [
            (f"{split} macro F1", "macro_f1", formatting.score),
            ("95 % interval", "macro_f1_ci95", formatting.interval),
        ]
        if i == 0:
            wanted += [
                ("accuracy", "accuracy", formatting.score),
                ("NLL, nats", "nll", formatting.score),
                ("ECE", "ece", formatting.score),
            ]
            wanted += [("agreement", "agreement", formatting.score)]
        table += [(what, [show(part.get(key)) for part in parts]) for what, key, show in wanted]
    return table


def cost_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return the rows of size, speed and training."""
    models = [report["models"][name] for name in model_names(report)]
    prepared = any(model.get("preparation_bytes") for model in models)
    wanted: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
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
    return [(what, [show(model) for model in models]) for what, show in wanted]


def _latency(batch: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda m: formatting.milliseconds(((m.get("latency_ms") or {}).get(batch) or {}).get("p50"))


def class_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return (class, support and F1 of each model) on the first split; a class that macro F1 leaves out is marked ``*``."""
    split = splits(report)[0]
    parts = [(report["models"][name].get(split) or {}) for name in model_names(report)]
    full = next(part for part in parts if part)
    table = []
    for name, per_class in full["per_class"].items():
        mark = "" if name in full["averaged"] else " *"
        f1 = [formatting.score(((part.get("per_class") or {}).get(name) or {}).get("f1")) for part in parts]
        table.append((name + mark, [formatting.count(per_class["support"]), *f1]))
    return table


def class_quality_rows(report: Report) -> list[list[str]]:
    """Return a row for each class: its name, training rows, rows of the first split, and each model's precision and recall."""
    split = splits(report)[0]
    parts = [(report["models"][name].get(split) or {}).get("per_class") or {} for name in model_names(report)]
    trained = ((report.get("data") or {}).get("class_counts") or {}).get("train") or {}
    table = []
    for name, per_class in next(part for part in parts if part).items():
        figures = [formatting.score((part.get(name) or {}).get(key)) for part in parts for key in ("precision", "recall")]
        table.append([name, formatting.count(trained.get(name)), formatting.count(per_class["support"]), *figures])
    return table


def member_rows(report: Report) -> list[list[str]]:
    """Return a row for each member of a teacher that is an ensemble: number, architecture, weight, macro F1 by split, source."""
    table = []
    for n, part in enumerate(report.get("teacher_members") or ()):
        target = str((part.get("architecture") or {}).get("target")).rpartition(".")[2]
        found = [formatting.score((part.get(split) or {}).get("macro_f1")) for split in splits(report)]
        table.append([str(n + 1), target, f"{part['weight']:.3g}", *found, str(part.get("source") or formatting.MISSING)])
    return table


def generation_rows(report: Report) -> list[list[str]]:
    """Return a row for each generation: name, parameters, macro F1 on test and val, training time, source."""
    table = []
    for part in report.get("generations") or ():
        found = [formatting.score((part.get(split) or {}).get("macro_f1")) for split in ("test", "val")]
        cost = [formatting.count(part.get("parameters")), *found, formatting.duration(part.get("train_seconds"))]
        table.append([str(part["name"]), *cost, str(part.get("source") or formatting.MISSING)])
    return table
