"""Factor transfer: Kim, Park and Kwak 2018."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill_cli.features.adapters import adapter
from distill_cli.features.numerics import l2_normalize, scaled
from distill_cli.features.pairs import Tokens
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant
from distill_cli.types import Batch, DataFacts, ModelOutput

SLOPE = 0.1


class FT(FeatureLoss):
    """L1 distance of student's and teacher's factors, of each sample ``[B]``.

    ``||F_T/||F_T||_2 - F_S/||F_S||_2||_1``, summed over the flattened factor and over the pairs.

    With ``rate: null`` the teacher's factor F_T is its feature, and the student's F_S its own, brought to that shape by a
    linear map where shapes differ. With a number the teacher's paraphraser reduces it to `rate` times its channels
    (arXiv:1802.04977, section 3; the paper takes 0.5 to 0.8, and 3x3 convolutions where ours has two linear maps at every
    position). The paper trains the paraphraser before the student. Here the first `pretrain_steps` steps do: the loss is
    then ``mean (t - decode(encode(t)))^2`` and does not reach the student; afterwards the paraphraser is frozen. The
    weight applies to both, which matters with gradient clipping or plain SGD. RepDistiller makes factors of the
    channels' mean square and takes the mean over the factor: ``variant: code``, which here interpolates a student's map that is
    smaller (there the teacher's is averaged).

    Args:
        features: pairs of layers.
        rate: share of the teacher's channels in the factor, 0 < rate <= 1, or None for no paraphraser.
        pretrain_steps: steps in which a paraphraser is trained, >= 1.
        variant: ``paper`` or ``code``.
        tokens: models whose features of three axes are tokens ``[B, N, D]``: ``none``, ``student``, ``teacher`` or ``both``.

    Example:
        >>> loss = FT(["conv1", "conv1"], rate=0.5, pretrain_steps=100)
        >>> loss.bind(facts, student, [teacher])  # a paraphraser of 16 channels by 8
        >>> loss.skip_pretraining()
        >>> loss(student, [teacher], batch).shape
        torch.Size([8])
    """

    step: Tensor

    def __init__(
        self,
        features: Any,
        rate: float | None = None,
        pretrain_steps: int = 1000,
        variant: Variant = "paper",
        tokens: Tokens = "none",
    ) -> None:
        super().__init__(features, tokens)
        if rate is not None and not 0 < rate <= 1:
            raise ValueError(f"rate must be above 0 and at most 1, or null, got {rate}")
        if pretrain_steps < 1:
            raise ValueError(f"pretrain_steps must be >= 1, got {pretrain_steps}")
        self.rate = rate
        self.pretrain_steps = 0 if rate is None else pretrain_steps
        self.variant = variant
        self.zero_at_teacher = rate is None
        self.maps_only = variant == "code"
        self.min_positions = 2 if self.maps_only else 1
        self.feature_shapes = ((4, 5), (3, 4, 4)) if self.maps_only else ((6,), (4, 5), (3, 4, 4))
        self.paraphrasers = nn.ModuleList()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Build the translators, and the paraphrasers where `rate` is a number."""
        super().bind(facts, student, teachers)
        if self.rate is None:
            return
        pairs = self.paired_features(student, teachers)
        paraphrasers = [Paraphraser(t, self.rate) for _, t in pairs]
        self.paraphrasers = nn.ModuleList(paraphrasers)
        self.adapters = nn.ModuleList(adapter(s, p.encode(t)) for p, (s, t) in zip(paraphrasers, pairs, strict=True))

    def skip_pretraining(self) -> None:
        """Continue as if the paraphrasers had been trained."""
        self.step.fill_(self.pretrain_steps)

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss ``[B]`` of each pair.

        During pretraining that is the reconstruction error of the pair's paraphraser.
        """
        if self.rate is None:
            return super().pair_losses(student, teachers, batch)
        pretraining = int(self.step) < self.pretrain_steps
        if self.training and torch.is_grad_enabled():
            self.step += 1
        paraphrasers: list[Any] = list(self.paraphrasers)
        if pretraining:
            pairs = self.paired_features(student, teachers)
            return [paraphraser(t) for paraphraser, (_, t) in zip(paraphrasers, pairs, strict=True)]
        adapted = self.adapted_features(student, teachers)
        return [self.pair_loss(s, p.factor(t)) for p, (s, t) in zip(paraphrasers, adapted, strict=True)]

    def pair_loss(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the loss ``[B]`` of one pair of factors of one shape."""
        if self.variant == "code":
            s, t = scaled(s).square().mean(dim=1), scaled(t).square().mean(dim=1)
        off = (l2_normalize(s.flatten(1)) - l2_normalize(t.flatten(1))).abs()
        return off.mean(dim=1) if self.variant == "code" else off.sum(dim=1)


class Paraphraser(nn.Module):
    """An autoencoder over the channels of a teacher's feature.

    The code in its middle is the factor.
    """

    def __init__(self, example: Tensor, rate: float) -> None:
        super().__init__()
        channels = example.shape[1]
        width = max(1, round(rate * channels))
        self.down = layers(channels, width, example.dtype)
        self.up = layers(width, channels, example.dtype)
        self.to(example.device)

    def encode(self, t: Tensor) -> Tensor:
        """Return the factor ``[B, width, ...]``."""
        return self.down(t.movedim(1, -1)).movedim(-1, 1)

    @torch.no_grad()
    def factor(self, t: Tensor) -> Tensor:
        """Return the factor without a gradient."""
        return self.encode(t)

    def forward(self, t: Tensor) -> Tensor:
        """Return the mean squared reconstruction error ``[B]``."""
        channels_last = t.movedim(1, -1)
        return (self.up(self.down(channels_last)) - channels_last).square().flatten(1).mean(dim=1)


def layers(a: int, b: int, dtype: torch.dtype) -> nn.Sequential:
    """Return two linear maps, the first followed by a leaky ReLU."""
    return nn.Sequential(nn.Linear(a, b, dtype=dtype), nn.LeakyReLU(SLOPE), nn.Linear(b, b, dtype=dtype))
