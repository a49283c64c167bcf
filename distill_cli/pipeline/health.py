"""Checks of a finished run for signs of trouble.

Each check looks for one sign and names the setting that helps.

A check takes an `Examined` and yields sentences. One's own is added to `CHECKS`, or named in the config as
``health=[my_module.my_check]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distill_cli.config.validation.components import find_target
from distill_cli.errors import UserError
from distill_cli.metrics.classification import majority_problem
from distill_cli.tasks.registry import find_task
from distill_cli.types import Dataset, EpochRecord, Pool, has_channels_last

TEACHER, STUDENT = "teacher", "student"
LEAST_MOVE = 1e-4  # relative change of all weights, below which nothing was learned
ANNEALED = 0.1  # rate of the last epoch over the highest, below which a training is at its planned end
LEAST_FALL = 0.02  # of the loss on validation over the last fifth of the epochs, above which it is still falling
SHOWN_ROWS = 5  # of a class in the scored rows, from which "never predicted" means something
ROWS_A_CLASS = 10  # of validation, on average
MANY_CLASSES = 15  # with numbers for names: labels, or a measurement
RARE = 0.1  # rows of the rarest class for one of the commonest: measurements are not equally frequent
NUMBERED_ROWS = 20  # from which a column that rises with the row number cannot be chance
MOST_CELLS = 50_000_000  # of a table that is looked through for such columns
LEAST_DIFFERENCE = 0.02  # of macro F1 between a teacher and a control that is worth a word


@dataclass(frozen=True)
class Examined:
    """What a check may look at.

    Attributes:
        report: as it will be written, without `notes`.
        dataset: what was learned and scored.
        logits: ``[N, C]`` of each model on each scored split: ``{model: {split: logits}}``.
        records: of the epochs of the models that were trained here.
    """

    report: Mapping[str, Any]
    dataset: Dataset
    logits: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    records: Sequence[EpochRecord] = ()

    def scored(self, model: str) -> Iterator[tuple[str, np.ndarray, Pool]]:
        """Yield name, logits and rows of each split that a model was scored on.

        The splits are the data set's, the extra ones left out.
        """
        for split in ("val", "test"):
            if split in self.logits.get(model, {}):
                yield split, self.logits[model][split], self.dataset.pools[split]


Check = Callable[[Examined], Iterable[str]]


def own_checks(names: Sequence[str]) -> dict[str, Check]:
    """Return the checks of ``health=[...]`` by their dotted names.

    Raises:
        UserError: there is no such function.
    """
    checks = {}
    for name in names:
        try:
            checks[str(name)] = find_target("health", name)
        except UserError as e:
            raise UserError(str(e).replace("health._target_", "health", 1)) from None
    return checks


def examine(examined: Examined, own: Mapping[str, Check] | None = None) -> list[dict[str, str]]:
    """Return the report's `notes`: what each check has to say, as ``{check, text}``.

    Args:
        examined: a run, or the scores of one.
        own: checks of the user's; one that fails says so in its note, for a run that is finished is not thrown away.
    """
    has_classes = find_task(examined.dataset.task).has_classes
    checks = [check for check in CHECKS if has_classes or check not in OF_CLASSES]
    notes = [{"check": check.__name__, "text": text} for check in checks for text in check(examined)]
    for name, check in (own or {}).items():
        try:
            notes += [{"check": name, "text": str(text)} for text in check(examined)]
        except Exception as e:
            notes.append({"check": name, "text": f"this check failed ({type(e).__name__}: {' '.join(str(e).split())})"})
    return notes


# The data


def labels_like_measurements(examined: Examined) -> Iterator[str]:
    """Labels that are many numbers, of which some are rare: a target of regression."""
    names = examined.dataset.class_names
    numbers = [number for name in names if (number := _number(name)) is not None]
    if len(names) < MANY_CLASSES or len(numbers) < len(names):
        return
    counts = _counts(examined.dataset)
    fractions = any(number != int(number) for number in numbers)
    if fractions or counts.min() < RARE * counts.max():
        yield (
            f"the labels look like measurements: {len(names)} numbers from {min(numbers):g} to {max(numbers):g}, the rarest in "
            f"{counts.min()} rows; classes know no order. Choose another column with dataset.label, or cut the numbers into "
            "ranges"
        )


def columns_that_number_the_rows(examined: Examined) -> Iterator[str]:
    """A feature that rises with the row number, or numbers the rows in another order."""
    pools = [examined.dataset.train, examined.dataset.val, examined.dataset.test]
    rows = sum(map(len, pools))
    shape = examined.dataset.input_shape
    if len(shape) != 1 or rows < NUMBERED_ROWS or rows * shape[0] > MOST_CELLS:
        return
    order = np.argsort(np.concatenate([pool.index for pool in pools]), kind="stable")
    x = np.concatenate([pool.x for pool in pools])[order]
    named = examined.dataset.columns
    for column in range(shape[0]):
        values = x[:, column]
        if not np.array_equal(values, np.rint(values)) or len(np.unique(values)) < rows:
            continue
        steps = np.diff(values)
        if (steps > 0).all() or (steps < 0).all() or np.ptp(values) < 2 * rows:
            name = f"'{named.features[column]}'" if named is not None else str(column + 1)
            yield f"column {name} numbers the rows: a model can learn the order of the file from it; take it out of the features"


def small_validation(examined: Examined) -> Iterator[str]:
    """Validation rows too few to choose an epoch by.

    Also none of a class that is trained on.
    """
    dataset = examined.dataset
    val = np.bincount(dataset.val.y, minlength=len(dataset.class_names))
    train = np.bincount(dataset.train.y[dataset.train.y >= 0], minlength=len(dataset.class_names))
    if not len(dataset.val):  # of a data set that is only scored
        return
    if len(dataset.val) < ROWS_A_CLASS * len(dataset.class_names):
        yield (
            f"validation has {len(dataset.val)} rows for {len(dataset.class_names)} classes: the best epoch is chosen by few "
            "rows; raise dataset.val_fraction"
        )
    lacking = [name for name, known, seen in zip(dataset.class_names, train, val, strict=True) if known and not seen]
    if lacking:
        yield f"validation has no row of {_listed(lacking)}; raise dataset.val_fraction, or choose another dataset.split_seed"


def lonely_groups(examined: Examined) -> Iterator[str]:
    """A scored split of one group, or a class of one group alone.

    Such a class is then in one split only.
    """
    dataset = examined.dataset
    if not dataset.grouped or any(pool.group is None for pool in (dataset.train, dataset.val, dataset.test)):
        return
    pools = {"train": dataset.train, "validation": dataset.val, "test": dataset.test}
    for split, pool in pools.items():
        names = np.unique(pool.group)  # type: ignore[arg-type]
        if split != "train" and len(names) == 1:
            yield (
                f"{split} holds the rows of one group alone ({names[0]}): its scores say how well that one is known; "
                "choose another dataset.split_seed, or larger fractions"
            )
    group = np.concatenate([pool.group for pool in pools.values()])
    y = np.concatenate([pool.y for pool in pools.values()])
    for number, name in enumerate(dataset.class_names):
        owners = np.unique(group[y == number])
        if len(owners) == 1 and len(np.unique(group)) > 1:
            yield f"class {name} occurs in one group alone ({owners[0]}), so in one split: add groups, or leave the class out"


def channels_last(examined: Examined) -> Iterator[str]:
    """Images with their channels behind height and width."""
    shape = examined.dataset.input_shape
    if has_channels_last(shape):
        yield (
            f"samples of shape {list(shape)} look like images with channels last, and networks here take [channels, "
            f"height, width]: bring them to {[shape[2], shape[0], shape[1]]}"
        )


# Training


def still_learning(examined: Examined) -> Iterator[str]:
    """Validation loss that still falls at the last epoch.

    It is lowest there, at a rate that no schedule has brought down.
    """
    for model in (TEACHER, STUDENT):
        records = [record for record in examined.records if record.model == model]
        records = [record for record in records if record.stage == records[-1].stage]  # an earlier stage prepares
        back = max(1, len(records) // 5)
        if len(records) <= 2 * back or records[-1].lr < ANNEALED * max(record.lr for record in records):
            continue
        nll = [record.val["nll"] for record in records]
        learns = np.mean([r.loss for r in records[-back:]]) < np.mean([r.loss for r in records[-2 * back : -back]])
        if learns and nll[-1] == min(nll) and nll[-1] < (1 - LEAST_FALL) * nll[-1 - back]:
            where = "teacher." if model == TEACHER else ""
            yield (
                f"{model}: it still learns: the loss on validation is lowest at the last epoch ({nll[-1 - back]:.3g} to "
                f"{nll[-1]:.3g} nats in the last {back} of {len(records)} epochs); train longer with "
                f"{where}epochs={2 * len(records)}, or faster with a higher {where}optimizer.lr"
            )


def unmoved_weights(examined: Examined) -> Iterator[str]:
    """Weights that ended where they began."""
    for name, model in examined.report["models"].items():
        change = model.get("weight_change")
        if isinstance(change, float | int) and change < LEAST_MOVE:
            where = "teacher." if name == TEACHER else ""
            yield f"{name}: training hardly moved its weights (by {change:.1g} of their length); raise {where}optimizer.lr"


# What models say


def probabilities_for_logits(examined: Examined) -> Iterator[str]:
    """Outputs that are probabilities where losses expect logits."""
    for name in examined.logits:
        parts = [logits for _, logits, _ in examined.scored(name)]
        if parts and all((part >= 0).all() and np.abs(part.sum(axis=1) - 1).max() < 1e-3 for part in parts):
            from_file = name == TEACHER and str(examined.report.get("teacher_source")).startswith("logits_file")
            helps = "set teacher.logits_kind=probabilities" if from_file else "take the softmax off the end of the network"
            yield f"{name}: its outputs are probabilities already, and every loss takes them for logits; {helps}"


def no_better_than_the_majority(examined: Examined) -> Iterator[str]:
    """A model that knows no more than which class is the commonest."""
    for name in examined.logits:
        for split, logits, pool in examined.scored(name):
            if split == "test" and (problem := majority_problem(logits, pool.y, len(examined.dataset.class_names))):
                yield f"{name}: on test {problem}; {_remedy(name, examined)}"


def classes_never_predicted(examined: Examined) -> Iterator[str]:
    """A class that no row of validation and test is taken for, though some are of it."""
    names = examined.dataset.class_names
    train = np.bincount(examined.dataset.train.y[examined.dataset.train.y >= 0], minlength=len(names))
    models: dict[tuple[int, ...], list[str]] = {}
    for model in (TEACHER, STUDENT):
        parts = list(examined.scored(model))
        if not parts or any(majority_problem(logits, pool.y, len(names)) for _, logits, pool in parts):
            continue
        true = np.bincount(np.concatenate([pool.y for _, _, pool in parts]), minlength=len(names))
        predicted = np.bincount(np.concatenate([logits.argmax(axis=1) for _, logits, _ in parts]), minlength=len(names))
        if missing := tuple(np.flatnonzero((predicted == 0) & (true >= SHOWN_ROWS) & (train > 0)).tolist()):
            models.setdefault(missing, []).append(model)
    for missing, which in models.items():
        where = "teacher." if which == [TEACHER] else ""
        rows = ", ".join(f"{names[c]} ({train[c]} training rows)" for c in missing)
        who = " and ".join(which) + (" never predict" if which[1:] else " never predicts")
        yield f"{who} {rows}; show it more often with {where}sampling=balanced, or train longer"


def teacher_below_the_control(examined: Examined) -> Iterator[str]:
    """A teacher that scores lower than what was trained without it."""
    models = examined.report["models"]
    for control, compared in (examined.report.get("comparison") or {}).items():
        split, metric = compared.get("split", "test"), compared.get("metric")
        scores = [models.get(name, {}).get(split, {}).get(metric) for name in (TEACHER, control)]
        if None not in scores and scores[0] < scores[1] - LEAST_DIFFERENCE:
            yield (
                f"teacher: {metric} {scores[0]:.3f} on {split} is below that of {control} ({scores[1]:.3f}), which had no "
                f"teacher; {_remedy(TEACHER, examined)}"
            )
            return


CHECKS: list[Check] = [
    labels_like_measurements, columns_that_number_the_rows, small_validation, lonely_groups, channels_last,
    unmoved_weights, still_learning, probabilities_for_logits, no_better_than_the_majority, classes_never_predicted,
    teacher_below_the_control,
]  # fmt: skip
# Those that look at classes, one a row.
OF_CLASSES = (
    labels_like_measurements, small_validation, lonely_groups, still_learning, probabilities_for_logits,
    no_better_than_the_majority, classes_never_predicted,
)  # fmt: skip


def _remedy(model: str, examined: Examined) -> str:
    source = str(examined.report.get("teacher_source"))
    if model != TEACHER:
        return "look at the learning rate (optimizer.lr), the epochs and the labels"
    if source.startswith("weights"):
        return "look at teacher.class_order, teacher.preprocessing and teacher.weights_key"
    if source.startswith("logits_file"):
        return "look at the row ids and the order of the classes in teacher.logits_file"
    return "look at teacher.optimizer.lr, teacher.epochs and the labels"


def _counts(dataset: Dataset) -> np.ndarray:
    y = np.concatenate([pool.y for pool in (dataset.train, dataset.val, dataset.test)])
    return np.bincount(y[y >= 0], minlength=len(dataset.class_names))


def _listed(names: Sequence[str]) -> str:
    return ("class " if len(names) == 1 else "the classes ") + ", ".join(names)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
