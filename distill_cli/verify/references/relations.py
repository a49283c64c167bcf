"""References of losses that relate samples to each other or fuse layers.

Each returns one number a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from distill_cli.verify.references.features import dot, features, flat, unit
from distill_cli.verify.references.plain import PlainBatch, PlainOutput, Reference, Row, mean

Rows = list[Row]  # [B][D]


def each_pair(of_pair: Callable[[Any, Rows, Rows], float]) -> Reference:
    """Return the reference that sums a function of features over the pairs.

    The function is called as ``of_pair(loss, s, t)`` with flattened features.
    """

    def reference(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> float:
        pairs = features(loss, student, teachers)
        return sum(of_pair(loss, [flat(x) for x in s], [flat(x) for x in t]) for s, t in pairs)

    return reference


def similarity(loss: Any, s: Rows, t: Rows) -> float:
    """Return the similarity loss of a pair.

    Tung and Mori 2019, section 3.
    """
    gram = [[unit([dot(a, b) for b in x]) for a in x] for x in (s, t)]
    return sum((a - b) ** 2 for a, b in zip(flat(gram[0]), flat(gram[1]), strict=True)) / len(s) ** 2


def correlation(loss: Any, s: Rows, t: Rows) -> float:
    """Return the correlation loss of a pair.

    Peng et al. 2019, section 3; for `code` RepDistiller's loss.
    """
    if loss.variant == "code":
        off = [[abs(a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(s, t, strict=True)]
        return mean([dot(off[n], off[n + 1]) for n in range(len(off) - 1)])
    total = 0.0
    for i in range(len(s)):
        for j in range(len(s)):
            values = []
            for x in (s, t):
                cosine = dot(unit(x[i]), unit(x[j]))
                terms = [(2 * loss.gamma) ** p / math.factorial(p) * cosine**p for p in range(loss.order + 1)]
                values.append(cosine if loss.kernel == "bilinear" else math.exp(-2 * loss.gamma) * sum(terms))
            total += (values[0] - values[1]) ** 2
    return total / len(s) ** 2


def huber(a: float, b: float) -> float:
    """Return the Huber loss with delta 1."""
    off = abs(a - b)
    return off**2 / 2 if off <= 1 else off - 0.5


def rkd(loss: Any, s: Rows, t: Rows) -> float:
    """Return the relational loss of a pair.

    Park et al. 2019, section 3.2: over ordered pairs and triples of different samples.
    """
    size = len(s)
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    relative = []
    for x in (s, t):
        lengths = [math.dist(x[i], x[j]) for i, j in pairs]
        relative.append([d / mean(lengths) for d in lengths])
    distances = [huber(a, b) for a, b in zip(*relative, strict=True)]
    angles = [huber(angle(s, i, j, k), angle(t, i, j, k)) for i, j in pairs for k in range(size) if k not in (i, j)]
    if loss.variant == "code":
        return loss.distance * sum(distances) / size**2 + loss.angle * sum(angles) / size**3
    return loss.distance * sum(distances) + loss.angle * sum(angles)


def angle(x: Rows, i: int, j: int, k: int) -> float:
    """Return the cosine of the angle at j."""
    return dot(*(unit([a - b for a, b in zip(x[end], x[j], strict=True)]) for end in (i, k)))


def pkt(loss: Any, s: Rows, t: Rows) -> float:
    """Return the probabilistic transfer loss of a pair.

    Passalis and Tefas 2018, section 3.
    """
    size, code, losses = len(s), loss.variant == "code", []
    for i in range(size):
        picks = [j for j in range(size) if code or j != i]
        q, p = ([(dot(unit(x[i]), unit(x[j])) + 1) / 2 for j in picks] for x in (s, t))
        q, p = [a / sum(q) for a in q], [a / sum(p) for a in p]
        small = 1e-7 if code else 0.0
        losses += [b * math.log((b + small) / (a + small)) for a, b in zip(q, p, strict=True)]
    return mean(losses) if code else sum(losses)


def crd(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> float:
    """Return the contrastive loss of a batch.

    Tian et al. 2020, section 3, with the negatives that the loss has drawn, and the memory before the batch.
    """
    place = {row: n for row, n in zip(loss.places.ids.tolist(), loss.places.order.tolist(), strict=True)}
    own = [place[row] for row in batch.index]
    draw_counts = {n: count for n, count in zip(*(x.tolist() for x in loss.negative_places), strict=True)}
    total = 0.0
    for contrast, (s, t) in zip(loss.contrasts, features(loss, student, teachers), strict=True):
        student_rows, teacher_rows = (
            [embedding(layer, flat(x)) for x in rows] for layer, rows in ((contrast.of_student, s), (contrast.of_teacher, t))
        )
        of_student, of_teacher = contrast.student.tolist(), contrast.teacher.tolist()
        for n, old_s, old_t in zip(*(x.tolist() for x in contrast.overwritten), strict=True):
            of_student[n], of_teacher[n] = old_s, old_t
        sides = [
            direction(loss, student_rows, teacher_rows, of_teacher, own, draw_counts),
            direction(loss, teacher_rows, student_rows, of_student, own, draw_counts),
        ]
        total += sum(sides) if loss.variant == "code" else mean(sides)
    return total


def embedding(layer: Any, x: Row) -> Row:
    """Return the linear map of x, normalised to length 1."""
    return unit([dot(w, x) + b for w, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)])


def direction(loss: Any, anchors: Rows, partners: Rows, memory: Rows, own: list[int], draw_counts: dict[int, int]) -> float:
    """Return the mean contrast of the anchors with the other side.

    The other side is that of the batch and of the memory.
    """
    rows, code = len(memory), loss.variant == "code"
    noise = loss.negatives / rows
    positives = [
        math.exp(dot(a, memory[n] if code else b) / loss.temperature) for a, b, n in zip(anchors, partners, own, strict=True)
    ]
    negatives = [
        [(math.exp(dot(a, memory[n]) / loss.temperature), c) for n, c in draw_counts.items() if n != own_place]
        for a, own_place in zip(anchors, own, strict=True)
    ]
    z = 1.0
    if code:
        every = [(e, 1) for e in positives] + [pair for row in negatives for pair in row]
        z = rows * sum(e * c for e, c in every) / sum(c for _, c in every)
    losses = []
    for e, row in zip(positives, negatives, strict=True):
        apart = sum(c * math.log(noise / (x / z + noise)) for x, c in row) / sum(c for _, c in row)
        losses.append(-math.log(e / z / (e / z + noise)) - loss.negatives * apart)
    return mean(losses)


def review(loss: Any, student: PlainOutput, teachers: Sequence[PlainOutput], batch: PlainBatch) -> float:
    """Return the review loss of a batch.

    Chen et al. 2021, section 3, for signals ``[C, L]``, from the deepest layer to the shallowest.
    """
    total, deeper = 0.0, None
    for fusion, (s, t) in zip(loss.adapters[::-1], list(features(loss, student, teachers))[::-1], strict=True):
        inward = normed(convolved(s, fusion.inward[0]), fusion.inward[1])
        if deeper is not None:
            deeper = [nearest(x, len(inward[0][0])) for x in deeper]
            shares = convolved([a + b for a, b in zip(inward, deeper, strict=True)], fusion.attention)
            inward = [fused(a, b, share) for a, b, share in zip(inward, deeper, shares, strict=True)]
        deeper = [nearest(x, len(t[0][0])) for x in inward]
        total += context(normed(convolved(deeper, fusion.outward[0]), fusion.outward[1]), t)
    return total


def convolved(batch: list[Rows], layer: Any) -> list[Rows]:
    """Return a convolution, zero-padded to the same length."""
    weight = layer.weight.tolist()  # [out][in][width]
    bias = [0.0] * len(weight) if layer.bias is None else layer.bias.tolist()
    reach = len(weight[0][0]) // 2
    results = []
    for x in batch:
        padded = [[0.0] * reach + row + [0.0] * reach for row in x]
        length = len(x[0])
        results.append(
            [[b + sum(dot(k, row[p : p + len(k)]) for k, row in zip(w, padded, strict=True)) for p in range(length)]
             for w, b in zip(weight, bias, strict=True)]
        )  # fmt: skip
    return results


def normed(batch: list[Rows], layer: Any) -> list[Rows]:
    """Return batch norm with the batch's own statistics."""
    scaled = []
    for c, (scale, shift) in enumerate(zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)):
        values = [v for x in batch for v in x[c]]
        middle = mean(values)
        deviation = math.sqrt(mean([(v - middle) ** 2 for v in values]) + layer.eps)
        scaled.append([[(v - middle) / deviation * scale + shift for v in x[c]] for x in batch])
    return [[scaled[c][b] for c in range(len(scaled))] for b in range(len(batch))]


def nearest(x: Rows, length: int) -> Rows:
    """Return rows in another length, each position copied from the one below."""
    return [[row[p * len(row) // length] for p in range(length)] for row in x]


def fused(x: Rows, deeper: Rows, attention: Rows) -> Rows:
    """Return the two maps weighted by sigmoids at every position."""
    shares = [[1 / (1 + math.exp(-v)) for v in row] for row in attention]
    return [
        [a * p + b * q for a, b, p, q in zip(row, deeper_row, *shares, strict=True)]
        for row, deeper_row in zip(x, deeper, strict=True)
    ]


def context(s: list[Rows], t: list[Rows]) -> float:
    """Return the hierarchical context loss of two maps.

    At full length, then averaged to 4, 2 and 1 positions with half the weight each time.
    """
    length = len(s[0][0])
    levels = [length, *(level for level in (4, 2, 1) if level < length)]
    weights = [1 / 2**n for n in range(len(levels))]
    losses = []
    for level in levels:
        parts = [range(k * length // level, -(-(k + 1) * length // level)) for k in range(level)]
        means = [[[mean([row[p] for p in part]) for part in parts] for x in batch for row in x] for batch in (s, t)]
        losses.append(mean([(a - b) ** 2 for a, b in zip(flat(means[0]), flat(means[1]), strict=True)]))
    return dot(weights, losses) / sum(weights)


REFERENCES: dict[str, Reference] = {
    "Similarity": each_pair(similarity),
    "Correlation": each_pair(correlation),
    "RKD": each_pair(rkd),
    "PKT": each_pair(pkt),
    "CRD": crd,
    "Review": review,
}
