"""Hydra's entry point: run folders, sweeps, skipped jobs, exit codes.

Only the job itself imports torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import secrets
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from distill_cli import RECIPE_VERSION
from distill_cli.config import composing
from distill_cli.config.command_line import job_line, typed_line
from distill_cli.config.error_messages import HYDRA14, check_arguments, composition_error, one_line
from distill_cli.config.options import SHOWING_COMMANDS, conf_dir
from distill_cli.config.paths import expanded, is_path
from distill_cli.config.requirements import RequirementMissed, check_require, optimized_metric
from distill_cli.config.resolvers import RESOLVERS
from distill_cli.errors import UserError, UserErrors, printable
from distill_cli.utils.pipes import guard
from distill_cli.utils.signals import Interrupted, before_end, install_handlers, only_once

if TYPE_CHECKING:
    from distill_cli.factory.context import Job

BUG, USER_ERROR, MISSED, SIGNALLED = 1, 2, 3, 128
POLL_SECONDS = 0.1
MOST_KILLED = 3  # times in a row that workers are killed before another job is finished
# Keys without influence on a result.
NOT_IN_KEY = (
    "hydra",
    "sweep",
    "outputs",
    "require",
    "optimized_metric",
    "report",
    "resume",
    "save_every",
    "logger",
    "verbosity",
    "log_every_seconds",
)
# Settings of Hydra with a fixed value, and the reason.
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "hydra.output_subdir": ((".hydra",), "tables read there what was typed"),
    "hydra.job.chdir": ((False, None), "relative paths are those of the folder that you stand in"),
}
RECORDS = ("failed.json", "missed.json")  # marks of a sweep's job that failed, or missed a `require`
log = logging.getLogger(__name__)
output_dirs: dict[str, Path] = {}  # "job" and "sweep": folders of this process, set by the callback below


def run_key(*, _root_: DictConfig) -> str:
    """Return the name of a sweep's job: the start of its config key."""
    return config_key(_root_, _root_.hydra)[:10]


def config_key(cfg: DictConfig, hydra_node: Any) -> str:
    """Return a hash of everything in a config that can influence the result."""
    from distill_cli.utils.files import hash_json

    config = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(config, dict)
    influential = {k: v for k, v in config.items() if k not in NOT_IN_KEY}
    choices = {k: v for k, v in hydra_node.runtime.choices.items() if not k.startswith("hydra/") and k != "logger"}
    return hash_json([hydra_node.job.config_name, RECIPE_VERSION, influential, choices])


composing.install()


def moving_values(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config values that can influence a result.

    A report stores its config in this form.
    """
    from distill_cli.utils.files import to_jsonable

    names = [str(key) for key in cfg if key not in NOT_IN_KEY]
    whole = {name: cfg[name] for name in names}
    return {k: to_jsonable(OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v) for k, v in whole.items()}


def is_of_job(folder: Path, report: Mapping[str, Any], cfg: DictConfig, hydra_node: Any) -> bool:
    """Return whether a finished run belongs to a job.

    The run's folder is named by the job's key, or its config equals the job's.
    """
    if folder.name.endswith(config_key(cfg, hydra_node)[:10]):
        return True
    own = report.get("config")
    if report.get("command") != hydra_node.job.config_name or not isinstance(own, dict):
        return False
    return {k: v for k, v in own.items() if k not in NOT_IN_KEY} == moving_values(cfg)


def job_folder(name: Any, *, _root_: DictConfig) -> str:
    """Return the folder name of a sweep's job.

    The name is ``hydra.sweep.subdir``, with the job's key appended where another job has finished in that folder.
    """
    folder = Path(_root_.hydra.sweep.dir) / str(name)
    report = read_finished(folder / "report.json")
    return str(name) if report is None or is_of_job(folder, report, _root_, _root_.hydra) else f"{name}-{run_key(_root_=_root_)}"


_register: Any = OmegaConf.register_resolver if HYDRA14 else OmegaConf.register_new_resolver
_register("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
_register("plus", lambda a, b: int(a) + int(b), replace=True)  # a second seed: ${plus:${seed},100}
_register("run_key", run_key, replace=True)
_register("path", expanded, replace=True)
_register("job_folder", job_folder, replace=True)
for _name, _resolver in RESOLVERS.items():
    _register(_name, _resolver, replace=True)
_register("sweep_key", lambda: os.environ.get("DISTILL_SWEEP_KEY", "sweep"), replace=True)


def refuse_settings(config: DictConfig) -> None:
    """Exit with an error if a setting of Hydra differs from its fixed value."""
    command = str(config.hydra.job.config_name)
    for key, (usual, why) in FIXED.items():
        if key == "hydra.output_subdir" and command in SHOWING_COMMANDS:
            continue
        value = OmegaConf.select(config, key)
        if value not in usual:
            shown = "null" if value is None else str(value).lower()
            end(command, f"{key}={shown}: {why}; leave it out")


def end(command: str, line: str) -> NoReturn:
    """Print the error line, and exit with the code of a user error."""
    sys.stderr.write(f"distill {command}: error: {printable(line)}\n")
    raise SystemExit(USER_ERROR)


class RecordSweepDir(Callback):
    """Hydra callback that records output folders and protects finished runs.

    Why: Hydra's main returns nothing.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Exit with an error if the folder holds a finished run or is locked.

        Why: Hydra writes into the folder before the job starts.
        """
        refuse_settings(config)
        if config.hydra.job.config_name in SHOWING_COMMANDS:
            return  # nothing is written
        try:
            config.hydra.run.dir = expanded(config.hydra.run.dir)
            folder, command = Path(config.hydra.run.dir), str(config.hydra.job.config_name)
        except OmegaConfBaseException:
            return  # reported when the config is checked
        problem = ""
        if (folder / "report.json").is_file():
            problem = f"hydra.run.dir={folder}: holds a finished run, and nothing finished is overwritten; choose another folder"
        elif folder.is_dir():
            from distill_cli.utils.files import ensure_no_symlinks
            from distill_cli.utils.locks import refuse_owned

            try:
                refuse_owned(folder.absolute())
                ensure_no_symlinks(folder, (".hydra", f"{config.hydra.job.name}.log"))
            except UserError as e:
                problem = str(e)
        if problem:
            end(command, problem)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Record the sweep's folder."""
        refuse_settings(config)
        output_dirs["sweep"] = folder = Path(config.hydra.sweep.dir)
        if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
            output_dirs["other sweeper"] = folder
        before_end(lambda: stop_jobs(folder))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Record the run's folder."""
        output_dirs["job"] = Path(config.hydra.runtime.output_dir)


def hydra_job(cfg: DictConfig) -> float:
    """Run one job, at module level so that launchers can pickle it.

    Args:
        cfg: composed config of the job.

    Returns:
        The number at the path `optimized_metric` in the report. A failed job of a sweep returns `worst`, so that the sweep
        continues.

    Raises:
        SystemExit: a single run failed.
    """
    guard()  # a worker of a parallel launcher has streams of its own
    if is_worker():
        only_once()
    expand_paths(cfg)
    hc = HydraConfig.get()
    command, out = str(hc.job.config_name), Path(hc.runtime.output_dir)
    sweeping = hc.mode is RunMode.MULTIRUN
    typed = [str(o) for o in OmegaConf.to_container(hc.overrides.task, resolve=False) or []]
    code, line, lines = 0, "", list[str]()
    try:
        with install_handlers():
            if sweeping and stop_mark(Path(hc.sweep.dir)).exists():
                raise Interrupted(signal.SIGTERM)
            report = run_job(cfg, command, out, typed, may_skip=sweeping)
        out = output_dirs.get("job", out)
        if not report:  # a command that only shows something
            return 0.0
        check_require(report, cfg.require, command)
        value = optimized_metric(report, cfg.optimized_metric) if sweeping else 0.0
        return worst(hc.sweeper) if math.isnan(value) else value
    except RequirementMissed as e:
        code, line = MISSED, str(e)
    except UserError as e:
        code, line, lines = USER_ERROR, str(e), e.lines if isinstance(e, UserErrors) else []
    except Interrupted as e:
        if not is_worker() or stop_mark(Path(hc.sweep.dir)).exists():
            raise
        out, code = output_dirs.get("job", out), BUG
        line = f"its process was ended by {signal.Signals(e.signum).name}; {out} is unfinished: run the same line again to resume"
    except Exception as e:
        if os.environ.get("DISTILL_FULL_ERROR") == "1":
            raise
        code = BUG
        log.exception("job failed")
        out = output_dirs.get("job", out)
        where = "" if command in SHOWING_COMMANDS else f" (traceback in {out / hc.job.name}.log)"
        line = f"{type(e).__name__}: {' '.join(str(e).split())}{where}"
        if not sweeping:
            traceback.print_exc()
    if sweeping or code != BUG:
        error = "" if code == MISSED else "error: "
        label = f"{' '.join(typed)}: " if sweeping else ""
        for text in lines or [line]:
            sys.stderr.write(f"distill {command}: {error}{printable(label + text)}\n")
    if not sweeping:
        if code == USER_ERROR and command not in SHOWING_COMMANDS:
            remove_empty_run(output_dirs.get("job", out), Path(cfg.outputs))
        raise SystemExit(code)
    write_failure_marker(out, code, line)
    return worst(hc.sweeper)


def worst(sweeper: Any) -> float:
    """Return the score of a failed job for a sweeper: plus or minus infinity.

    Why: some sweepers end the sweep at NaN.
    """
    keys = {"direction": "minimize", "optim.maximize": False, "ax_config.experiment.minimize": True}
    minimizes = any(str(OmegaConf.select(sweeper, key)).rpartition(".")[2] == str(value) for key, value in keys.items())
    return math.inf if minimizes else -math.inf


def is_worker() -> bool:
    """Return whether this process was started by a parallel launcher."""
    return os.environ.get("DISTILL_PROCESS", str(os.getpid())) != str(os.getpid())


def stop_mark(sweep: Path) -> Path:
    """Return the path of the stop file of this invocation.

    While the file exists, no further job of the invocation starts.
    """
    return sweep / f".{os.environ.get('DISTILL_INVOCATION')}.stop"


def stop_jobs(sweep: Path) -> None:
    """Stop the jobs of this invocation in other processes, and wait for them.

    Each job saves its training state first.
    """
    from distill_cli.utils.files import write_text
    from distill_cli.utils.locks import OWNER, owner_of

    if not sweep.is_dir():
        return
    write_text(stop_mark(sweep), "")
    asked: set[int] = set()
    while True:
        owners = [owner for path in sweep.rglob(OWNER) if (owner := owner_of(path))]
        pids = [
            o["pid"] for o in owners if o.get("invocation") == os.environ.get("DISTILL_INVOCATION") and o["pid"] != os.getpid()
        ]
        if not pids:
            return
        for pid in set(pids) - asked:
            asked.add(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)


def expand_paths(node: DictConfig, prefix: str = "") -> None:
    """Expand the paths of a config that come from files, not the command line."""
    for key in node:
        value = node._get_node(key)
        if isinstance(value, DictConfig):
            if not (value._is_none() or value._is_missing() or value._is_interpolation()):
                expand_paths(value, f"{prefix}{key!s}.")
        elif value is not None and is_path(f"{prefix}{key!s}") and isinstance(text := value._value(), str) and "${" not in text:
            node[key] = expanded(text)


def run_job(cfg: DictConfig, command: str, out: Path, typed: list[str], *, may_skip: bool) -> dict[str, Any]:
    """Return the report of one job, from its finished run or from a new one.

    Args:
        cfg: composed config of the job.
        command: name of the command.
        out: folder of the job.
        typed: overrides of the command line.
        may_skip: whether a finished run is reused, as in a sweep.
    """
    if may_skip and (report := finished_job(cfg, out)) is not None:
        forget_failures(out)
        return report_skipped(out, report)
    from distill_cli.config.validation.check import check

    try:
        check(cfg, command, typed)
    except OmegaConfBaseException as e:
        raise UserError(one_line(e, command)) from None
    from distill_cli.config.settings.commands import settings_of

    settings: Any = settings_of(command, resolved(cfg))
    module = importlib.import_module(f"distill_cli.commands.{command.replace('-', '_')}")
    with run_folder(cfg, command, out, sweeping=may_skip) as folder:
        done = folder / "report.json"
        if (report := finished_job(cfg, folder)) is not None:  # finished by another process meanwhile
            return report_skipped(folder, report)
        if read_finished(done) is not None:
            raise UserError(
                f"{folder}: holds a finished run of other settings, and nothing finished is overwritten; choose another folder"
            )
        done.unlink(missing_ok=True)  # a damaged report of a sweep's job, or one of another version
        result: dict[str, Any] = module.run(settings, folder, this_job(command))
    return result


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a checked config as plain values: below, nobody sees anything else."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in config.items()}


def this_job(command: str) -> Job:
    """Return how this run was started."""
    from distill_cli.config.command_line import job_line, typed_line
    from distill_cli.factory.context import Job

    config = HydraConfig.get()
    words = config.overrides.task
    if config.mode is not RunMode.MULTIRUN:
        return Job(None, typed_line(command, words))
    return Job(int(config.job.num), job_line(command, words), typed_line(command, words))


def finished_job(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Return the report of a folder's finished run if it is of this job, else None."""
    report = read_finished(folder / "report.json")
    return report if report is not None and is_of_job(folder, report, cfg, HydraConfig.get()) else None


def report_skipped(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Print that a run is already finished, and return its report."""
    print(f"skip {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder} (finished)")
    return report


@contextlib.contextmanager
def run_folder(cfg: DictConfig, command: str, out: Path, *, sweeping: bool) -> Iterator[Path]:
    """Yield the folder of a job, locked against other processes.

    The folder is the job's own, or that of an unfinished run that is resumed.
    """
    from distill_cli.runs import resume

    if command not in resume.RESUMED:
        with resume.lock_run_dir(out) if command not in SHOWING_COMMANDS else contextlib.nullcontext():
            forget_failures(out)
            yield out
        return
    hc = HydraConfig.get()
    key = config_key(cfg, hc)
    folder = resume.resolve_run_dir(cfg.resume, Path(cfg.outputs), command, out, key, sweeping=sweeping)
    with resume.lock_run_dir(folder):
        if folder != out:
            resume.redirect_log(out, folder)
            remove_empty_run(out, Path(cfg.outputs))
            output_dirs["job"] = folder
            print(f"resuming in {folder}", file=sys.stderr)
        forget_failures(folder)
        before = frozenset(os.listdir(folder))
        line = (job_line if sweeping else typed_line)(command, hc.overrides.task)
        resume.mark_started(folder, command, key, line)
        try:
            yield folder
        except UserError:
            resume.clean_up_failed_run(folder, before)
            raise


def forget_failures(folder: Path) -> None:
    """Remove the failure markers of an earlier attempt."""
    for name in RECORDS:
        (folder / name).unlink(missing_ok=True)


def read_finished(file: Path) -> dict[str, Any] | None:
    """Return an intact report of this recipe version, else None."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("recipe_version") == RECIPE_VERSION else None


def write_failure_marker(out: Path, code: int, line: str) -> None:
    """Write failed.json or missed.json into the folder of a sweep's job.

    The marker of a finished job that missed a `require` is missed.json. It holds the invocation id, because a parallel launcher
    returns no exit codes to the parent process. If another process has locked the folder, the marker is written beside it, until
    the sweep ends.
    """
    from distill_cli.utils.files import write_json
    from distill_cli.utils.locks import OWNER, try_lock

    name = "missed.json" if code == MISSED else "failed.json"
    marker = {"error": line, "exit": code, "invocation": os.environ.get("DISTILL_INVOCATION")}
    with try_lock(out / OWNER, {}) as owner:
        write_json(out / name if owner is None else out.with_name(f".{out.name}.{marker['invocation']}.refused.json"), marker)


def read_record(file: Path) -> dict[str, Any]:
    """Return a failure marker, empty where it cannot be read."""
    try:
        marker = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def remove_empty_run(out: Path, outputs: Path) -> None:
    """Remove a run folder that holds only Hydra's files, and empty parents.

    A folder that another process has locked stays.
    """
    from distill_cli.utils.locks import OWNER, try_lock

    with contextlib.suppress(UserError), try_lock(out / OWNER, {}) as owner:  # a link in place of the lock: nothing is removed
        if owner is None:
            remove_hydras(out)
    remove_empty(out, out.parent, outputs)


def remove_hydras(out: Path) -> None:
    """Remove Hydra's files from a run folder that holds nothing else.

    The folder must be locked by this process.
    """
    from distill_cli.utils.locks import OWNER

    states, own_log = out / "resume", f"{HydraConfig.get().job.name}.log"
    if states.is_dir() and not any(states.glob("*/*")):  # nothing has been trained
        shutil.rmtree(states, ignore_errors=True)
    if any(p.name not in (".hydra", own_log, OWNER) for p in out.iterdir()):
        return
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)  # the next message would open its file again
    shutil.rmtree(out / ".hydra", ignore_errors=True)
    (out / own_log).unlink(missing_ok=True)


def remove_empty(*folders: Path) -> None:
    """Remove empty folders in this order, up to the first that is not empty.

    The working folder is never removed.
    """
    with contextlib.suppress(OSError):
        for folder in folders:
            if folder.resolve() == Path.cwd():
                return
            folder.rmdir()


def run_command(command: str, json_to: TextIO | None = None) -> int:
    """Run Hydra on ``sys.argv``, and return the exit code.

    Args:
        command: name of the command.
        json_to: stream for the report as JSON, or None.
    """
    output_dirs.clear()
    raw = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra raises instead of printing, so that this module prints. Jobs of launchers inherit the environment.
    variables = {"HYDRA_FULL_ERROR": "1", "DISTILL_FULL_ERROR": str(int(raw)), "DISTILL_INVOCATION": secrets.token_hex(4)}
    with environment(variables | {"DISTILL_PROCESS": str(os.getpid())}):
        try:
            code = invoke_hydra(command, raw=raw)
        finally:
            before_end(None)
            if "sweep" in output_dirs:
                with contextlib.suppress(OSError):
                    stop_mark(output_dirs["sweep"]).unlink()
        if "sweep" in output_dirs and code <= SIGNALLED:
            return finish_sweep(output_dirs["sweep"], code, json_to)
    if json_to is not None and code in (0, MISSED) and "job" in output_dirs:
        json_to.write((output_dirs["job"] / "report.json").read_text(encoding="utf-8"))
    return code


def invoke_hydra(command: str, *, raw: bool) -> int:
    """Run Hydra, and return the exit code.

    Args:
        command: name of the command.
        raw: whether exceptions are passed on instead of printed.
    """
    try:
        if "-sc" not in sys.argv:
            check_arguments(command, sys.argv[1:])
        versioned: Any = {"execution_whitelist": ("distill_cli.*",)} if HYDRA14 else {"version_base": "1.3"}
        with install_handlers():
            compose_and_run(command, versioned)
    except KeyboardInterrupt as e:
        signum = e.signum if isinstance(e, Interrupted) else signal.SIGINT
        sys.stderr.write(f"\ndistill {command}: interrupted by {signal.Signals(signum).name}{resume_hint(command)}\n")
        return SIGNALLED + signum
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else BUG if e.code else 0
    except (UserError, HydraException, OmegaConfBaseException, OSError, YAMLError, ValueError) as e:
        if raw:
            raise
        sys.stderr.write(f"distill {command}: error: {printable(one_line(e, command, sys.argv[1:]))}\n")
        return USER_ERROR
    except Exception as e:
        if raw:
            raise
        if (line := composition_error(e, command, sys.argv[1:])) is None:
            traceback.print_exc()
            return BUG
        sys.stderr.write(f"distill {command}: error: {printable(line)}\n")
        return USER_ERROR
    return 0


def compose_and_run(command: str, versioned: Mapping[str, Any]) -> None:
    """Run the command line in Hydra, and restart a sweep whose worker was killed.

    Finished jobs are skipped.

    Raises:
        UserError: workers were killed repeatedly, or the sweeper cannot restart.
    """
    killed = finished = 0
    while True:
        try:
            hydra.main(config_path=str(conf_dir()), config_name=command, **versioned)(hydra_job)()
            return
        except BrokenExecutor:
            done = len(list(output_dirs["sweep"].rglob("report.json"))) if "sweep" in output_dirs else 0
            killed, finished = (killed + 1 if done == finished else 1), done
            advice = (
                "out of memory? run the same line again with a smaller hydra.launcher.n_jobs: it resumes from the last states"
            )
            if killed >= MOST_KILLED or "other sweeper" in output_dirs:
                raise UserError(f"hydra/launcher: a worker process was killed ({advice})") from None
            sys.stderr.write(f"distill {command}: a worker process was killed; the unfinished jobs are resumed\n")
            GlobalHydra.instance().clear()


def resume_hint(command: str) -> str:
    """Return the hint printed after an interrupted run: how to resume it."""
    if "sweep" in output_dirs:
        return f"; {output_dirs['sweep']} is unfinished: run the same line again to resume"
    if command not in ("distill", "train-teacher") or "job" not in output_dirs:
        return ""
    if (output_dirs["job"] / "report.json").is_file():
        return f"; {output_dirs['job']} is finished"
    return f"; {output_dirs['job']} is unfinished: run the same line with resume=auto to resume"


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def finish_sweep(folder: Path, code: int, json_to: TextIO | None) -> int:
    """Print a sweep's table, and return the exit code of the whole sweep.

    Args:
        folder: folder of the sweep.
        code: exit code of Hydra's own process.
        json_to: stream for the reports as a JSON list, or None.
    """
    from distill_cli.reports.sweep.collect import run_folders

    jobs = run_folders(folder) if folder.is_dir() else []
    if not jobs:  # the command line was rejected before the first job
        with contextlib.suppress(OSError):
            (folder / "multirun.yaml").unlink()
        remove_empty(folder, folder.parent, folder.parent.parent)
        return code
    from distill_cli.reports.sweep.write_sweep import sweep_report

    try:
        sweep_report(folder)
    except UserError as e:
        sys.stderr.write(f"distill report: error: {e}\n")
    if json_to is not None:
        reports = [json.loads(f.read_text(encoding="utf-8")) for job in jobs if (f := job / "report.json").is_file()]
        json_to.write(json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    places = {job.parent for job in jobs}
    refused = [f for place in places for f in place.glob(f".*.{os.environ['DISTILL_INVOCATION']}.refused.json")]
    files = [*(job / name for job in jobs for name in RECORDS), *refused]
    codes = {
        marker["exit"] for f in files if (marker := read_record(f)).get("invocation") == os.environ["DISTILL_INVOCATION"]
    } | {code}
    for f in refused:
        f.unlink()
    return next((c for c in (BUG, USER_ERROR, MISSED) if c in codes), 0)
