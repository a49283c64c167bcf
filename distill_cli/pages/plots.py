"""plots/*.png of a run: the pictures that papers want, drawn by matplotlib from what the page is drawn from."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_cli.files import refuse_links, write_atomic
from distill_cli.pages.curves import MEASURES, rows_of
from distill_cli.pages.inputs import RunData
from distill_cli.pages.reliability import bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "plots"
DOTS_PER_INCH = 200
LONGEST = 24  # characters
MOST_CLASSES = 12  # whose counts are written into a confusion matrix
# Okabe and Ito's colours for the colour-blind; markers and dashes tell models apart in print without colour.
COLOURS = ("#0072B2", "#D55E00", "#555555", "#009E73", "#CC79A7", "#8A6A00")
MARKERS, DASHES = ("D", "o", "s", "^", "P", "v"), ("--", "-", ":", "-.", (0, (3, 1, 1, 1)), (0, (8, 2)))
NAMES = ("teacher", "student", "scratch", "tuned")


def write(folder: Path, data: RunData) -> list[Path]:
    """Write the pictures that the run has something for, and return their paths.

    Raises:
        UserError: their folder is not writable, or leads out of the run's.
    """
    refuse_links(folder, (FOLDER,))
    drawn: dict[str, Callable[[RunData], Figure | None]] = {
        "curves": curves, "confusion": confusion, "classes": classes, "reliability": reliability,
    }  # fmt: skip
    written = []
    for name, draw in drawn.items():
        figure = draw(data)
        if figure is not None:
            written.append(save(folder / FOLDER / f"{name}.png", figure))
    return written


def save(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    return write_atomic(path, lambda f: f.write(content.getvalue()), binary=True)


def figure_of(width: float, height: float) -> Figure:
    """Return an empty figure, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def look_of(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return colour, marker and dash of a model, the same in every picture."""
    known = [*NAMES, *(other for other in names if other not in NAMES)]
    n = known.index(name) % len(COLOURS)
    return {"color": COLOURS[n], "marker": MARKERS[n], "linestyle": DASHES[n]}


def plain(text: str) -> str:
    """Return text in which matplotlib sees no formula, cut where it is too long for an axis."""
    return (text if len(text) <= LONGEST else text[: LONGEST - 3] + "...").replace("$", r"\$")


def curves(data: RunData) -> Figure | None:
    """Macro F1 and NLL on validation over the epochs."""
    measures = [measure for measure in ("val.macro_f1", "val.nll") if rows_of(data, measure)]
    if not measures:
        return None
    figure = figure_of(4.2 * len(measures), 3.0)
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        rows = rows_of(data, measure)
        for name in dict.fromkeys(str(row["model"]) for row in rows):
            mine = [row for row in rows if row["model"] == name]
            best = [n for n, row in enumerate(mine) if row["best"]]
            look = look_of(name, data.models)
            axes.plot([r["epoch"] for r in mine], [r["value"] for r in mine], label=plain(name), markevery=best, **look)
        axes.set(xlabel="epoch", ylabel=MEASURES[measure][1], title=MEASURES[measure][0])
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def confusion(data: RunData) -> Figure | None:
    """A matrix a model: the shade is the share of the true class, the number the rows."""
    names = [name for name in data.models if data.scores(name).get("confusion")]
    if not names:
        return None
    classes_ = [plain(str(label)) for label in data.scores(names[0])["per_class"]]
    side = max(2.4, 0.42 * min(len(classes_), 20))
    figure = figure_of(side * len(names) + 0.6, side + 0.9)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        counts = data.scores(name)["confusion"]
        shares = [[n / sum(line) if sum(line) else 0.0 for n in line] for line in counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(classes_) <= MOST_CLASSES:
            axes.set_xticks(range(len(classes_)), classes_, rotation=45, ha="right", fontsize="x-small")
            axes.set_yticks(range(len(classes_)), classes_, fontsize="x-small")
            for i, line in enumerate(counts):
                for j, n in enumerate(line):
                    ink = "white" if shares[i][j] > 0.5 else "black"
                    axes.text(j, i, f"{n:,}", ha="center", va="center", fontsize=6, color=ink)
        axes.set(xlabel="predicted class", ylabel="true class", title=f"{plain(name)}, {data.split}")
    return figure


def classes(data: RunData) -> Figure | None:
    """F1 of each class with its interval."""
    names = [name for name in data.models if data.scores(name).get("per_class")]
    if not names:
        return None
    labels = list(data.scores(names[0])["per_class"])
    figure = figure_of(5.2, 0.7 + (0.13 * len(names) + 0.16) * len(labels))
    axes = figure.subplots()
    for n, name in enumerate(names):
        parts = data.scores(name)["per_class"]
        at = [i + 0.7 * (n + 0.5) / len(names) - 0.35 for i in range(len(labels))]
        f1 = [parts[label]["f1"] for label in labels]
        spans = [parts[label].get("f1_ci95") or (value, value) for label, value in zip(labels, f1, strict=True)]
        below = [max(0.0, value - low) for value, (low, _) in zip(f1, spans, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(f1, spans, strict=True)]
        look = {**look_of(name, names), "linestyle": "none", "markersize": 4}
        axes.errorbar(f1, at, xerr=[below, above], label=plain(name), **look)
    axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
    axes.invert_yaxis()
    axes.set(xlabel=f"F1, {data.split}, with 95 % bootstrap intervals", ylabel="class")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def reliability(data: RunData) -> Figure | None:
    """Share that is right against mean confidence."""
    if data.predictions is None or not data.predictions.probabilities:
        return None
    figure = figure_of(3.8, 3.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=(0, (2, 2)))
    for name, p in data.predictions.probabilities.items():
        found = bins(p, data.predictions.y)
        label = plain(f"{name}, ECE {data.scores(name)['ece']:.3f}" if "ece" in data.scores(name) else name)
        look = {**look_of(name, data.models), "markersize": 4}
        axes.plot([b["confidence"] for b in found], [b["accuracy"] for b in found], label=label, **look)
    axes.set(xlabel="mean probability of the predicted class", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
