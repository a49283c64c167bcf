"""The report's `stages` and `terms` of a fit.

They hold the weight and the gradients of each loss term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_cli.factory.stages import StageSpec
from distill_cli.losses.base import DistillationLoss
from distill_cli.training.trainer import FitResult
from distill_cli.types import EpochRecord, GradientStats


def stages_section(parts: Sequence[StageSpec], result: FitResult) -> dict[str, Any]:
    """Return epochs, steps, trained modules and terms of each stage by name.

    Stages are in their order.
    """
    sections = {}
    for part in parts:
        records = [record for record in result.history if record.stage == part.name]
        best = result.history[result.best_epoch]
        chosen = best if best.stage == part.name else records[-1]  # an earlier stage hands over its last epoch
        sections[part.name] = {
            "epochs": len(records),
            "steps": len(records) * records[0].step // records[0].epoch,
            "train": None if part.trainable_modules is None else list(part.trainable_modules),
            "terms": {name: term(name, part, records, chosen) for name in part.objective.names},
        }
    return sections


def term(name: str, part: StageSpec, records: Sequence[EpochRecord], chosen: EpochRecord) -> dict[str, Any]:
    """Return the weight, value and gradients of one term.

    Weight and value are of the chosen epoch, weights and gradients of the first and the last.
    """
    measured = [record.gradients for record in records if record.gradients is not None]
    ends = (measured[0], measured[-1]) if measured else None
    others = [partner for partner in part.objective.names if partner != name]
    return {
        "weight": chosen.weights[name],
        "value": chosen.loss_terms[name],
        "weights": {"first": records[0].weights[name], "last": records[-1].weights[name]},
        "balance": part.objective.factors.get(name),
        "gradient_norm": _first_last(*(p.norms[name] for p in ends)) if ends else None,
        "gradient_share": _first_last(*(p.shares[name] for p in ends)) if ends else None,
        "features": feature_pairs_section(dict(part.objective.items())[name]),
        "cosine": {partner: _first_last(*(cosine(p, name, partner) for p in ends)) for partner in others} if ends else {},
    }


def feature_pairs_section(loss: DistillationLoss) -> list[dict[str, str | None]]:
    """Return the pairs of layers that a loss compares.

    Each has the way that the student's features are brought to the teacher's shape.
    """
    described = zip(loss.pairs, loss.adapter_descriptions, strict=True)
    return [{"student": s, "teacher": t, "adapter": how} for (s, t), how in described]


def cosine(pull: GradientStats, first: str, second: str) -> float | None:
    """Return the cosine between the gradients of two terms.

    The order of the names does not matter.
    """
    return pull.cosines[first, second] if (first, second) in pull.cosines else pull.cosines[second, first]


def _first_last(first: float | None, last: float | None) -> dict[str, float | None]:
    return {"first": first, "last": last}
