"""Which runs differ in nothing but their seed, and what a setting is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_cli.reports.sweep.collect import Run

NOT_A_SETTING = (
    "seed", "sweep", "outputs", "require", "optimized_metric", "report", "bootstrap", "hydra", "logger", "verbosity",
    "log_every_seconds", "resume", "save_every",
)  # fmt: skip
NOT_SETTINGS_EITHER = ("cache.folder", "cache.max_gb")  # where outputs lie, not what they are
MOST_DIFFERENCES = 3
# Where a report says what was in the files that a config names.
CONTENTS = {
    "data": ("data", "fingerprint"),
    "unlabeled rows": ("unlabeled", "fingerprint"),
    "teacher": ("teacher_fingerprint",),
}


def same_setting(a: Run, b: Run) -> bool:
    """Whether two runs have the same command, recipe, data, teacher and config, seeds aside.

    Files may have changed under one name, so data, unlabeled rows and teachers are told apart by what was in them. A value
    that is each run's own seed (``teacher.seed: ${seed}``), or as far from it in both (``${plus:${seed},100}``), counts as seed
    where the same was typed for both; a value that was swept beside the seed does not. Runs without a config are told apart by
    what was typed.
    """
    if any(a.report.get(key) != b.report.get(key) for key in ("command", "recipe_version")):
        return False
    if not (a.report.get("config") and b.report.get("config")):
        return typed(a) == typed(b)
    if differences(a, b):
        return False
    if not _equal(a, b, *CONTENTS["data"]):
        return _follows_seed(a, b, "dataset.split_seed")
    same_rows = _equal(a, b, *CONTENTS["unlabeled rows"]) or _follows_seed(a, b, "dataset.unlabeled.split_seed")
    return same_rows and (_equal(a, b, *CONTENTS["teacher"]) or not _equal(a, b, "config", "teacher", "seed"))


def _equal(a: Run, b: Run, *path: str) -> bool:
    """Whether two reports hold the same at a path, or nothing."""
    return bool(_at(a, *path) == _at(b, *path))


def _at(run: Run, *path: str) -> Any:
    """Return what a report holds at a path, None where there is no such place."""
    found: Any = run.report
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def differences(a: Run, b: Run) -> dict[str, Any]:
    """Return ``{path: value in b}`` of the config values that differ and do not follow the seed."""
    left, right = (dict(leaves(run.report.get("config") or {})) for run in (a, b))
    paths = [path for path in {**left, **right} if path.split(".")[0] not in NOT_A_SETTING and path not in NOT_SETTINGS_EITHER]
    return {p: right.get(p) for p in paths if left.get(p) != right.get(p) and not _follows_seed(a, b, p)}


def typed(run: Run) -> tuple[str, ...]:
    """Return the overrides of a run that are settings, sorted."""
    kept = (o for o in run.overrides or () if o.lstrip("+~").split("=")[0].split(".")[0] not in NOT_A_SETTING)
    return tuple(sorted(kept))


def labels(groups: Sequence[Sequence[Run]]) -> tuple[list[str], list[str]]:
    """Return a label for each group of runs, and the overrides that all of them share.

    A label is what was typed for this group and not for all; the report's name where that is nothing. Groups that would have
    the same label say in which values of their config they differ from the first.
    """
    shared = sorted(set.intersection(*(set(typed(group[-1])) for group in groups))) if groups else []
    found: list[str] = []
    first: dict[str, Run] = {}
    for group in groups:
        run = group[-1]
        label = " ".join(o for o in typed(run) if o not in shared) or str(run.report.get("name") or run.report.get("command"))
        if run.report.get("command") != "distill":
            label = f"{run.report.get('command')}: {label}"
        if label in first:
            label = f"{label} ({_difference(first[label], run)})"
        first.setdefault(label, run)
        found.append(label)
    return found, shared


def _difference(a: Run, b: Run) -> str:
    changed = [f"{path}={value}" for path, value in differences(a, b).items()]
    if changed:
        return " ".join(changed[:MOST_DIFFERENCES]) + (" ..." if len(changed) > MOST_DIFFERENCES else "")
    if a.report.get("recipe_version") != b.report.get("recipe_version"):
        return f"recipe version {b.report.get('recipe_version')}"
    what, path = next(((what, path) for what, path in CONTENTS.items() if not _equal(a, b, *path)), ("data", CONTENTS["data"]))
    return f"{what} {_at(b, *path)}"


def _follows_seed(a: Run, b: Run, path: str) -> bool:
    trains_teacher = path == "teacher.seed" and a.report.get("command") == b.report.get("command") == "train-teacher"
    if not trains_teacher and (a.overrides is None or b.overrides is None or typed(a) != typed(b)):
        return False
    values = [dict(leaves(run.report.get("config") or {})).get(path) for run in (a, b)]
    distances = [v - run.seed for v, run in zip(values, (a, b), strict=True) if isinstance(v, int) and run.seed is not None]
    return len(distances) == 2 and distances[0] == distances[1]


def leaves(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of every value in a config; a list is one value."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, config
