"""Writes a finished run folder.

It holds report, config, epochs and predictions; the report is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distill_cli.config import ownership
from distill_cli.config.trust import dump_config
from distill_cli.factory.context import RunContext
from distill_cli.pipeline.evaluation import Logits
from distill_cli.reports.run.markdown import markdown
from distill_cli.reports.run.predictions_csv import predictions_csv
from distill_cli.runs import layout
from distill_cli.tasks.registry import find_task
from distill_cli.types import TEST_SPLIT, Dataset, EpochRecord
from distill_cli.utils import files


def write_run(
    context: RunContext,
    report: dict[str, Any],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    records: Sequence[EpochRecord],
    predictions: str | None,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Write all files of a finished run except its checkpoint.

    `report.json` is written last, as the mark of a finished run.
    The states that its trainings were kept by go then."""
    out = context.run_dir
    files.remove_all_temporaries(out, layout.RUN_FILES)
    report = files.to_jsonable({**report, "provenance": dict(provenance), "config": config})
    context.loggers.finish(records, report)
    if predictions is not None:
        files.write_text(out / "predictions.csv", predictions)
    if samples is not None:
        files.write_text(out / layout.SAMPLES, json.dumps(files.to_jsonable(samples), ensure_ascii=False, allow_nan=False) + "\n")
    else:
        (out / layout.SAMPLES).unlink(missing_ok=True)  # of an earlier run into this folder
    files.write_text(out / layout.CONFIG, dump_config(config))
    ownership.sign(out)
    files.write_text(out / "report.md", markdown(report))
    files.write_json(out / layout.REPORT, report)
    files.remove([out / layout.RESUME_DIR])


def predictions(dataset: Dataset, logits: Mapping[str, Logits], split: str = TEST_SPLIT) -> str | None:
    """Return predictions.csv of a split, or None where no model was scored on it."""
    known = {model: by_split[split] for model, by_split in logits.items() if split in by_split}
    pool = dataset.pools[split]
    return predictions_csv(pool.index, pool.y, dataset.class_names, known, pool.group, find_task(dataset.task)) if known else None
