"""Contrastive representation distillation: Tian, Krishnan and Isola 2020."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_cli.features.memory_bank import IdToSlot, last_of_each
from distill_cli.features.numerics import l2_normalize, sum_losses
from distill_cli.losses.base import FeatureLoss
from distill_cli.losses.settings import Variant, check_above_zero
from distill_cli.rng import torch_generator
from distill_cli.types import Batch, DataFacts, ModelOutput


class CRD(FeatureLoss):
    """Contrastive loss between student and teacher embeddings, a scalar.

    ``mean_i -log h(t_i, s_i) - N mean_j log(1 - h)``, means over batch and negatives, summed over the pairs.

    ``h = e / (e + N/M)``, ``e = exp(t . s / temperature)``, of linear embeddings of length 1 of the flattened features, N
    negatives, M training rows (arXiv:1910.10699, section 3). The negatives are other rows, of any class, by one draw from
    all rows for the whole batch (a sample's own row left out of its mean); they come from a memory of embeddings, random
    until a row is first seen, in which a seen row moves to ``unit(momentum old + (1 - momentum) new)``. Half of the second
    term has the student's embedding against the teachers' in memory, half the teacher's against the students'.
    The authors' code sums the two directions, takes the positive from memory as well, and divides e by Z, a constant: M
    times its mean in the first batch. ``variant: code``, here with negatives of any class, without its 1e-7. A mixed
    sample counts as the row that `batch.index` names.

    Args:
        features: pairs of layers, best one pair of pooled features.
        width: width of the embeddings, >= 1.
        negatives: number N of negatives, >= 1.
        temperature: temperature of the similarities, > 0.
        momentum: momentum of the memory, 0 <= momentum < 1.
        seed: seed of memory and negatives (streams ``memory`` and ``negatives``).
        variant: ``paper`` or ``code``.

    Example:
        >>> loss = CRD(["pool", "pool"], negatives=64)
        >>> loss.bind(facts, student, [teacher])  # embeddings, and a memory of 100 rows
        >>> loss(student, [teacher], batch).shape
        torch.Size([])
    """

    feature_shapes = ((4, 5),)  # flattened anyway
    fits_channels = False
    fits_space = False
    step: Tensor

    def __init__(
        self,
        features: Any,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int = 0,
        variant: Variant = "paper",
    ) -> None:
        super().__init__(features)
        for name, count in {"width": width, "negatives": negatives}.items():
            if count < 1:
                raise ValueError(f"{name} must be >= 1, got {count}")
        check_above_zero(temperature=temperature)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
        self.width = width
        self.negatives = negatives
        self.temperature = temperature
        self.momentum = momentum
        self.seed = seed
        self.variant = variant
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.places = IdToSlot(0)
        self.contrasts = nn.ModuleList()

    def bind(self, facts: DataFacts, student: ModelOutput, teachers: Sequence[ModelOutput]) -> None:
        """Build the embeddings and the memory, one vector for each training sample."""
        if facts.rows < 2:
            raise ValueError(f"a contrast needs two training rows, got {facts.rows}")
        pairs = self.paired_features(student, teachers)
        self.places = IdToSlot(facts.rows).to(pairs[0][0].device)
        self.contrasts = nn.ModuleList(MemoryBank(s, t, facts.rows, self.width, self.seed, n) for n, (s, t) in enumerate(pairs))

    def pair_losses(self, student: ModelOutput, teachers: Sequence[ModelOutput], batch: Batch) -> Iterable[Tensor]:
        """Return the loss of each pair and count the step."""
        places, learning = self.places(batch.index), self.training and torch.is_grad_enabled()
        draw = torch_generator(self.seed, "negatives", step=int(self.step))
        negatives = torch.randint(len(self.places.ids), (self.negatives,), generator=draw).to(places.device)
        self.negative_places = negatives.unique(return_counts=True)
        contrasts: list[Any] = list(self.contrasts)
        contrasted = zip(contrasts, self.paired_features(student, teachers), strict=True)
        losses = [self.contrast(contrast, s.flatten(1), t.flatten(1), places, learning) for contrast, (s, t) in contrasted]
        self.step += learning
        return losses

    def contrast(self, contrast: MemoryBank, s: Tensor, t: Tensor, places: Tensor, learning: bool) -> Tensor:
        """Return the loss of one pair of features ``[B, D]``."""
        s, t = l2_normalize(contrast.of_student(s)), l2_normalize(contrast.of_teacher(t))
        code = self.variant == "code"
        negatives, counts = self.negative_places
        counts = counts * (negatives != places.unsqueeze(1))  # [B, distinct negatives]
        losses = []
        for side, (anchor, partner, memory) in enumerate(((s, t, contrast.teacher), (t, s, contrast.student))):
            positive = (anchor * (memory[places] if code else partner)).sum(dim=1) / self.temperature
            negative = anchor @ memory[negatives].T / self.temperature
            scale = contrast.normaliser(side, positive, negative, counts, learning) if code else 0.0
            losses.append(self.nce(positive - scale, negative - scale, counts, len(memory)).mean())
        if learning:
            contrast.update(places, s, t, self.momentum)
        return sum_losses(losses) if code else sum_losses(losses) / 2

    def nce(self, positive: Tensor, negative: Tensor, counts: Tensor, rows: int) -> Tensor:
        """Return ``-log h - N mean log(1 - h)`` of each sample ``[B]``.

        Args:
            positive: ``[B]`` log e of the positives.
            negative: ``[B, K]`` log e of the K distinct negatives.
            counts: ``[B, K]`` how often each negative was drawn, 0 for the sample itself.
            rows: number M of training samples.
        """
        offset = math.log(self.negatives / rows)
        mean = (counts * F.logsigmoid(offset - negative)).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        return -F.logsigmoid(positive - offset) - self.negatives * mean


class MemoryBank(nn.Module):
    """Embeddings of one pair of layers with their memory ``[M, width]``."""

    student: Tensor
    teacher: Tensor
    log_z: Tensor

    def __init__(self, s: Tensor, t: Tensor, rows: int, width: int, seed: int, number: int) -> None:
        super().__init__()
        self.of_student = nn.Linear(s.flatten(1).shape[1], width, dtype=s.dtype, device=s.device)
        self.of_teacher = nn.Linear(t.flatten(1).shape[1], width, dtype=t.dtype, device=t.device)
        # The rows that the last step overwrote: places, student's and teacher's rows. A reference needs them to repeat the step.
        self.overwritten: tuple[Tensor, Tensor, Tensor] | None = None
        for name, like in {"student": s, "teacher": t}.items():
            start = torch.randn(rows, width, generator=torch_generator(seed, f"memory/{name}/{number}"))
            self.register_buffer(name, l2_normalize(start).to(like))
        self.register_buffer("log_z", torch.full((2,), torch.nan).to(s))

    @torch.no_grad()
    def update(self, places: Tensor, s: Tensor, t: Tensor, momentum: float) -> None:
        """Update the memory at `places` with a batch's embeddings.

        The step itself has read copies of the old rows.
        """
        keep = last_of_each(places)
        rows = places[keep]
        self.overwritten = (rows, self.student[rows], self.teacher[rows])
        for memory, new in ((self.student, s), (self.teacher, t)):
            memory[rows] = l2_normalize(momentum * memory[rows] + (1 - momentum) * new[keep].to(memory))

    def normaliser(self, side: int, positive: Tensor, negative: Tensor, counts: Tensor, learning: bool) -> Tensor:
        """Return the constant ``log Z``, computed from the first batch.

        Z is M times the mean of e over the batch's positives and negatives.
        """
        if not self.log_z[side].isnan():
            return self.log_z[side].clone()
        every = torch.cat([positive.unsqueeze(1), negative + counts.to(negative).log()], dim=1)
        log_z = (every.flatten().logsumexp(dim=0) - (len(counts) + counts.sum()).log() + math.log(len(self.student))).detach()
        if learning:
            self.log_z[side] = log_z
        return log_z
