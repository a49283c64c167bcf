"""Base classes of the losses.

They define the attributes that an objective reads, and the skeleton of losses on features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.features.adapters import adapters, identity_adapters, shown
from distill_cli.features.numerics import sum_losses
from distill_cli.features.pairs import Pair, Tokens, paired, read_pairs
from distill_cli.types import Batch, DataFacts, ModelOutput


class DistillationLoss(nn.Module):
    """Base class of a loss term.

    A subclass defines `forward` and overrides the attributes that differ.

    Attributes:
        uses_teacher: False keeps the term in a control without a teacher.
        uses_labels: False where neither `batch.target` nor `batch.labeled` is read.
        is_supervised: True for a loss without a teacher that suffices as a control's only loss on labels.
        requires: fields of `ModelOutput` that the loss reads: ``logits``, ``features`` or both.
        targets: what a target must be for it, of ``classes``, ``labels`` and ``values`` (`tasks.task.Task`); empty: anything.
        class_weight: class weights of the loss on labels, None where there are none.
        pairs: ``(student, teacher)`` module paths of the compared features.
        min_batch_size, min_classes: batch size and number of classes below which the compared values are constant, so that
            no gradient reaches the student.
        part_minimums: batch size and number of classes that parts of the loss need, by the name of the part's weight; only
            parts of a weight above 0.
        pretrain_steps: steps at the start of a stage in which the loss trains its own parameters and does not reach the
            student; a buffer counts them, and `skip_pretraining` sets the count to its end.
        zero_at_teacher: True where loss and gradient vanish when the student equals its teacher (and no sample has a label),
            ``"gradient"`` where only the gradient does; for `distill verify`.
        reference: method (student, teachers, batch) that computes the same loss by for-loops over Python floats; takes
            `references.plain` outputs, that is nested lists, and returns one float a sample or one float; for `distill verify`.
        feature_shapes: shapes of one sample's features to check the loss on; an item may be a list of shapes, one a pair; for
            `distill verify`.
    """

    uses_teacher: bool = True
    uses_labels: bool = True
    is_supervised: bool = False
    requires: tuple[str, ...] = ("logits",)
    targets: tuple[str, ...] = ()
    class_weight: str | Sequence[float] | None = None
    pairs: Sequence[tuple[str, str]] = ()
    min_batch_size: int = 1
    min_classes: int = 2
    part_minimums: Mapping[str, tuple[int, int]] = MappingProxyType({})
    pretrain_steps: int = 0
    zero_at_teacher: bool | str = False
    reference: Callable[..., Any] | None = None
    feature_shapes: Sequence[Any] = ((6,), (4, 5), (3, 4, 4))  # flat, sequences or tokens, maps

    @property
    def adapter_descriptions(self) -> list[str | None]:
        """Descriptions of each pair's adapter, None for a pair without one."""
        return [None for _ in self.pairs]

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Prepare the loss for the data and for the shapes of example outputs.

        Called before the optimizer exists.

        Raises:
            ValueError: the loss cannot work on these; gives the reason.
        """

    def without_teacher(self) -> DistillationLoss | None:
        """Return the supervised loss that replaces this loss in a control.

        None: a cross-entropy without class weights.
        """
        return None

    def skip_pretraining(self) -> None:
        """Continue as if `pretrain_steps` had passed."""

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``, or of the batch (scalar).

        A scalar where samples are related to each other.
        """
        raise NotImplementedError


class FeatureLoss(DistillationLoss):
    """Base class of losses on pairs of layers, summed over the pairs.

    A subclass defines `pair_loss`.

    Attributes:
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.
        adapters: modules that bring the student's features to the teacher's shape, one a pair; built by `bind`.
        least_pairs: smallest number of pairs that the loss works with.
        fits_channels, fits_space: whether adapters fit the channels, the space; without both there are no adapters.
        maps_only: whether vectors ``[B, D]`` are refused.
        min_positions: positions of the teacher's maps below which the compared values are constant.

    Args:
        features: pairs of layers.
        tokens: ``none``, ``student``, ``teacher`` or ``both``.
    """

    uses_labels = False
    requires = ("features",)
    pairs: Sequence[Pair]
    least_pairs = 1
    fits_channels = True
    fits_space = True
    maps_only = False
    min_positions = 1

    def __init__(self, features: Any, tokens: Tokens = "none") -> None:
        super().__init__()
        self.pairs = read_pairs(features, self.least_pairs)
        self.tokens: Tokens = tokens
        self.adapters = identity_adapters(self.pairs)

    @property
    def has_adapters(self) -> bool:
        """Whether the student's features are brought to the teacher's shape."""
        return self.fits_channels or self.fits_space

    @property
    def adapter_descriptions(self) -> list[str | None]:
        """Descriptions of each pair's adapter, None for a pair without one."""
        return [str(adapter.description) if self.has_adapters else None for adapter in self.adapters]

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Build the adapters.

        Raises:
            ValueError: a pair cannot match, or a map has too few positions; names the pair.
        """
        if self.has_adapters:
            fits = {"channels": self.fits_channels, "space": self.fits_space}
            self.adapters = adapters(self.pairs, student, teachers, self.tokens, **fits, maps=self.maps_only)
        for pair, (_, t) in zip(self.pairs, self.paired_features(student, teachers), strict=True):
            if self.maps_only and t[0, 0].numel() < self.min_positions:
                raise ValueError(
                    f"features [{pair.student}, {pair.teacher}]: this loss compares the positions of a map, and the teacher's "
                    f"{shown(t)} has {t[0, 0].numel()}; choose layers before the pooling"
                )

    def paired_features(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> list[tuple[Tensor, Tensor]]:
        """Return student's and teacher's features of each pair, before the adapters."""
        return paired(self.pairs, student, teachers, self.tokens)

    def adapted_features(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield student's and teacher's features of each pair, after the adapters."""
        for adapter, (s, t) in zip(self.adapters, self.paired_features(student, teachers), strict=True):
            yield adapter(s), t

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair, ``[B]`` or a scalar."""
        raise NotImplementedError

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss of each pair."""
        return (self.pair_loss(s, t) for s, t in self.adapted_features(student, teachers))

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the sum over the pairs, of each sample ``[B]`` or of the batch (scalar)."""
        # autocast would round matrix products to half precision
        with torch.autocast(batch.index.device.type, enabled=False):
            return sum_losses(self.pair_losses(student, teachers, batch))


class RelationLoss(FeatureLoss):
    """Base class of losses on the relations between a batch's samples, a scalar.

    Widths of student and teacher may differ, so there are no adapters.

    A single sample has no relations, so that batches of one have no gradient.

    Args:
        features: pairs of layers.
    """

    fits_channels = False
    fits_space = False
    min_batch_size = 2

    def __init__(self, features: Any) -> None:
        super().__init__(features)


def as_loss(loss: Any) -> DistillationLoss:
    """Return a loss as a `DistillationLoss`.

    A user's loss that only follows `types.Loss` gets the defaults for the attributes it lacks.

    Raises:
        ValueError: the object is no loss.
    """
    if isinstance(loss, DistillationLoss):
        return loss
    if not callable(loss) or not hasattr(loss, "uses_teacher"):
        raise ValueError(f"{type(loss).__name__} is no loss: it needs uses_teacher and a call; see docs/extend.md")
    return ProtocolLoss(loss)


class ProtocolLoss(DistillationLoss):
    """A user's loss without the base class, with defaults for missing attributes."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    @property
    def adapter_descriptions(self) -> list[str | None]:
        """Descriptions of the user's adapters, where the loss has some."""
        descriptions = [getattr(adapter, "description", None) for adapter in getattr(self.loss, "adapters", ())]
        return descriptions or super().adapter_descriptions

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Call the loss's `bind`, if any, with the arguments of its signature."""
        if hasattr(self.loss, "bind"):
            offered = {"facts": facts, "student": student, "teachers": teachers}
            taken = inspect.signature(self.loss.bind).parameters
            self.loss.bind(**{name: value for name, value in offered.items() if name in taken})

    def without_teacher(self) -> DistillationLoss | None:
        """Return the loss's own cross-entropy for a control, if any."""
        return as_loss(self.loss.without_teacher()) if hasattr(self.loss, "without_teacher") else None

    def skip_pretraining(self) -> None:
        """Continue as if the loss had been pretrained."""
        if self.pretrain_steps:
            self.loss.skip_pretraining()

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the value of the user's loss."""
        loss: Tensor = self.loss(student, teachers, batch)
        return loss


def declared(name: str) -> property:
    """Return a property that reads an attribute of the user's loss, or the default."""
    return property(lambda self: getattr(self.loss, name, getattr(DistillationLoss, name)))


for attribute in DistillationLoss.__annotations__:
    setattr(ProtocolLoss, attribute, declared(attribute))
