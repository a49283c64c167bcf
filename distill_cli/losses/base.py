"""What every loss has: the attributes that an objective reads, and the skeleton of losses on features."""

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
    """One term of an objective; a subclass gives `forward` and what differs from here.

    Attributes:
        uses_teacher: False keeps the term in a control without a teacher.
        uses_labels: False where neither `batch.target` nor `batch.labelled` is read.
        is_supervised: True for a loss without a teacher that learns from labels by itself, so that a control needs no other.
        requires: the fields of `ModelOutput` that it reads, of ``logits`` and ``features``.
        targets: what a target must be for it, of ``classes``, ``labels`` and ``values`` (`tasks.task.Task`); empty: anything.
        class_weight: of its labels, where it weighs classes.
        pairs: ``(student, teacher)`` module paths of the features that it compares.
        min_batch_size, min_classes: rows of a batch and classes below which nothing of it reaches the student, as all that it
            compares is constant.
        part_minimums: rows and classes that parts of it need, by the argument that weighs them; of those with a weight alone.
        pretrain_steps: steps at the start of a stage in which it trains its own parameters and does not reach the student; it
            counts them in a buffer, which `skip_pretraining` puts at their end.

    What follows is read by `distill verify` alone:
        zero_at_teacher: True where loss and gradient vanish when the student equals its teacher (and no row has a label),
            ``"gradient"`` where only the gradient does.
        reference: method (student, teachers, batch) that returns the same loss as for-loops over Python floats, a list of one
            float a sample or one float; takes `references.plain` outputs, that is nested lists.
        feature_shapes: shapes of one sample's features to check it on; an item may be a list of shapes, one a pair.
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
        """How the student's features of each pair are brought to the teacher's shape; None where they are not."""
        return [None for _ in self.pairs]

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Look at the data and at example outputs; called before the optimizer exists.

        Raises:
            ValueError: the loss cannot work on these; says why.
        """

    def without_teacher(self) -> DistillationLoss | None:
        """Return the supervised loss that stands for this loss in a control; None for one without class weights."""
        return None

    def skip_pretraining(self) -> None:
        """Go on as if `pretrain_steps` had passed."""

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return the loss of each sample ``[B]``, or of the batch (scalar) where samples are related to each other."""
        raise NotImplementedError


class FeatureLoss(DistillationLoss):
    """A loss on pairs of layers, summed over the pairs; a subclass gives `pair_loss`.

    Attributes:
        tokens: whose features of three axes are tokens ``[B, N, D]``.
        adapters: one a pair, bringing the student's features to the teacher's shape; made by `bind`.
        least_pairs: the smallest number of pairs that it can work with.
        fits_channels, fits_space: what adapters fit; where it is neither, there are none.
        maps_only: whether vectors ``[B, D]`` are refused.
        min_positions: of the teacher's maps, below which all that it compares is constant.

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
        """What each adapter does."""
        return [str(adapter.description) if self.has_adapters else None for adapter in self.adapters]

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Make the adapters.

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
        """Return student's and teacher's features of each pair, as they are but for tokens."""
        return paired(self.pairs, student, teachers, self.tokens)

    def adapted_features(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield student's and teacher's features of each pair, after the adapters."""
        for adapter, (s, t) in zip(self.adapters, self.paired_features(student, teachers), strict=True):
            yield adapter(s), t

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss of one pair of features, of each sample ``[B]`` or of the batch (scalar)."""
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
    """A loss on how the samples of a batch relate, a scalar; widths may differ, so there are no adapters.

    One row relates to none, so that batches of one teach nothing.

    Args:
        features: pairs of layers.
    """

    fits_channels = False
    fits_space = False
    min_batch_size = 2

    def __init__(self, features: Any) -> None:
        super().__init__(features)


def as_loss(loss: Any) -> DistillationLoss:
    """Return a loss as it is, or a user's that only follows `types.Loss` with the defaults for what it leaves out.

    Raises:
        ValueError: it is no loss.
    """
    if isinstance(loss, DistillationLoss):
        return loss
    if not callable(loss) or not hasattr(loss, "uses_teacher"):
        raise ValueError(f"{type(loss).__name__} is no loss: it needs uses_teacher and a call; see docs/extend.md")
    return ProtocolLoss(loss)


class ProtocolLoss(DistillationLoss):
    """A user's loss that has no base class; what it declares holds."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    @property
    def adapter_descriptions(self) -> list[str | None]:
        """What each of its adapters says of itself, where it has some."""
        descriptions = [getattr(adapter, "description", None) for adapter in getattr(self.loss, "adapters", ())]
        return descriptions or super().adapter_descriptions

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Call its `bind`, where it has one, with those of the three that it takes."""
        if hasattr(self.loss, "bind"):
            offered = {"facts": facts, "student": student, "teachers": teachers}
            taken = inspect.signature(self.loss.bind).parameters
            self.loss.bind(**{name: value for name, value in offered.items() if name in taken})

    def without_teacher(self) -> DistillationLoss | None:
        """Return its own cross-entropy for a control, where it has one."""
        return as_loss(self.loss.without_teacher()) if hasattr(self.loss, "without_teacher") else None

    def skip_pretraining(self) -> None:
        """Let it go on as if it were trained."""
        if self.pretrain_steps:
            self.loss.skip_pretraining()

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Tensor:
        """Return what the loss returns."""
        loss: Tensor = self.loss(student, teachers, batch)
        return loss


def declared(name: str) -> property:
    """Return a property of `ProtocolLoss`: what the user's loss has by a name, else the default."""
    return property(lambda self: getattr(self.loss, name, getattr(DistillationLoss, name)))


for attribute in DistillationLoss.__annotations__:
    setattr(ProtocolLoss, attribute, declared(attribute))
