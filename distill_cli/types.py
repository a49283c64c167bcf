"""Data classes and protocols that all packages share.

They hold data and compute nothing but views of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# Read at once by what goes through all rows of a pool.
MAX_ROWS_READ, MAX_BYTES_READ = 4096, 1 << 27


class Source(Protocol):
    """Rows of features ``[M, *shape]``.

    An array, or an object that looks its rows up elsewhere. A source whose rows must be decoded, such as one of a file a sample,
    has an attribute ``decodes = True``: worker processes then read it where it does not fit on the device. It is picklable and
    small, opens files inside of ``__getitem__`` only, gives the same rows in every process, and raises UserError with the file's
    name where one cannot be read.
    """

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
    """Samples of one split, as a view of a source array.

    Attributes:
        source: ``[M, *shape]`` float32 features of the whole source; may be memory-mapped.
        rows: ``[N]`` int64 positions of the samples in `source`.
        y: ``[N]`` int64 class of each sample, 0..C-1; -1 where the class is unknown (such a sample is never labeled).
            Of another task its targets: ``[N, L]`` int64 of 0 and 1, or -1, for labels that do not exclude each other.
        index: ``[N]`` int64 sample ids, unique over all pools of the data set (teacher outputs are stored by them).
        group: ``[N]`` names of the groups that must not straddle splits (such as patients), or None.
        labeled: ``[N]`` bool, whether the label may be used in training; by default everywhere.
        extra_fingerprint: hash of the samples that are no part of the data set, empty where all are.
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

    def iter_batches(self, size: int | None = None) -> Iterator[np.ndarray]:
        """Yield the features in order, `size` rows at a time.

        At no time are all of them in memory. By default as many rows as 128 MiB of float32 hold, at most 4096.
        """
        if size is None:
            row_bytes = 4 * int(np.prod(self.source.shape[1:], dtype=np.int64))
            size = min(MAX_ROWS_READ, max(1, MAX_BYTES_READ // max(1, row_bytes)))
        for start in range(0, len(self), size):
            yield np.ascontiguousarray(self.source[self.rows[start : start + size]])

    def select(self, keep: np.ndarray) -> Pool:
        """Return the samples chosen by a mask or by positions, in that order."""
        group = None if self.group is None else self.group[keep]
        return Pool(
            self.source, self.rows[keep], self.y[keep], self.index[keep], group, self.labeled[keep], self.extra_fingerprint
        )


@dataclass(frozen=True)
class Columns:
    """Column names of a table.

    `features` are those of the features in their order, `metadata` are all others (label, group, dropped columns).
    """

    features: tuple[str, ...]
    metadata: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A source split into train, validation and test.

    Attributes:
        name: name in reports.
        train, val, test: the three pools; validation is never cut from test unless `notes` says so.
        class_names: C names in class order.
        source_fingerprint: hash of the source's content, before any split.
        fingerprint: hash of source, settings and split.
        macro_classes: classes that macro F1 averages over.
        extra_test_sets: further pools that are scored only, by name (``test_without_202``).
        grouped: whether no group straddles the splits.
        split: how the source was split, such as ``random``.
        default_preprocessing: default input preparation of a model: ``none``, ``standardize`` (statistics of train: of each
            channel of signals and images, of each feature of tables) or ``standardize_per_element``.
        notes: sentences that a reader of the report must know.
        columns: column names of the table that was read, or None where the columns have none.
        display_shape: shape in which a sample is drawn where it differs from the sample's, or None: 64 pixels in a row
            are drawn as an image.
        files: name and number of rows of each file that was read, where sample ids count the files' rows in turn.
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
    """Return whether samples of a shape look like ``[height, width, channels]``."""
    return len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 4


@dataclass
class Batch:
    """One training batch.

    Attributes:
        inputs: ``[B, *shape]`` inputs, as the one preparation that all models share gives them: the data set's own. Models that
            prepare samples differently (`tasks.task.Preparation`) would find theirs by its fingerprint.
        target: as the task encodes targets; of classes ``[B, C]`` probabilities, so that mixup and soft labels need no second
            path.
        index: ``[B]`` sample ids, unique over all pools.
        labeled: ``[B]`` float, 1 where `target` may be used, else 0.
        group: ``[B]`` group numbers, or None.
        position: ``[B]`` int64 positions of the samples in their pool, or None where the batch is from no pool.
        view: number of the stored view that `inputs` show, 0 where each sample has one view.
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
    """Output of a model, of which a loss declares the fields that it `requires`.

    Where one of them is None, the loss is refused.

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
    """Facts about the training data that a loss or model may know before it is built.

    Attributes:
        input_shape: shape of one sample.
        class_counts: ``[C]`` numbers of labeled training samples of each class, or in which each label holds;
            C is the number of outputs.
        rows: number of all training samples.
    """

    input_shape: tuple[int, ...]
    class_counts: tuple[int, ...]
    rows: int

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_counts)


class Loss(Protocol):
    """Interface of a loss term.

    A loss compares the student's output with the teachers' outputs or the labels. The objective averages a loss per sample
    ``[B]`` and uses a scalar, of a loss that relates samples to each other, as it is.

    All further attributes of `losses.base.DistillationLoss` are optional, with the defaults of that class.

    Attributes:
        uses_teacher: whether the term is dropped in a control without a teacher.
    """

    uses_teacher: bool

    def __call__(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]`` or of the batch (scalar)."""
        ...


DEFAULT_STAGE = "train"  # name of the stage of a run without stages


@dataclass
class Stage:
    """One stage of a training, with its own losses, optimizer and number of epochs.

    Attributes:
        name: name in the log.
        objective: the weighted losses.
        epochs: number of epochs.
        steps_per_epoch: optimizer steps of an epoch.
        optimizer: optimizer of the trained parameters of student and objective.
        lr_scheduler: scheduler that is stepped after every optimizer step.
        trainable_modules: module paths of the student that are trained; None: all.
        gradient_log_every: epochs between two measurements of the terms' gradients; 0: no measurement.
        gradient_log_batches: batches of each measurement.
        balance_gradients: whether the weights are scaled before the first step so that all terms' gradients have one norm.
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
        """Return the share of the stage's steps done before a step, 0..1.

        The first step of the stage is at 0, the last at 1. `epoch` and `step` count from 0: the epochs within the stage and
        the steps within the epoch.
        """
        return (epoch * self.steps_per_epoch + step) / max(1, self.epochs * self.steps_per_epoch - 1)

    def logs_gradients_at(self, epoch: int) -> bool:
        """Return whether gradients are measured in an epoch of the stage, counted from 0.

        The first and the last epoch are always measured.
        """
        return self.gradient_log_every > 0 and (epoch % self.gradient_log_every == 0 or epoch == self.epochs - 1)


@dataclass(frozen=True)
class GradientStats:
    """Gradient norms and cosines of the weighted loss terms.

    With respect to the student's trainable parameters: the losses' own parameters are left out.

    Attributes:
        norms: L2 norm of each term's gradient.
        shares: share of each term's norm in the sum of all norms, 0..1, None where all are zero.
        cosines: cosine of the angle between the gradients of two terms, None where one gradient is zero.
    """

    norms: dict[str, float]
    shares: dict[str, float | None]
    cosines: dict[tuple[str, str], float | None]


@dataclass
class EpochRecord:
    """Results of one epoch: one row of metrics.csv.

    Attributes:
        model: name of the trained model.
        stage: name of the stage.
        epoch: number of the epoch over all stages.
        step: optimizer steps done so far.
        lr: learning rate at the end of the epoch.
        loss: mean total loss of the epoch.
        loss_terms: mean of each weighted term.
        val: validation metrics by name.
        seconds: duration of the epoch.
        is_best: whether the validation metric is the best so far.
        weights: weight of each term at the last step, balancing factors included.
        gradients: gradient statistics before the first step, None where they were not measured.
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


# (batch, epoch, step) -> batch: a change of each training batch before student and teacher use it.
BatchTransform = Callable[[Batch, int, int], Batch]
EpochCallback = Callable[[EpochRecord], None]


class Teacher(Protocol):
    """A frozen model, or stored outputs, that a student learns from."""

    def __call__(self, batch: Batch) -> ModelOutput:
        """Return the teacher's output for a batch."""
        ...


TEACHER, STUDENT, SCRATCH = "teacher", "student", "scratch"


TUNED = "tuned"


# The student before the bias correction; no control, but scored like one.
UNCORRECTED = "uncorrected"


TEST_SPLIT = "test"
