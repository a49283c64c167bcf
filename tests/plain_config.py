"""A config of `distill` as plain values, for tests that want settings without composing one."""

from __future__ import annotations

from typing import Any

from distill_cli.config.settings.run import RunSettings

TRAINING: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 32,
    "steps_per_epoch": None,
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
    "lr_scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR"},
    "augment": {"shift": 0},
    "mixup": {"alpha": 0.3},
    "sampling": {"class_balance_power": 0.5},
    "monitor": "macro_f1",
    "early_stopping": {"patience": None},
    "clip_grad_norm": None,
}
TEACHER: dict[str, Any] = {
    **TRAINING,
    "model": {"_target_": "distill_cli.models.mlp.mlp"},
    "preprocessing": None,
    "seed": 3,
    "label_fraction": None,
    "class_weight": "none",
    "ensemble": {"size": 1, "average": "logits", "weights": None},
    "run": None,
    "run_model": "teacher",
    "weights": None,
    "weights_key": None,
    "rename": {},
    "class_order": None,
    "logits_file": None,
    "logits_kind": "logits",
}
BASE: dict[str, Any] = {
    "seed": 0,
    "outputs": "outputs",
    "bootstrap": {"resamples": 100, "seed": 0},
    "report": {"html": False, "plots": True, "samples": True},
    "device": {"name": "cpu", "precision": 32, "threads": 1, "max_device_gb": 8.0},
    "verbosity": "normal",
    "log_every_seconds": 5.0,
    "eval_batch_size": 256,
}
CONFIG: dict[str, Any] = {
    **BASE,
    **TRAINING,
    "dataset": {"_target_": "distill_cli.data.digits.digits", "split_seed": 1, "label_fraction": 0.5},
    "teacher": TEACHER,
    "student": {"model": {"_target_": "distill_cli.models.mlp.mlp"}, "preprocessing": None, "bias_correction": False},
    "loss": {"_target_": "distill_cli.losses.soft_target.SoftTarget", "temperature": 4.0, "alpha": 0.5},
    "terms": {},
    "stages": {},
    "balance_gradients": None,
    "log_gradients": {"every": None, "batches": 1},
    "controls": ["scratch"],
    "trial": None,
    "tuned_from": None,
    "generations": [],
    "cache": {"use": "auto", "folder": "outputs/cache", "max_gb": 4.0, "views": 0},
    "health": [],
    "logger": {"csv": {"_target_": "distill_cli.loggers.csv.CsvLogger"}},
    "resume": None,
    "save_every": "1min",
}


def settings(**changes: Any) -> RunSettings:
    return RunSettings.from_config({**CONFIG, **changes})
