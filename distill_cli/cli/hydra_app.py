"""The one place where Hydra starts: run folders, sweeps, skipping, exit codes. torch is imported by the task alone."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import secrets
import shlex
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
# They cannot move a result.
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
# Settings of Hydra that stay as they are, and why.
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "hydra.output_subdir": ((".hydra",), "tables read there what was typed"),
    "hydra.job.chdir": ((False, None), "relative paths are those of the folder that you stand in"),
}
RECORDS = ("failed.json", "missed.json")  # what a job of a sweep leaves that failed, or missed a `require`
log = logging.getLogger(__name__)
output_dirs: dict[str, Path] = {}  # "job" and "sweep": the folders of this process, told by the callback below


def run_key(*, _root_: DictConfig) -> str:
    """Return the name of one job of a sweep: a hash of all that can move its result."""
    return config_key(_root_, _root_.hydra)[:10]


def config_key(cfg: DictConfig, hydra_node: Any) -> str:
    """Return a hash of all in a config that can move the job's result."""
    from distill_cli.utils.files import hash_json

    config = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(config, dict)
    moving = {k: v for k, v in config.items() if k not in NOT_IN_KEY}
    choices = {k: v for k, v in hydra_node.runtime.choices.items() if not k.startswith("hydra/") and k != "logger"}
    return hash_json([hydra_node.job.config_name, RECIPE_VERSION, moving, choices])


composing.install()


def moving_values(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved values of a config that can move a result, as a report keeps them."""
    from distill_cli.utils.files import to_jsonable

    names = [str(key) for key in cfg if key not in NOT_IN_KEY]
    whole = {name: cfg[name] for name in names}
    return {k: to_jsonable(OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v) for k, v in whole.items()}


def is_of_job(folder: Path, report: Mapping[str, Any], cfg: DictConfig, hydra_node: Any) -> bool:
    """Return whether a finished run is of a job: its folder is named by the job's key, or its config says so."""
    if folder.name.endswith(config_key(cfg, hydra_node)[:10]):
        return True
    own = report.get("config")
    if report.get("command") != hydra_node.job.config_name or not isinstance(own, dict):
        return False
    return {k: v for k, v in own.items() if k not in NOT_IN_KEY} == moving_values(cfg)


def job_folder(name: Any, *, _root_: DictConfig) -> str:
    """Return where a job of a sweep runs: as `hydra.sweep.subdir` names it, or beside it where another job has finished there."""
    folder = Path(_root_.hydra.sweep.dir) / str(name)
    report = read_finished(folder / "report.json")
    return str(name) if report is None or is_of_job(folder, report, _root_, _root_.hydra) else f"{name}-{run_key(_root_=_root_)}"


_register: Any = OmegaConf.register_resolver if HYDRA14 else OmegaConf.register_new_resolver
_register("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
_register("plus", lambda a, b: int(a) + int(b), replace=True)  # a seed beside the run's: ${plus:${seed},100}
_register("run_key", run_key, replace=True)
_register("path", expanded, replace=True)
_register("job_folder", job_folder, replace=True)
for _name, _resolver in RESOLVERS.items():
    _register(_name, _resolver, replace=True)
_register("sweep_key", lambda: os.environ.get("DISTILL_SWEEP_KEY", "sweep"), replace=True)


def refuse_settings(config: DictConfig) -> None:
    """End the process where a setting of Hydra takes away what runs and tables need."""
    command = str(config.hydra.job.config_name)
    for key, (usual, why) in FIXED.items():
        if key == "hydra.output_subdir" and command in SHOWING_COMMANDS:
            continue
        value = OmegaConf.select(config, key)
        if value not in usual:
            shown = "null" if value is None else str(value).lower()
            end(command, f"{key}={shown}: {why}; leave it out")


def end(command: str, line: str) -> NoReturn:
    """Say what the user did wrong, and end the process."""
    sys.stderr.write(f"distill {command}: error: {printable(line)}\n")
    raise SystemExit(USER_ERROR)


class RecordSweepDir(Callback):
    """Remembers where a job or a sweep writes: Hydra's main returns nothing. Keeps Hydra, too, out of finished folders."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """End the process where a finished run lies in the folder: Hydra writes there before any job is asked."""
        refuse_settings(config)
        if config.hydra.job.config_name in SHOWING_COMMANDS:
            return  # nothing is written
        try:
            config.hydra.run.dir = expanded(config.hydra.run.dir)
            folder, command = Path(config.hydra.run.dir), str(config.hydra.job.config_name)
        except OmegaConfBaseException:
            return  # said when the config is checked
        said = ""
        if (folder / "report.json").is_file():
            said = f"hydra.run.dir={folder}: holds a finished run, and nothing finished is overwritten; choose another folder"
        elif folder.is_dir():
            from distill_cli.utils.files import ensure_no_symlinks
            from distill_cli.utils.locks import refuse_owned

            try:
                refuse_owned(folder.absolute())
                ensure_no_symlinks(folder, (".hydra", f"{config.hydra.job.name}.log"))
            except UserError as e:
                said = str(e)
        if said:
            end(command, said)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder."""
        refuse_settings(config)
        output_dirs["sweep"] = folder = Path(config.hydra.sweep.dir)
        if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
            output_dirs["other sweeper"] = folder
        before_end(lambda: stop_jobs(folder))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note the run's folder."""
        output_dirs["job"] = Path(config.hydra.runtime.output_dir)


def hydra_job(cfg: DictConfig) -> float:
    """Run one job, at module level so that launchers can pickle it.

    Returns:
        The number at `optimized_metric` in the report; the worst there is when a job of a sweep failed, so that the others go on.

    Raises:
        SystemExit: a single run that failed.
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
        line = f"its process was ended by {signal.Signals(e.signum).name}; {out} is unfinished: run the same line again to go on"
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
        for one in lines or [line]:
            sys.stderr.write(f"distill {command}: {error}{printable(label + one)}\n")
    if not sweeping:
        if code == USER_ERROR and command not in SHOWING_COMMANDS:
            remove_empty_run(output_dirs.get("job", out), Path(cfg.outputs))
        raise SystemExit(code)
    write_failure_marker(out, code, line)
    return worst(hc.sweeper)


def worst(sweeper: Any) -> float:
    """Return what a failed job is worth to a sweeper: the worst number there is, since some end the sweep at NaN."""
    keys = {"direction": "minimize", "optim.maximize": False, "ax_config.experiment.minimize": True}
    minimizes = any(str(OmegaConf.select(sweeper, key)).rpartition(".")[2] == str(value) for key, value in keys.items())
    return math.inf if minimizes else -math.inf


def is_worker() -> bool:
    """Return whether this is a process that a parallel launcher started, and not the one that the user did."""
    return os.environ.get("DISTILL_PROCESS", str(os.getpid())) != str(os.getpid())


def stop_mark(sweep: Path) -> Path:
    """Return the file that, while it is there, says to the jobs of this invocation that no further one is to begin."""
    return sweep / f".{os.environ.get('DISTILL_INVOCATION')}.stop"


def stop_jobs(sweep: Path) -> None:
    """Let the jobs of this invocation that run in other processes save their states, and wait until they have."""
    from distill_cli.utils.files import write_text
    from distill_cli.utils.locks import OWNER, owner_of

    if not sweep.is_dir():
        return
    write_text(stop_mark(sweep), "")
    asked: set[int] = set()
    while True:
        owners = [owner for path in sweep.rglob(OWNER) if (owner := owner_of(path))]
        mine = [
            o["pid"] for o in owners if o.get("invocation") == os.environ.get("DISTILL_INVOCATION") and o["pid"] != os.getpid()
        ]
        if not mine:
            return
        for pid in set(mine) - asked:
            asked.add(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)


def expand_paths(node: DictConfig, prefix: str = "") -> None:
    """Expand the paths of a config that were not typed but come from a file."""
    for key in node:
        value = node._get_node(key)
        if isinstance(value, DictConfig):
            if not (value._is_none() or value._is_missing() or value._is_interpolation()):
                expand_paths(value, f"{prefix}{key!s}.")
        elif value is not None and is_path(f"{prefix}{key!s}") and isinstance(text := value._value(), str) and "${" not in text:
            node[key] = expanded(text)


def run_job(cfg: DictConfig, command: str, out: Path, typed: list[str], *, may_skip: bool) -> dict[str, Any]:
    """Return the report of one job: the finished one where there is one, else that of a new run."""
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
        if (report := finished_job(cfg, folder)) is not None:  # by another process, since it was last looked for
            return report_skipped(folder, report)
        if read_finished(done) is not None:
            raise UserError(
                f"{folder}: holds a finished run of other settings, and nothing finished is overwritten; choose another folder"
            )
        done.unlink(missing_ok=True)  # a job's of a sweep, damaged or of another version
        result: dict[str, Any] = module.run(settings, folder, this_job(command))
    return result


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a checked config as plain values: below, nobody sees anything else."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in config.items()}


def this_job(command: str) -> Job:
    """Return how this run was started; in a sweep, the line that runs this job alone."""
    from distill_cli.factory.context import Job

    config = HydraConfig.get()
    number = int(config.job.num) if config.mode is RunMode.MULTIRUN else None
    return Job(number, shlex.join(["distill", command, *config.overrides.task]))


def finished_job(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Return the report of the finished run in a folder if it is of this job, else None."""
    report = read_finished(folder / "report.json")
    return report if report is not None and is_of_job(folder, report, cfg, HydraConfig.get()) else None


def report_skipped(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Say that a run is finished already, and return its report."""
    print(f"skip {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder} (finished)")
    return report


@contextlib.contextmanager
def run_folder(cfg: DictConfig, command: str, out: Path, *, sweeping: bool) -> Iterator[Path]:
    """Yield the folder that a job runs in, held against other processes: its own, or an unfinished run's that it goes on with."""
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
            print(f"resume: going on in {folder}", file=sys.stderr)
        forget_failures(folder)
        before = frozenset(os.listdir(folder))
        resume.mark_started(folder, command, key, shlex.join(["distill", command, *hc.overrides.task]))
        try:
            yield folder
        except UserError:
            resume.clean_up_failed_run(folder, before)
            raise


def forget_failures(folder: Path) -> None:
    """Remove what `record` left of an earlier attempt."""
    for name in RECORDS:
        (folder / name).unlink(missing_ok=True)


def read_finished(file: Path) -> dict[str, Any] | None:
    """Return a report that is there, whole, and of this recipe version; else None."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("recipe_version") == RECIPE_VERSION else None


def write_failure_marker(out: Path, code: int, line: str) -> None:
    """Leave a word in a sweep's job folder: failed.json, or missed.json for a finished job that missed a `require`.

    The word names the invocation, because the parent of a parallel launcher hears of its jobs in no other way. Where another
    process runs in the folder the word stands beside it, until the sweep ends.
    """
    from distill_cli.utils.files import write_json
    from distill_cli.utils.locks import OWNER, try_lock

    name = "missed.json" if code == MISSED else "failed.json"
    word = {"error": line, "exit": code, "invocation": os.environ.get("DISTILL_INVOCATION")}
    with try_lock(out / OWNER, {}) as owner:
        write_json(out / name if owner is None else out.with_name(f".{out.name}.{word['invocation']}.refused.json"), word)


def read_record(file: Path) -> dict[str, Any]:
    """Return what `record` has left; nothing where it cannot be read."""
    try:
        word = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return word if isinstance(word, dict) else {}


def remove_empty_run(out: Path, outputs: Path) -> None:
    """Remove a run folder in which Hydra alone has written, and the folders above it that are empty then.

    Where another process is running it stays as it is.
    """
    from distill_cli.utils.locks import OWNER, try_lock

    with contextlib.suppress(UserError), try_lock(out / OWNER, {}) as owner:  # where a link is in its place nothing is touched
        if owner is None:
            remove_hydras(out)
    remove_empty(out, out.parent, outputs)


def remove_hydras(out: Path) -> None:
    """Remove what Hydra has written into a run folder, if nobody else has written there; this process owns the folder."""
    from distill_cli.utils.locks import OWNER

    begun, own_log = out / "resume", f"{HydraConfig.get().job.name}.log"
    if begun.is_dir() and not any(begun.glob("*/*")):  # nothing has been trained
        shutil.rmtree(begun, ignore_errors=True)
    if any(p.name not in (".hydra", own_log, OWNER) for p in out.iterdir()):
        return
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)  # the next message would open its file again
    shutil.rmtree(out / ".hydra", ignore_errors=True)
    (out / own_log).unlink(missing_ok=True)


def remove_empty(*folders: Path) -> None:
    """Remove folders, in this order, up to the first that holds something or is the working folder."""
    with contextlib.suppress(OSError):
        for folder in folders:
            if folder.resolve() == Path.cwd():
                return
            folder.rmdir()


def run_command(command: str, json_to: TextIO | None = None) -> int:
    """Hand ``sys.argv`` to Hydra and return the exit code; with `json_to`, write the report there."""
    output_dirs.clear()
    raw = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra raises instead of printing: printing is ours. Launchers hand the environment on to their jobs.
    ours = {"HYDRA_FULL_ERROR": "1", "DISTILL_FULL_ERROR": str(int(raw)), "DISTILL_INVOCATION": secrets.token_hex(4)}
    with environment(ours | {"DISTILL_PROCESS": str(os.getpid())}):
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
    """Run Hydra and return the exit code; with `raw`, let its exceptions through."""
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
    """Hand the command line to Hydra; a sweep whose worker is killed goes on with the jobs that are not finished.

    Raises:
        UserError: workers were killed again and again, or under a sweeper that cannot begin again.
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
                "out of memory? run the same line again with a smaller hydra.launcher.n_jobs: it goes on from the last states"
            )
            if killed >= MOST_KILLED or "other sweeper" in output_dirs:
                raise UserError(f"hydra/launcher: a worker process was killed ({advice})") from None
            sys.stderr.write(f"distill {command}: a worker process was killed; the jobs that are not finished go on\n")
            GlobalHydra.instance().clear()


def resume_hint(command: str) -> str:
    """Return the end of the line that a signal's end of a run is told by."""
    if "sweep" in output_dirs:
        return f"; {output_dirs['sweep']} is unfinished: run the same line again to go on"
    if command not in ("distill", "train-teacher") or "job" not in output_dirs:
        return ""
    if (output_dirs["job"] / "report.json").is_file():
        return f"; {output_dirs['job']} is finished"
    return f"; {output_dirs['job']} is unfinished: run the same line with resume=auto to go on"


@contextlib.contextmanager
def environment(ours: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def finish_sweep(folder: Path, code: int, json_to: TextIO | None) -> int:
    """Print a sweep's table, write its reports as a JSON list where asked, and return the exit code of the whole."""
    from distill_cli.reports.sweep.collect import run_folders

    jobs = run_folders(folder) if folder.is_dir() else []
    if not jobs:  # the line was refused before the first job
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
    beside = [f for place in places for f in place.glob(f".*.{os.environ['DISTILL_INVOCATION']}.refused.json")]
    files = [*(job / name for job in jobs for name in RECORDS), *beside]
    codes = {word["exit"] for f in files if (word := read_record(f)).get("invocation") == os.environ["DISTILL_INVOCATION"]} | {
        code
    }
    for f in beside:
        f.unlink()
    return next((c for c in (BUG, USER_ERROR, MISSED) if c in codes), 0)
