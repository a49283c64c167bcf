"""The best settings of a finished sweep of trials.

Student and tuned control have settings of their own, each by its own validation score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill_cli import RECIPE_VERSION
from distill_cli.config.ownership import is_own
from distill_cli.config.settings.dataset import SELECTION_KEYS
from distill_cli.config.settings.run import RunSettings
from distill_cli.config.settings.runtime import RUNTIME_KEYS
from distill_cli.config.settings.training import (
    LOSS_KEYS,
    TRAINING_KEYS,
    ControlSettings,
    LossSettings,
    TrainingSettings,
    stages_of,
)
from distill_cli.config.validation.check import check_config, check_run, check_trusted, load_config, targets_in
from distill_cli.config.validation.rules import format_value
from distill_cli.errors import UserError
from distill_cli.factory.objective import build_objective
from distill_cli.losses.weight_schedule import WeightSchedule
from distill_cli.runs import layout
from distill_cli.tasks.registry import all_metrics
from distill_cli.types import SCRATCH, STUDENT, TUNED, Dataset

# What trials may differ in besides: it says which trial it is, or where and how it ran.
IGNORED_KEYS = (*RUNTIME_KEYS, "trial", "seed", "sweep", "require", "optimized_metric", "health", "controls", "logger")
CACHE_PATH_KEYS = ("folder", "max_gb")  # of `cache`: where stored outputs lie
Settings = dict[str, Any]


@dataclass
class BestTrial:
    """What one arm found.

    Attributes:
        settings: the keys that the trials varied, with the values of the best trial. What the control has of `loss` and
            `terms` stands as its losses by name.
        trials: distinct trials that this arm had.
        score: mean validation score of the best.
        config: of the best trial.
    """

    settings: Settings
    trials: int
    score: float
    config: Mapping[str, Any]


@dataclass
class SearchResult:
    """What a sweep of trials found for both arms.

    Attributes:
        folder: of the sweep.
        metric: by which the trials were compared, on validation.
        seeds: of its runs.
        student, control: the best of each arm.
    """

    folder: str
    metric: str
    seeds: list[int]
    student: BestTrial
    control: BestTrial

    @property
    def control_training(self) -> Settings:
        """The keys of the training that the control found."""
        return {key: value for key, value in self.control.settings.items() if key not in LOSS_KEYS}

    @property
    def control_losses(self) -> Settings:
        """`loss` and `terms` of the control's best trial.

        Only as far as the trials varied them.
        """
        return {key: self.control.config[key] for key in LOSS_KEYS if key in self.student.settings}

    def report(self, seed: int) -> dict[str, Any]:
        """Return the report's `tuned_from` section.

        `seed` is that of the run that uses it.
        """
        arms = {"student": self.student, "tuned": self.control}
        return {
            "folder": self.folder,
            "metric": self.metric,
            "seeds": self.seeds,
            "seed_was_searched": seed in self.seeds,
            "trials": {name: best.trials for name, best in arms.items()},
            "val": {name: best.score for name, best in arms.items()},
            "settings": {name: best.settings for name, best in arms.items()},
        }


def apply_tuned_settings(settings: RunSettings, dataset: Dataset) -> tuple[RunSettings, SearchResult | None]:
    """Return the settings with the best of a sweep merged in, and the sweep.

    Without `tuned_from` the settings are unchanged.

    Raises:
        UserError: the folder holds no fitting trials, or the control had fewer than the student.
    """
    if settings.tuned_from is None:
        return settings, None
    search = read(Path(settings.tuned_from), settings.resolved, dataset)
    check_run({**settings.resolved, **search.student.settings}, "distill")
    tuned = settings.with_config(search.student.settings)
    return tuned.with_control(tuned_control(tuned.resolved, search)), search


def tuned_control(config: Mapping[str, Any], search: SearchResult) -> ControlSettings:
    """Return the control that is trained with what the sweep's controls found.

    Args:
        config: of the run, with what its student found.
        search: the sweep.
    """
    training = TrainingSettings.from_config({**config, **search.control_training})
    stages = stages_of({**config, **search.control_losses})
    return ControlSettings.changed(TUNED, training, stages, search.control_training)


def read(folder: Path, config: Mapping[str, Any], dataset: Dataset) -> SearchResult:
    """Read the trials below a folder.

    Args:
        folder: of a sweep of `distill` runs with the scratch control.
        config: of the run that will use them.
        dataset: of that run.
    """
    where = f"tuned_from={folder}"
    reports = _reports(folder, where)
    for path, report in reports:
        _check_fits(report, config, dataset, f"{where}: {path.parent.name}")
    configs = [_with_seed(report["config"], report["seed"], config["seed"]) for _, report in reports]
    varied = [key for key in (*TRAINING_KEYS, *LOSS_KEYS) if len({_text(c.get(key)) for c in configs}) > 1]
    others = sorted({key for c in configs for key in c} - {*varied, *TRAINING_KEYS, *LOSS_KEYS, *IGNORED_KEYS})
    if differing := [key for key in others if len({_text(_less_places(c, key)) for c in configs}) > 1]:
        raise UserError(
            f"{where}: its trials differ in {differing[0]}, which is not carried over; vary the student's training, loss or terms"
        )
    if not varied:
        raise UserError(f"{where}: its runs differ in nothing that is searched; sweep trial=range(0,8) with an hparams preset")
    metric = str(configs[0]["monitor"])
    for (path, _), c in zip(reports, configs, strict=True):
        _check_sound({key: c[key] for key in varied}, config, f"{where}: {path.parent.name}", _own_targets(path.parent))

    def of_student(c: Mapping[str, Any]) -> Settings:
        return {key: c[key] for key in varied}

    def of_control(c: Mapping[str, Any]) -> Settings:
        training = {key: c[key] for key in varied if key not in LOSS_KEYS}
        losses = {key: c[key] if key in varied else config[key] for key in LOSS_KEYS}
        return training | ({"loss": without_teacher(losses, f"{where}: ")} if set(LOSS_KEYS) & set(varied) else {})

    best = {}
    for name, settings in ((STUDENT, of_student), (SCRATCH, of_control)):
        scores = [_score(report, name, metric, path) for path, report in reports]
        best[name] = _best([(settings(c), score, c) for c, score in zip(configs, scores, strict=True)], metric)
    if best[SCRATCH].trials < best[STUDENT].trials:
        raise UserError(
            f"{where}: the student had {best[STUDENT].trials} trials, the control only {best[SCRATCH].trials}; "
            "vary the training in each, as hparams=random does, so that both had as many"
        )
    seeds = sorted({int(report["seed"]) for _, report in reports})
    return SearchResult(str(folder), metric, seeds, best[STUDENT], best[SCRATCH])


def without_teacher(losses: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the losses of the control of a student with `loss` and `terms`.

    The result holds each loss's settings by name.
    """
    loss, terms = (losses[key] for key in LOSS_KEYS)
    objective = build_objective(LossSettings(loss, terms), 0, where)
    own = dict(objective.items())
    control = objective.without_teacher() if objective.uses_teacher else objective
    components = {}
    for name, term in control.items():
        component = loss if name == "loss" else terms.get(name)
        if own.get(name) is not term:  # it stands for the teacher's terms
            component = {"class_weight": term.class_weight}
        weight = control.schedules[name]
        components[name] = {**component, "weight": asdict(weight) if isinstance(weight, WeightSchedule) else weight}
    return components


def _with_seed(config: Mapping[str, Any], seed: int, new: int) -> dict[str, Any]:
    """Return a trial's config with the seed of the run that uses it.

    It replaces the trial's seed in losses that take one.
    """

    def follow(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        return {key: new if key == "seed" and value == seed else follow(value) for key, value in part.items()}

    return {key: follow(value) if key in LOSS_KEYS else value for key, value in config.items()}


def _reports(folder: Path, where: str) -> list[tuple[Path, dict[str, Any]]]:
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder; give the folder of a finished sweep, such as outputs/sweeps/NAME")
    paths = sorted(folder.glob(f"*/{layout.REPORT}"))
    reports = [(path, layout.read_json(path)) for path in paths]
    trials = [(path, r) for path, r in reports if r.get("command") == "distill" and r.get("recipe_version") == RECIPE_VERSION]
    if len(trials) < 2:
        raise UserError(
            f"{where}: {len(trials)} finished trials of this version in it; run a sweep of two or more with controls=[scratch]"
        )
    return trials


def _check_fits(report: Mapping[str, Any], config: Mapping[str, Any], dataset: Dataset, where: str) -> None:
    theirs = report.get("config")
    if not isinstance(theirs, Mapping) or not _has_all(theirs) or type(report.get("seed")) is not int:
        raise UserError(f"{where}: its report holds no usable config; the file is damaged")
    if (report.get("data") or {}).get("fingerprint") != dataset.fingerprint:
        raise UserError(f"{where}: this trial was run on other data or another split; search on the data that is used")
    for key in SELECTION_KEYS:
        used = [(c.get("dataset") or {}).get(key) or None for c in (theirs, config)]
        if used[0] != used[1]:
            raise UserError(
                f"{where}: this trial was run with dataset.{key}={format_value(used[0])}, this run has {format_value(used[1])}; "
                "search on the data that is used"
            )
    if _text(theirs["student"].get("model")) != _text(config["student"]["model"]):
        raise UserError(f"{where}: this trial trained another student; search with the student that is used")


def _has_all(config: Mapping[str, Any]) -> bool:
    nodes = [config.get(key) for key in ("student", "loss", "terms")]
    return set(TRAINING_KEYS) <= set(config) and all(isinstance(node, Mapping) for node in nodes)


def _own_targets(folder: Path) -> frozenset[str]:
    """Return the classes that the config of a run names.

    None of them where another user made the run.
    """
    return targets_in(load_config(folder / layout.CONFIG)) if is_own(folder) else frozenset()


def _check_sound(settings: Settings, config: Mapping[str, Any], where: str, own: frozenset[str]) -> None:
    """See that what a trial varied may be built, before any of it is."""
    check_trusted(settings, where, targets_in(config) | own)
    try:
        check_config({**config, **settings}, "distill")
    except UserError as e:
        raise UserError(f"{where}: {e}") from None


def _score(report: Mapping[str, Any], name: str, metric: str, path: Path) -> float:
    value = ((report["models"].get(name) or {}).get("val") or {}).get(metric)
    if not isinstance(value, (int, float)):
        raise UserError(f"{path}: no validation {metric} of {name}; every trial needs controls=[scratch]")
    return float(value)


def _best(scored: Sequence[tuple[Settings, float, Mapping[str, Any]]], metric: str) -> BestTrial:
    """Return the best of the distinct settings by mean score over their runs.

    Of equals the first.

    Args:
        scored: settings of an arm, its score, and the whole config, of each run.
        metric: that the scores are.
    """
    groups: dict[str, list[tuple[Settings, float, Mapping[str, Any]]]] = {}
    for run in scored:
        groups.setdefault(_text(run[0]), []).append(run)
    means = {text: sum(score for _, score, _ in group) / len(group) for text, group in groups.items()}
    pick: Callable[..., str] = max if all_metrics()[metric].higher_is_better else min
    text = pick(means, key=lambda t: means[t])
    settings, _, config = groups[text][0]
    return BestTrial(settings, len(groups), means[text], config)


def _less_places(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key)
    return (
        {k: v for k, v in value.items() if k not in CACHE_PATH_KEYS} if key == "cache" and isinstance(value, Mapping) else value
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
