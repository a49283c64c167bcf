"""A finished run folder: report, config, epochs, predictions; the report last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from distill_cli import files, runs
from distill_cli.config import ownership
from distill_cli.pipeline.context import Context
from distill_cli.pipeline.scoring import COMPARED, Logits
from distill_cli.reports.predictions import predictions_csv
from distill_cli.reports.run_report import markdown
from distill_cli.types import Dataset, EpochRecord


def finish(
    context: Context,
    report: dict[str, Any],
    cfg: DictConfig,
    provenance: Mapping[str, Any],
    records: Sequence[EpochRecord],
    predictions: str | None,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Write everything a finished run leaves beside its checkpoint; `report.json` last, as the mark of a finished run.
    The states that its trainings were kept by go then."""
    out = context.out
    files.remove_litter(out, runs.WRITTEN)
    resolved = OmegaConf.to_container(cfg, resolve=True)
    report = files.plain({**report, "provenance": dict(provenance), "config": resolved})
    context.loggers.finish(records, report)
    if predictions is not None:
        files.write_text(out / "predictions.csv", predictions)
    if samples is not None:
        files.write_text(out / runs.SAMPLES, json.dumps(files.plain(samples), ensure_ascii=False, allow_nan=False) + "\n")
    else:
        (out / runs.SAMPLES).unlink(missing_ok=True)  # of an earlier run into this folder
    files.write_text(out / runs.CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    ownership.sign(out)
    files.write_text(out / "report.md", markdown(report))
    files.write_json(out / runs.REPORT, report)
    files.remove([out / runs.STATES])


def predictions(dataset: Dataset, logits: Mapping[str, Logits], split: str = COMPARED) -> str | None:
    """Return predictions.csv of a split, or None where no model was scored on it."""
    known = {model: by_split[split] for model, by_split in logits.items() if split in by_split}
    pool = dataset.pools[split]
    return predictions_csv(pool.index, pool.y, dataset.class_names, known, pool.group) if known else None
