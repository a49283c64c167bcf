"""References of losses on the features of each sample.

For student and teacher of one shape, where adapters change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from distill_cli.verify.references.plain import PlainBatch, PlainOutput, Reference, Row, mean

Channels = list[Row]  # [C][positions]


def flat(x: Any) -> Row:
    """Return nested lists as one list."""
    return [v for inner in x for v in flat(inner)] if isinstance(x, list) else [x]


def channels(x: list[Any]) -> Channels:
    """Return a map ``[C, ...]`` with its positions in one row."""
    return [flat(c) for c in x]


def dot(x: Row, y: Row) -> float:
    """Return ``sum_k x_k y_k``."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x: Row) -> Row:
    """Return x divided by its length."""
    length = math.sqrt(dot(x, x))
    return [a / length for a in x]


def features(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield student and teacher ``[B, ...]`` of each pair."""
    for pair in loss.pairs:
        yield student.features[pair.student], teachers[0].features[pair.teacher]


def each_sample(of_sample: Callable[[Any, int, Any, Any], float]) -> Reference:
    """Return the reference that sums a function of a sample over the pairs.

    The function is called as ``of_sample(loss, number of the pair, s, t)``.
    """

    def reference(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
        total = [0.0] * len(batch.index)
        for n, (s, t) in enumerate(features(loss, student, teachers)):
            for b in range(len(total)):
                total[b] += of_sample(loss, n, s[b], t[b])
        return total

    return reference


def hint(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the hint loss of a sample.

    Romero et al. 2015, equation 3; with L1, the sum of absolute values.
    """
    off = [a - b for a, b in zip(flat(s), flat(t), strict=True)]
    if loss.norm == "l1":
        sizes = [abs(a) for a in off]
        return mean(sizes) if loss.variant == "code" else sum(sizes)
    squares = [a**2 for a in off]
    return mean(squares) if loss.variant == "code" else sum(squares) / 2


def cosine(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return 1 minus the cosine of a sample."""
    return 1 - dot(unit(flat(s)), unit(flat(t)))


def attention(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the attention loss of a sample.

    Zagoruyko and Komodakis 2017, equation 2.
    """
    maps = []
    for x in (channels(s), channels(t)):
        maps.append(unit([sum(abs(c[p]) ** loss.power for c in x) for p in range(len(x[0]))]))
    squares = [(a - b) ** 2 for a, b in zip(*maps, strict=True)]
    return mean(squares) if loss.variant == "code" else math.sqrt(sum(squares)) / 2


def vid(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the variational loss of a sample.

    Ahn et al. 2019: the negative log-likelihood of the teacher under a Gaussian around the student, without its constant.
    """
    losses = []
    wide = [[x] if isinstance(x, float) else flat(x) for x in s], [[x] if isinstance(x, float) else flat(x) for x in t]
    for alpha, mus, ts in zip(loss.alphas[n].tolist(), *wide, strict=True):
        sigma = math.sqrt(math.log(1 + math.exp(alpha)) + 1e-5)
        losses += [math.log(sigma) + (b - a) ** 2 / (2 * sigma**2) for a, b in zip(mus, ts, strict=True)]
    return mean(losses) if loss.variant == "code" else sum(losses)


def ab(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the activation boundary loss of a sample.

    Heo et al. 2019: a neuron should be beyond the margin, on the side of the teacher's.
    """
    total = 0.0
    for a, b in zip(flat(s), flat(t), strict=True):
        if b > 0:
            total += max(0.0, loss.margin - a) ** 2
        else:
            total += max(0.0, loss.margin + a) ** 2
    layers = len(loss.pairs)
    return total * 3 / 1000 / 2 ** (layers - 1 - n) if loss.variant == "code" else total


def ft(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the factor loss of a sample.

    Kim et al. 2018: L1 between factors of length 1, here the features.
    """
    if loss.variant == "code":
        s, t = ([mean([c[p] ** 2 for c in x]) for p in range(len(x[0]))] for x in (channels(s), channels(t)))
    off = [abs(a - b) for a, b in zip(unit(flat(s)), unit(flat(t)), strict=True)]
    return mean(off) if loss.variant == "code" else sum(off)


def nst(loss: Any, n: int, s: Any, t: Any) -> float:
    """Return the neuron selectivity loss of a sample.

    Huang and Wang 2017, with the polynomial kernel of degree 2 without a constant.
    """
    s, t = ([unit(c) for c in channels(x)] for x in (s, t))

    def kernel(x: Channels, y: Channels) -> float:
        return sum(dot(a, b) ** 2 for a in x for b in y) / (len(x) * len(y))

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def fsp(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> Row:
    """Return the flow loss of each sample.

    Yim et al. 2017: the squared Frobenius norm of the difference of two flow matrices, for each pair of neighbours.
    """
    pool = mean if loss.variant == "code" else max
    layers, total = list(features(loss, student, teachers)), [0.0] * len(batch.index)
    for (s1, t1), (s2, t2) in pairwise(layers):
        for b in range(len(total)):
            student_flow, teacher_flow = flow(s1[b], s2[b], pool), flow(t1[b], t2[b], pool)
            squares = [(x - y) ** 2 for x, y in zip(flat(student_flow), flat(teacher_flow), strict=True)]
            total[b] += mean(squares) if loss.variant == "code" else sum(squares)
    return total


def flow(first: list[Any], second: list[Any], pool: Callable[[Row], float]) -> Channels:
    """Return the flow matrix ``G[c1][c2]`` of two maps.

    The finer map is a whole number of times as long on every axis.
    """
    size = min(len(first[0]), len(second[0]))
    pooled_first, pooled_second = (channels([shrunk(c, size, pool) for c in x]) for x in (first, second))
    return [[dot(a, b) / len(a) for b in pooled_second] for a in pooled_first]


def shrunk(x: list[Any], size: int, pool: Callable[[Row], float]) -> list[Any]:
    """Return a row, or a square, pooled to `size` parts on each axis."""
    part = len(x) // size
    blocks = [x[k * part : (k + 1) * part] for k in range(size)]
    if not isinstance(x[0], list):
        return [pool(block) for block in blocks]
    return [[pool(flat([row[k * part : (k + 1) * part] for row in block])) for k in range(size)] for block in blocks]


REFERENCES: dict[str, Reference] = {
    "Hint": each_sample(hint),
    "Cosine": each_sample(cosine),
    "Attention": each_sample(attention),
    "VID": each_sample(vid),
    "AB": each_sample(ab),
    "FT": each_sample(ft),
    "NST": each_sample(nst),
    "FSP": fsp,
}
