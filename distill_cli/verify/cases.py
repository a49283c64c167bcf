"""Test inputs of the loss checks, drawn from a random stream of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distill_cli.losses.base import DistillationLoss
from distill_cli.rng import seeded, torch_generator
from distill_cli.types import Batch, DataFacts, ModelOutput
from distill_cli.verify.references.plain import PlainBatch, PlainOutput

ROWS, CLASSES, SCALE = 5, 4, 2.0
ROW_IDS = (17, 3, 250, 44, 9)  # as of a pool of a larger source, in the order of an epoch
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One batch with the outputs of a student and its teachers, in float64."""

    name: str
    student: ModelOutput
    teachers: tuple[ModelOutput, ...]
    batch: Batch

    def to(self, dtype: torch.dtype, scale: float = 1.0) -> Case:
        """Return the case in another precision, with the outputs times `scale`.

        Inputs, targets and labels become float32, as from a data set.
        """
        batch = replace(
            self.batch, inputs=self.batch.inputs.float(), target=self.batch.target.float(), labeled=self.batch.labeled.float()
        )
        student = changed(self.student, lambda t: (t * scale).to(dtype))
        return Case(self.name, student, tuple(changed(o, lambda t: (t * scale).to(dtype)) for o in self.teachers), batch)

    def unlabeled(self) -> Case:
        """Return the case without labels."""
        return replace(self, batch=replace(self.batch, labeled=torch.zeros_like(self.batch.labeled)))

    def rows(self, keep: slice) -> Case:
        """Return the case with some of its samples."""
        b = self.batch
        batch = Batch(b.inputs[keep], b.target[keep], b.index[keep], b.labeled[keep])
        student = changed(self.student, lambda t: t[keep])
        return Case(self.name, student, tuple(changed(o, lambda t: t[keep]) for o in self.teachers), batch)


def changed(output: ModelOutput, change: Callable[[Tensor], Tensor]) -> ModelOutput:
    """Return an output with a function applied to every tensor."""
    return ModelOutput(change(output.logits), {path: change(f) for path, f in output.features.items()})


def draw(purpose: str, *shape: int) -> Tensor:
    """Return standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch_generator(0, f"verify/{purpose}"), dtype=torch.float64)


def make_case(name: str, classes: int, teachers: int, mixed: bool, paths: Sequence[Any] = (), shapes: Sequence[Any] = ()) -> Case:
    """Build a case from random outputs.

    Args:
        name: name of the case in messages; the numbers depend on it.
        classes: number of classes C.
        teachers: number of teachers; the first has the features.
        mixed: whether targets are mixed, and one row has no label.
        paths: pairs of module paths (student, teacher).
        shapes: shapes of a sample's features, one (student, teacher) for each pair.
    """
    target = torch.eye(classes, dtype=torch.float64)[torch.arange(ROWS) % classes]
    labeled = torch.ones(ROWS, dtype=torch.float64)
    if mixed:
        target = torch.lerp(target.flip(0), target, 0.7)
        labeled[1] = 0
    student: dict[str, Tensor] = {}
    teacher: dict[str, Tensor] = {}
    for (of_student, of_teacher), (s, t) in zip(paths, shapes, strict=True):
        student.setdefault(of_student, draw(f"{name}/student/{of_student}", ROWS, *s))
        teacher.setdefault(of_teacher, draw(f"{name}/teacher/{of_teacher}", ROWS, *t))
    outputs = tuple(
        ModelOutput(SCALE * draw(f"{name}/teacher{n}", ROWS, classes), teacher if n == 0 else {}) for n in range(teachers)
    )
    batch = Batch(torch.zeros(ROWS, 1, dtype=torch.float64), target, torch.tensor(ROW_IDS), labeled)
    return Case(name, ModelOutput(SCALE * draw(f"{name}/student", ROWS, classes), student), outputs, batch)


def cases(loss: DistillationLoss) -> Iterator[Case]:
    """Yield the cases of a loss.

    On logits, or on features of every shape that the loss takes.
    """
    paths = loss.pairs
    if not paths:
        yield make_case("one teacher", CLASSES, 1, mixed=False)
        yield make_case("two teachers, mixed targets, a row without a label", CLASSES, 2, mixed=True)
        yield make_case("two classes", 2, 1, mixed=False)
    for shapes in loss.feature_shapes if paths else ():
        of_pairs = [shapes] * len(paths) if isinstance(shapes[0], int) else list(shapes)
        yield make_case(f"features {shapes}", CLASSES, 1, mixed=False, paths=paths, shapes=[(s, s) for s in of_pairs])


def wider_cases(loss: DistillationLoss) -> Iterator[Case]:
    """Yield cases in which the teacher's features have more channels.

    A loss needs adapters there.
    """
    paths = loss.pairs
    for shapes in loss.feature_shapes if paths else ():
        of_pairs = [shapes] * len(paths) if isinstance(shapes[0], int) else list(shapes)
        wider = [(s, (s[0] + 2, *s[1:])) for s in of_pairs]
        yield make_case(f"features {shapes}, a wider teacher", CLASSES, 1, mixed=False, paths=paths, shapes=wider)


def bind_to_case(make: Callable[[], DistillationLoss], case: Case) -> DistillationLoss:
    """Return a new loss in float64, bound to the case's shapes.

    Raises:
        ValueError: the loss refuses the features.
    """
    with seeded(0, "loss_init"):
        loss = make()
        example = case.to(torch.float32).rows(slice(0, 2))
        facts = DataFacts((1,), (100,) * case.batch.target.shape[1], 100 * case.batch.target.shape[1])
        loss.bind(facts, example.student, list(example.teachers))
    return loss.train().double()


def plain(case: Case) -> tuple[PlainOutput, list[PlainOutput], PlainBatch]:
    """Return a case as nested lists."""
    student, *teachers = (
        PlainOutput(o.logits.tolist(), {path: f.tolist() for path, f in o.features.items()})
        for o in (case.student, *case.teachers)
    )
    b = case.batch
    return student, teachers, PlainBatch(b.target.tolist(), b.labeled.tolist(), b.index.tolist())
