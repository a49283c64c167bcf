"""F1 of each class with intervals, for teacher, student and controls."""

from __future__ import annotations

from typing import Any

from distill_cli.reports.html.components import Chart, Section, Table, by_model, category, quantity, spec
from distill_cli.reports.html.run.data import RunData
from distill_cli.reports.run import model_table
from distill_cli.tasks.registry import report_task

MOST_CLASSES = 40  # of more, those with the lowest F1 of the student
ROW = 14  # pixels a model and class


def section(data: RunData) -> Section | None:
    """Return the section with the chart of F1 and the tables of its numbers."""
    task = report_task(data.report)
    names = [name for name in data.models if data.scores(name).get(task.part_key)]
    if not names:
        return None
    leader = "student" if "student" in names else names[0]
    parts = data.scores(leader)[task.part_key]
    averaged = set(map(str, data.scores(leader).get("averaged") or parts))
    classes = list(parts)
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda c: parts[c]["f1"])[:MOST_CLASSES]
    labels = {c: f"{c} ({parts[c]['support']:,}{'' if c in averaged else ', not averaged'})" for c in classes}
    rows: list[dict[str, Any]] = []
    for name in names:
        for c in classes:
            class_scores = data.scores(name)[task.part_key].get(c)
            if class_scores is not None:
                low, high = class_scores.get("f1_ci95") or (None, None)
                rows.append({"model": name, "class": labels[c], "f1": class_scores["f1"], "low": low, "high": high})
    y = category("class", f"{task.part} (rows)", list(labels.values()), axis={"labelLimit": 150})
    offset = {"yOffset": {"field": "model", "type": "nominal", "sort": names}}
    looks = by_model(names, "color", "shape")
    tips = [{"field": "class"}, {"field": "model"}, *({"field": k, "format": ".4f"} for k in ("f1", "low", "high"))]
    title = f"F1, {data.split}"
    rule = {"y": y, **offset, "x": quantity("low", title), "x2": {"field": "high"}, "color": looks["color"]}
    point = {"y": y, **offset, "x": quantity("f1", title), **looks, "tooltip": tips}
    known = any(row["low"] is not None for row in rows)
    layers = [
        *([{"mark": {"type": "rule", "strokeWidth": 2}, "encoding": rule}] if known else []),
        {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, "encoding": point},
    ]
    height = (ROW * len(names) + 8) * len(classes)
    note = "Bars: 95 % bootstrap intervals." if known else ""
    if len(classes) < len(parts):
        note += f" The {len(classes)} {task.parts} of {len(parts)} with the lowest F1 of {leader}."
    chart = Chart(f"F1 of each {task.part}", spec(rows, height, layer=layers), note.strip(), marks=2 * len(rows), wide=True)
    return Section("classes", f"{task.parts[0].upper()}{task.parts[1:]}", "", [chart], tables=_tables(data))


def _tables(data: RunData) -> list[Table]:
    """Return the tables of F1, and of training rows, precision and recall."""
    task = report_task(data.report)
    f1 = [[name, *line] for name, line in model_table.class_rows(data.report)]
    figures = [column.title for column in task.part_columns[1:-1]]
    header = [task.part, "training rows", f"{data.split} rows"]
    both = [f"{name} {what}" for name in data.models for what in figures]
    return [
        Table([task.part, f"{data.split} rows", *data.models], f1, caption=f"F1, {data.split}"),
        Table(
            [*header, *both],
            model_table.class_quality_rows(data.report),
            caption=f"{figures[0][0].upper()}{figures[0][1:]} and {', '.join(figures[1:])}, {data.split}",
        ),
    ]
