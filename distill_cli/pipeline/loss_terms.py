"""A fit -> the report's `stages` and `terms`: what each loss term weighed and how hard it pulled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_cli.factory.stages import Part
from distill_cli.losses.base import DistillationLoss
from distill_cli.training.trainer import Fit
from distill_cli.types import EpochRecord, Pull


def stages_section(parts: Sequence[Part], result: Fit) -> dict[str, Any]:
    """Return epochs, steps, trained modules and terms of each stage by name, in their order."""
    found = {}
    for part in parts:
        records = [record for record in result.records if record.stage == part.name]
        best = result.records[result.best_epoch]
        chosen = best if best.stage == part.name else records[-1]  # an earlier stage hands over its last epoch
        found[part.name] = {
            "epochs": len(records),
            "steps": len(records) * records[0].step // records[0].epoch,
            "train": None if part.train is None else list(part.train),
            "terms": {name: term(name, part, records, chosen) for name in part.objective.names},
        }
    return found


def term(name: str, part: Part, records: Sequence[EpochRecord], chosen: EpochRecord) -> dict[str, Any]:
    """Return one term's weight and value in the chosen epoch, and its weights and gradients in the first and the last."""
    measured = [record.pull for record in records if record.pull is not None]
    ends = (measured[0], measured[-1]) if measured else None
    others = [other for other in part.objective.names if other != name]
    return {
        "weight": chosen.weights[name],
        "value": chosen.terms[name],
        "weights": {"first": records[0].weights[name], "last": records[-1].weights[name]},
        "balance": part.objective.factors.get(name),
        "gradient_norm": _ends(*(p.norms[name] for p in ends)) if ends else None,
        "gradient_share": _ends(*(p.shares[name] for p in ends)) if ends else None,
        "features": compared(dict(part.objective.items())[name]),
        "cosine": {other: _ends(*(cosine(p, name, other) for p in ends)) for other in others} if ends else {},
    }


def compared(loss: DistillationLoss) -> list[dict[str, str | None]]:
    """Return the pairs of layers that a loss compares, and how the student's features are brought to the teacher's shape."""
    described = zip(loss.pairs, loss.adapter_descriptions, strict=True)
    return [{"student": s, "teacher": t, "adapter": how} for (s, t), how in described]


def cosine(pull: Pull, one: str, other: str) -> float | None:
    """Return the cosine between the gradients of two terms, in whichever order they were measured."""
    return pull.cosines[one, other] if (one, other) in pull.cosines else pull.cosines[other, one]


def _ends(first: float | None, last: float | None) -> dict[str, float | None]:
    return {"first": first, "last": last}
