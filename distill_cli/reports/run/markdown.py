"""The report.md of a run, which begins with the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.reports import formatting
from distill_cli.reports.formatting import markdown_code, markdown_table, markdown_text
from distill_cli.reports.run import model_table, more_seeds, terms_table
from distill_cli.reports.run.origin import origin
from distill_cli.tasks.registry import report_task
from distill_cli.tasks.task import Task

LARGEST_CONFUSION = 20


def markdown(report: Mapping[str, Any]) -> str:
    """Return a run's report (``docs/report-schema.md``) as markdown.

    Text from data is escaped.
    """
    parts = [
        _head, _notes, _models, _members, _chain, _classes, _each_model, _comparisons, _search, _bias, terms_table.lines, _data,
        _teaching, _budget, _provenance,
    ]  # fmt: skip
    blocks = [lines for part in parts if (lines := part(report))]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _head(report: Mapping[str, Any]) -> list[str]:
    title = f"# {markdown_text(report.get('name') or report.get('command'))}, seed {report.get('seed')}"
    source = origin(report)
    return [title, "", *([f"{markdown_text(source)}.", ""] if source else []), f"**{markdown_text(report['verdict'])}**"]


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = notes_of(report)
    return ["## Notes", "", *(f"- {markdown_text(note)}" for note in notes)] if notes else []


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences of a report's `notes`: warnings with their remedies."""
    notes = report.get("notes")
    if not isinstance(notes, list):
        return []
    return [str(note["text"]) for note in notes if isinstance(note, Mapping) and "text" in note]


def _models(report: Mapping[str, Any]) -> list[str]:
    if not model_table.splits(report):
        return []
    names = [markdown_text(name) for name in model_table.model_names(report)]
    return ["## Models", "", *markdown_table(["", *names], [[what, *line] for what, line in model_table.rows(report)])]


def _members(report: Mapping[str, Any]) -> list[str]:
    rows = [[markdown_text(cell) for cell in row] for row in model_table.member_rows(report)]
    if not rows:
        return []
    scores = [f"{markdown_text(split)} {model_table.primary_metric(report).title}" for split in model_table.splits(report)]
    return ["## Members of the teacher", "", *markdown_table(["member", "network", "weight", *scores, "from"], rows, left=2)]


def _chain(report: Mapping[str, Any]) -> list[str]:
    rows = [[markdown_text(cell) for cell in row] for row in model_table.generation_rows(report)]
    title = model_table.primary_metric(report).title
    header = ["generation", "parameters", f"test {title}", f"val {title}", "training time", "from"]
    return ["## Generations", "", *markdown_table(header, rows)] if rows else []


def _classes(report: Mapping[str, Any]) -> list[str]:
    task = report_task(report)
    if not model_table.splits(report) or not task.part_columns:
        return []
    rows = [[markdown_text(name), *line] for name, line in model_table.class_rows(report)]
    header = [task.part, "rows", *(markdown_text(name) for name in model_table.model_names(report))]
    lines = [
        f"## {task.part_columns[0].title} of each {task.part}, {markdown_text(model_table.splits(report)[0])}",
        "",
        *markdown_table(header, rows),
    ]
    if any(name.endswith(" *") for name, _ in model_table.class_rows(report)):
        lines += ["", "\\* shown, not averaged into macro F1."]
    return lines


def _each_model(report: Mapping[str, Any]) -> list[str]:
    scored, task = model_table.splits(report), report_task(report)
    lines: list[str] = []
    for name in model_table.model_names(report):
        part = report["models"][name].get(scored[0]) if scored else None
        if part and task.part_columns:
            lines += [
                "",
                f"## {markdown_text(name)} on {markdown_text(scored[0])}",
                "",
                *_per_class(part, task),
                *_confusion(part),
            ]
    return lines[1:]


def _per_class(part: Mapping[str, Any], task: Task) -> list[str]:
    rows = [
        [markdown_text(name), *((formatting.count if c.is_count else formatting.score)(v[c.key]) for c in task.part_columns)]
        for name, v in part[task.part_key].items()
    ]
    return markdown_table([task.part, *(column.title for column in task.part_columns)], rows)


def _confusion(part: Mapping[str, Any]) -> list[str]:
    if "confusion" not in part:
        return []
    names = [markdown_text(name) for name in part["per_class"]]
    if len(names) > LARGEST_CONFUSION:
        return ["", f"The confusion matrix of {len(names)} classes is in report.json."]
    rows = [[name, *(formatting.count(n) for n in line)] for name, line in zip(names, part["confusion"], strict=True)]
    return ["", "Confusion, rows true, columns predicted:", "", *markdown_table(["true", *names], rows)]


def _comparisons(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for control, c in (report.get("comparison") or {}).items():
        span = "-" if c["ci95"] is None else f"{c['ci95'][0]:+.3f}..{c['ci95'][1]:+.3f}"
        resampled = "samples" if c["resampled"] == "samples" else f"{c['n_groups']} groups"
        metric = markdown_text(f"{c.get('split', 'test')} {c.get('metric', model_table.primary_metric(report).name)}")
        rows.append([markdown_text(control), metric, f"{c['difference']:+.3f}", span, resampled])
    if not rows:
        return []
    header = ["control", "of", "student minus control", "95 % interval", "bootstrap over"]
    return ["## Differences", "", *markdown_table(header, rows, left=2)]


def _search(report: Mapping[str, Any]) -> list[str]:
    search = report.get("tuned_from")
    if not search:
        return []
    rows = []
    for name, trials in search["trials"].items():
        setting = markdown_text(_setting(search["settings"][name]))
        rows.append([name, formatting.count(trials), formatting.score(search["val"][name]), setting])
    seeds = ", ".join(str(seed) for seed in search["seeds"])
    seen = " This run's seed is one of them." if search["seed_was_searched"] else ""
    lines = [f"Found in {markdown_text(search['folder'])} by validation {search['metric']}, seeds {seeds}.{seen}"]
    return ["## Search", "", *lines, "", *markdown_table(["arm", "trials", "validation", "settings"], rows, left=4)]


def _setting(settings: Mapping[str, Any], path: str = "") -> str:
    parts = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            parts.append(_setting(value, f"{path}{key}."))
        elif key == "_target_":
            parts.append(f"{path.rstrip('.')} {str(value).rpartition('.')[2]}")
        else:
            parts.append(f"{path}{key} {_exact(value)}")
    return ", ".join(parts)


def _exact(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_exact(part) for part in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bias(report: Mapping[str, Any]) -> list[str]:
    fixed = {name: model["bias_correction"] for name, model in report["models"].items() if model and model.get("bias_correction")}
    lines = []
    for name, at in fixed.items():
        offsets = ", ".join(f"{label} {value:+.3f}" for label, value in at.items())
        lines.append(f"- {markdown_text(name)}: {markdown_text(offsets)}")
    return ["## Bias fix: added to the logits, fitted on validation", "", *lines] if lines else []


def _data(report: Mapping[str, Any]) -> list[str]:
    data = report.get("data") or {}
    counts = data.get("class_counts") or {}
    if not counts:
        return []
    names = data.get("class_names") or sorted({name for split in counts.values() for name in split})
    sizes = model_table.rows_of_splits(report)
    rows = [
        [markdown_text(split), *(formatting.count(n.get(name, 0)) for name in names), formatting.count(sizes[split])]
        for split, n in counts.items()
    ]
    about = f"{data.get('name')}, split {data.get('split')}, split seed {data.get('split_seed')}"
    about += f", fingerprint {data.get('fingerprint')}"
    lines = ["## Data", "", markdown_text(about), "", *markdown_table(["split", *map(markdown_text, names), "rows"], rows)]
    notes = [f"- {markdown_text(note)}" for note in data.get("notes") or ()]
    if extra := report.get("unlabeled"):
        text = f"{formatting.count(extra['rows'])} transfer rows without labels: {extra['source']}, "
        text += f"fingerprint {extra['fingerprint']}"
        notes.insert(0, f"- {markdown_text(text)}")
    return lines + (["", *notes] if notes else [])


def _teaching(report: Mapping[str, Any]) -> list[str]:
    cache = report.get("cache") or {}
    lines = []
    if cache.get("views"):
        lines.append(
            f"- Student and controls saw {cache['views']} stored views of each training row, one an epoch in turn: augmentation "
            "and mixup were drawn once a view (consistent teaching, Beyer et al. 2022, arXiv:2106.05237)."
        )
    if cache.get("state") == "in the loop":
        lines.append("- The teacher ran in the loop.")
    elif cache.get("key"):
        what = ", ".join(["logits", *map(str, cache.get("features") or ())])
        how = "computed and stored by this run" if cache["state"] == "made" else "found stored"
        about = f"The teacher's outputs were {how}: {what}; {formatting.count(cache['bytes'])} bytes, key {cache['key']}."
        lines.append(f"- {markdown_text(about)}")
    return ["## Teaching", "", *lines] if lines else []


def _budget(report: Mapping[str, Any]) -> list[str]:
    budget = report.get("budget") or {}
    lines = []
    if budget.get("student_steps") is not None:
        controls = (f"{markdown_text(name)} {formatting.count(n)}" for name, n in (budget.get("control_steps") or {}).items())
        lines.append("- optimizer steps: " + ", ".join([f"student {formatting.count(budget['student_steps'])}", *controls]))
    if budget.get("teacher_steps") is not None:
        lines.append(
            f"- teacher: {formatting.count(budget['teacher_steps'])} steps, {formatting.duration(budget.get('teacher_seconds'))}"
        )
    if skipped := skipped_steps(report):
        lines.append(f"- left out in fp16, because a gradient overflowed: {markdown_text(skipped)}")
    if report.get("teacher_source"):
        lines.append(f"- where the teacher came from: {markdown_text(report['teacher_source'])}")
    return ["## Budget", "", *lines] if lines else []


def skipped_steps(report: Mapping[str, Any]) -> str:
    """Return the optimizer steps that fp16 loss scaling skipped, by model.

    The text is empty where no scaler was used.
    """
    models = {name: model.get("skipped_steps") for name, model in report["models"].items() if isinstance(model, Mapping)}
    counted = ", ".join(f"{name} {formatting.count(n)}" for name, n in models.items() if isinstance(n, int))
    return f"steps of {counted}" if counted else ""


def _provenance(report: Mapping[str, Any]) -> list[str]:
    provenance = dict(report.get("provenance") or {})
    again, sweep = provenance.pop("command_line", None), provenance.pop("sweep_command_line", None)
    lines = [f"- {markdown_text(key.replace('_', ' '))}: {markdown_text(_text(value))}" for key, value in provenance.items()]
    lines.append(f"- recipe version: {markdown_text(report.get('recipe_version'))}")
    block = ["## Provenance", "", *lines]
    block += ["", "## Run it again", "", *markdown_code(str(again), "sh")] if again else []
    block += ["", "The whole sweep:", "", *markdown_code(str(sweep), "sh")] if sweep else []
    several = more_seeds.command_line(report)
    return block + (["", "Five seeds, for a verdict:", "", *markdown_code(several, "sh")] if several else [])


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part) for part in value)
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None else str(value)
