"""The nouns: what flows between the rooms. No behaviour beyond looking at itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Source(Protocol):
    """Rows of features ``[M, *shape]``: an array, or what looks its rows up elsewhere."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(M, *shape)``."""
        ...

    @property
    def ndim(self) -> int:
        """Length of `shape`."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return rows by position."""
        ...


@dataclass(frozen=True)
class Pool:
    """Rows of one split, as a view of a source array.

    Attributes:
        source: ``[M, *shape]`` float32 features of the whole source; may be memory-mapped.
        rows: ``[N]`` int64 positions of this pool's rows in `source`.
        y: ``[N]`` int64 class of each row, 0..C-1; -1 where nobody knows it (such a row is never labelled). Of another task its
            targets: ``[N, L]`` int64 of 0 and 1, or -1, for labels that do not exclude each other.
        index: ``[N]`` int64 row ids, unique over all pools of the data set (teacher outputs are kept by them).
        group: ``[N]`` names of what must not straddle splits (a patient), or None.
        labeled: ``[N]`` bool, whether the label may be used in training; by default everywhere.
        extra_fingerprint: hash of the rows that are no part of the data set, empty where all are.
    """

    source: Source
    rows: np.ndarray
    y: np.ndarray
    index: np.ndarray
    group: np.ndarray | None = None
    labeled: np.ndarray = field(default_factory=lambda: np.ones(0, dtype=bool))
    extra_fingerprint: str = ""

    def __post_init__(self) -> None:
        if len(self.labeled) == 0:  # not given: all rows
            object.__setattr__(self, "labeled", np.ones(len(self.rows), dtype=bool))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def x(self) -> np.ndarray:
        """Features ``[N, *shape]``, read into memory on first use."""
        return np.ascontiguousarray(self.source[self.rows])

    def iter_batches(self, size: int = 4096) -> Iterator[np.ndarray]:
        """Yield features in order, `size` rows at a time, without reading all of them into memory."""
        for start in range(0, len(self), size):
            yield np.ascontiguousarray(self.source[self.rows[start : start + size]])

    def select(self, keep: np.ndarray) -> Pool:
        """Return the pool of the rows chosen by a mask or by positions, in that order."""
        group = None if self.group is None else self.group[keep]
        return Pool(
            self.source, self.rows[keep], self.y[keep], self.index[keep], group, self.labeled[keep], self.extra_fingerprint
        )


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns: of the features, in their order, and of the others (label, group, dropped)."""

    features: tuple[str, ...]
    metadata: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A source cut into splits.

    Attributes:
        name: what a report calls it.
        train, val, test: the three pools; validation is never cut from test unless `notes` says so.
        extra_test_sets: further pools that are scored only, by name (``test_without_202``).
        class_names: C names in class order.
        macro_classes: classes that macro F1 averages over.
        grouped: whether no group straddles the splits.
        source_fingerprint: hash of the source's content, before any split.
        fingerprint: hash of source, settings and split.
        default_preprocessing: input preparation a model gets by default: ``none``, ``standardise`` (statistics of train: of each channel of
            signals and images, of each feature of tables) or ``standardize_per_element``.
        notes: sentences a reader of the report must know.
        columns: of the table that it was read from, where they have names.
        display_shape: shape in which a sample is drawn, where it is not its own: of 64 pixels in a row, an image.
        files: name and number of rows of each file it was read from, where row ids count their rows in turn.
        task: name of what is learned from it.
    """

    name: str
    train: Pool
    val: Pool
    test: Pool
    class_names: tuple[str, ...]
    source_fingerprint: str
    fingerprint: str
    macro_classes: tuple[int, ...]
    extra_test_sets: Mapping[str, Pool] = field(default_factory=dict)
    grouped: bool = False
    split: str = "random"
    default_preprocessing: str = "none"
    notes: tuple[str, ...] = ()
    columns: Columns | None = None
    display_shape: tuple[int, ...] | None = None
    files: tuple[tuple[str, int], ...] = ()
    task: str = "classification"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.source.shape[1:])

    @property
    def pools(self) -> dict[str, Pool]:
        """All pools by name: train, val, test, then the extra ones."""
        return {"train": self.train, "val": self.val, "test": self.test, **self.extra_test_sets}


def has_channels_last(shape: Sequence[int]) -> bool:
    """Return whether samples of this shape look like images ``[height, width, channels]``."""
    return len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 4


@dataclass
class Batch:
    """What one step sees.

    Attributes:
        inputs: ``[B, *shape]`` inputs, as the one preparation that all models share gives them: the data set's own. Models that
            prepare samples differently (`tasks.task.Preparation`) would find theirs by its fingerprint.
        target: as the task encodes targets; of classes ``[B, C]`` probabilities, so that mixup and soft labels need no second
            path.
        index: ``[B]`` row ids, unique over all pools.
        labeled: ``[B]`` float, 1 where `target` may be used.
        group: ``[B]`` group numbers, or None.
        position: ``[B]`` int64 positions of the rows in their pool, or None where they are of none.
        view: which of the stored views of its rows x shows; 0 where there is one.
    """

    inputs: Tensor
    target: Tensor
    index: Tensor
    labeled: Tensor
    group: Tensor | None = None
    position: Tensor | None = None
    view: int = 0


@dataclass
class ModelOutput:
    """What a model returned; a loss declares which of the fields it `requires`, and is refused where one is None.

    Attributes:
        logits: ``[B, C]``; None for a model that has none.
        features: tapped ones by module path.
        losses: of a model that computes its own in training, by name.
        predictions: of a model whose predictions are no tensor of logits.
    """

    logits: Tensor = None  # type: ignore[assignment]  # what reads it has required it
    features: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    predictions: Any = None


@dataclass(frozen=True)
class DataFacts:
    """What a loss or a model may know of the training data before it is built.

    Attributes:
        input_shape: shape of one sample.
        class_counts: ``[C]`` labelled training rows of each class, or in which each label holds; C is the number of outputs.
        num_samples: training rows in all.
    """

    input_shape: tuple[int, ...]
    class_counts: tuple[int, ...]
    num_samples: int

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_counts)


class Loss(Protocol):
    """One way of being wrong.

    Returns ``[B]``, which the objective averages, or a scalar when samples are related to each other, which it takes
    as it is. `uses_teacher` says whether the term falls away in a control without a teacher. What it may have besides is what
    `losses.base.DistillationLoss` has; what it leaves out is as there.
    """

    uses_teacher: bool

    def __call__(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]`` or of the batch (scalar)."""
        ...


DEFAULT_STAGE = "train"  # what the stage of a run without stages is called


@dataclass
class Stage:
    """One stretch of training: what is minimised, by whom, for how long.

    Attributes:
        name: what the log calls it.
        objective: the weighted losses.
        epochs: passes; `steps_per_epoch` optimizer steps each.
        optimizer: made for the parameters that are trained, of student and objective.
        lr_scheduler: stepped after every optimizer step.
        trainable_modules: module paths of the student that are trained; None: all.
        gradient_log_every: epochs from one measurement of the terms' gradients to the next; 0: never.
        gradient_log_batches: batches of each measurement.
        balance_gradients: whether factors make the terms' gradients equally long before the first step.
    """

    name: str
    objective: Any
    epochs: int
    steps_per_epoch: int
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler
    trainable_modules: tuple[str, ...] | None = None
    gradient_log_every: int = 0
    gradient_log_batches: int = 1
    balance_gradients: bool = False

    def progress(self, epoch: int, step: int = 0) -> float:
        """Return the share of the stage's steps done before a step of its epoch `epoch`: 0 at the first, 1 at the last."""
        return (epoch * self.steps_per_epoch + step) / max(1, self.epochs * self.steps_per_epoch - 1)

    def logs_gradients_at(self, epoch: int) -> bool:
        """Return whether gradients are measured at this epoch of the stage, counted from 0: the first and the last always."""
        return self.gradient_log_every > 0 and (epoch % self.gradient_log_every == 0 or epoch == self.epochs - 1)


@dataclass(frozen=True)
class GradientStats:
    """How hard the weighted terms pull at the student's trained parameters; the losses' own parameters are left out.

    Attributes:
        norms: length of each term's gradient.
        shares: that length over the sum of all terms' lengths, None where all are zero.
        cosines: of the angle between the gradients of two terms, None where one is zero.
    """

    norms: dict[str, float]
    shares: dict[str, float | None]
    cosines: dict[tuple[str, str], float | None]


@dataclass
class EpochRecord:
    """One row of metrics.csv.

    `weights` are those of the epoch's last step, factors of the balance included; `gradients` is measured before its first step.
    """

    model: str
    stage: str
    epoch: int
    step: int
    lr: float
    loss: float
    loss_terms: dict[str, float]
    val: dict[str, float]
    seconds: float
    is_best: bool
    weights: dict[str, float] = field(default_factory=dict)
    gradients: GradientStats | None = None


# (batch, epoch, step) -> batch: what changes a training batch before anybody sees it.
BatchTransform = Callable[[Batch, int, int], Batch]
EpochCallback = Callable[[EpochRecord], None]


class Teacher(Protocol):
    """What a student learns from."""

    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the teacher's output for a batch."""
        ...


TEACHER, STUDENT, SCRATCH = "teacher", "student", "scratch"


TUNED = "tuned"


# The student before its bias was fixed; no control, but scored like one.
UNCORRECTED = "uncorrected"


TEST_SPLIT = "test"
