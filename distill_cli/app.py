"""The one place where Hydra starts: run folders, sweeps, skipping, exit codes. torch is imported by the task alone."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from distill_cli import RECIPE_VERSION
from distill_cli.config import (
    composing,
    schema,  # noqa: F401  (importing the schema registers it)
)
from distill_cli.config.gate import RequirementMissed, check_require, objective_of
from distill_cli.config.groups import conf_dir
from distill_cli.config.trials import RESOLVERS
from distill_cli.errors import UserError, UserErrors, printable
from distill_cli.explain import HYDRA14, check_arguments, one_line, stumbled
from distill_cli.interrupts import Interrupted, handled

BUG, USER_ERROR, MISSED, SIGNALLED = 1, 2, 3, 128
# They cannot move a result.
NOT_IN_KEY = ("hydra", "sweep", "outputs", "require", "objective", "report", "resume", "checkpoint", "logger", "progress")
log = logging.getLogger(__name__)
started: dict[str, Path] = {}  # "job" and "sweep": the folders of this process, told by the callback below


def run_key(*, _root_: DictConfig) -> str:
    """Return the name of one job of a sweep: a hash of all that can move its result."""
    return config_key(_root_, _root_.hydra)[:10]


def config_key(cfg: DictConfig, hydra_node: Any) -> str:
    """Return a hash of all in a config that can move the job's result."""
    from distill_cli.files import hash_json

    config = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(config, dict)
    moving = {k: v for k, v in config.items() if k not in NOT_IN_KEY}
    choices = {k: v for k, v in hydra_node.runtime.choices.items() if not k.startswith("hydra/") and k != "logger"}
    return hash_json([hydra_node.job.config_name, RECIPE_VERSION, moving, choices])


composing.install()
_register: Any = OmegaConf.register_resolver if HYDRA14 else OmegaConf.register_new_resolver
_register("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
_register("plus", lambda a, b: int(a) + int(b), replace=True)  # a seed beside the run's: ${plus:${seed},100}
_register("run_key", run_key, replace=True)
for _name, _resolver in RESOLVERS.items():
    _register(_name, _resolver, replace=True)
_register("sweep_key", lambda: os.environ.get("DISTILL_SWEEP_KEY", "sweep"), replace=True)


class RecordSweepDir(Callback):
    """Remembers where a job or a sweep writes: Hydra's main returns nothing. Keeps Hydra, too, out of finished folders."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """End the process where a finished run lies in the folder: Hydra writes there before any job is asked."""
        try:
            folder, command = Path(config.hydra.run.dir), str(config.hydra.job.config_name)
        except OmegaConfBaseException:
            return  # said when the config is checked
        said = ""
        if (folder / "report.json").is_file():
            said = f"hydra.run.dir={folder}: holds a finished run, and nothing finished is overwritten; choose another folder"
        elif folder.is_dir():
            from distill_cli.files import refuse_links

            try:
                refuse_links(folder, (".hydra", f"{config.hydra.job.name}.log"))
            except UserError as e:
                said = str(e)
        if said:
            sys.stderr.write(f"distill {command}: error: {printable(said)}\n")
            raise SystemExit(USER_ERROR)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder."""
        started["sweep"] = Path(config.hydra.sweep.dir)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note the run's folder."""
        started["job"] = Path(config.hydra.runtime.output_dir)


def task(cfg: DictConfig) -> float:
    """Run one job, at module level so that launchers can pickle it.

    Returns:
        The number at `objective` in the report; NaN when a job of a sweep failed, so that the others go on.

    Raises:
        SystemExit: a single run that failed.
    """
    hc = HydraConfig.get()
    command, out = str(hc.job.config_name), Path(hc.runtime.output_dir)
    sweeping = hc.mode is RunMode.MULTIRUN
    typed = [str(o) for o in OmegaConf.to_container(hc.overrides.task, resolve=False) or []]
    code, line, lines = 0, "", list[str]()
    try:
        with handled():
            report = perform(cfg, command, out, typed, may_skip=sweeping)
        out = started.get("job", out)
        if not report:  # a command that only shows something
            discard(out, Path(cfg.outputs))
            return 0.0
        check_require(report, cfg.require, command)
        return objective_of(report, cfg.objective) if sweeping else 0.0
    except RequirementMissed as e:
        code, line = MISSED, str(e)
    except UserError as e:
        code, line, lines = USER_ERROR, str(e), e.lines if isinstance(e, UserErrors) else []
    except Exception as e:
        if os.environ.get("DISTILL_FULL_ERROR") == "1":
            raise
        code = BUG
        log.exception("job failed")
        out = started.get("job", out)
        line = f"{type(e).__name__}: {' '.join(str(e).split())} (traceback in {out / hc.job.name}.log)"
        if not sweeping:
            traceback.print_exc()
    if sweeping or code != BUG:
        error = "" if code == MISSED else "error: "
        label = f"{' '.join(typed)}: " if sweeping else ""
        for one in lines or [line]:
            sys.stderr.write(f"distill {command}: {error}{printable(label + one)}\n")
    if not sweeping:
        if code == USER_ERROR:
            discard(started.get("job", out), Path(cfg.outputs))
        raise SystemExit(code)
    record(out, code, line)
    return float("nan")


def perform(cfg: DictConfig, command: str, out: Path, typed: list[str], *, may_skip: bool) -> dict[str, Any]:
    """Return the report of one job: the finished one where there is one, else that of a new run."""
    for word in ("failed.json", "missed.json"):
        (out / word).unlink(missing_ok=True)
    if may_skip and (report := read_finished(out / "report.json")) is not None:
        return skipped(out, report)
    from distill_cli.config.validate import check

    try:
        check(cfg, command, typed)
    except OmegaConfBaseException as e:
        raise UserError(one_line(e, command)) from None
    module = importlib.import_module(f"distill_cli.commands.{command.replace('-', '_')}")
    with run_folder(cfg, command, out, sweeping=may_skip) as folder:
        done = folder / "report.json"
        if (report := read_finished(done)) is not None:  # by another process, since it was last looked for
            return skipped(folder, report)
        done.unlink(missing_ok=True)  # a job's of a sweep, damaged or of another version
        result: dict[str, Any] = module.run(cfg, folder)
    return result


def skipped(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Say that a run is finished already, and return its report."""
    print(f"skip {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder} (finished)")
    return report


@contextlib.contextmanager
def run_folder(cfg: DictConfig, command: str, out: Path, *, sweeping: bool) -> Iterator[Path]:
    """Yield the folder that a job runs in, held against other processes: its own, or an unfinished run's that it goes on with."""
    from distill_cli import unfinished

    if command not in unfinished.RESUMED:
        yield out
        return
    hc = HydraConfig.get()
    key = config_key(cfg, hc)
    folder = unfinished.choose(cfg.resume, Path(cfg.outputs), command, out, key, sweeping=sweeping)
    with unfinished.owned(folder):
        if folder != out:
            unfinished.move_log(out, folder)
            discard(out, Path(cfg.outputs))
            started["job"] = folder
            print(f"resume: going on in {folder}", file=sys.stderr)
        before = frozenset(os.listdir(folder))
        unfinished.begin(folder, command, key, shlex.join(["distill", command, *hc.overrides.task]))
        try:
            yield folder
        except UserError:
            unfinished.take_back(folder, before)
            raise


def read_finished(file: Path) -> dict[str, Any] | None:
    """Return a report that is there, whole, and of this recipe version; else None."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("recipe_version") == RECIPE_VERSION else None


def record(out: Path, code: int, line: str) -> None:
    """Leave a word in a sweep's job folder: failed.json, or missed.json for a finished job that missed a `require`.

    The word names the invocation, because the parent of a parallel launcher hears of its jobs in no other way.
    """
    from distill_cli.files import write_json

    name = "missed.json" if code == MISSED else "failed.json"
    write_json(out / name, {"error": line, "exit": code, "invocation": os.environ.get("DISTILL_INVOCATION")})


def discard(out: Path, outputs: Path) -> None:
    """Remove a run folder in which Hydra alone has written, and the folders above it that are empty then."""
    begun, own_log = out / "resume", f"{HydraConfig.get().job.name}.log"
    if begun.is_dir() and not any(begun.glob("*/*")):  # nothing has been trained
        shutil.rmtree(begun, ignore_errors=True)
    if any(p.name not in (".hydra", own_log) for p in out.iterdir()):
        return
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)  # the next message would open its file again
    shutil.rmtree(out / ".hydra", ignore_errors=True)
    (out / own_log).unlink(missing_ok=True)
    remove_empty(out, out.parent, outputs)


def remove_empty(*folders: Path) -> None:
    """Remove folders, in this order, up to the first that holds something or is the working folder."""
    with contextlib.suppress(OSError):
        for folder in folders:
            if folder.resolve() == Path.cwd():
                return
            folder.rmdir()


def run_command(command: str, json_to: TextIO | None = None) -> int:
    """Hand ``sys.argv`` to Hydra and return the exit code; with `json_to`, write the report there."""
    started.clear()
    raw = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra raises instead of printing: printing is ours. Launchers hand the environment on to their jobs.
    ours = {"HYDRA_FULL_ERROR": "1", "DISTILL_FULL_ERROR": str(int(raw)), "DISTILL_INVOCATION": secrets.token_hex(4)}
    with environment(ours):
        code = start(command, raw=raw)
        if "sweep" in started and code <= SIGNALLED:
            return finish_sweep(started["sweep"], code, json_to)
    if json_to is not None and code in (0, MISSED) and "job" in started:
        json_to.write((started["job"] / "report.json").read_text(encoding="utf-8"))
    return code


def start(command: str, *, raw: bool) -> int:
    """Run Hydra and return the exit code; with `raw`, let its exceptions through."""
    try:
        if "-sc" not in sys.argv:
            check_arguments(command, sys.argv[1:])
        versioned: Any = {"execution_whitelist": ("distill_cli.*",)} if HYDRA14 else {"version_base": "1.3"}
        with handled():
            hydra.main(config_path=str(conf_dir()), config_name=command, **versioned)(task)()
    except KeyboardInterrupt as e:
        signum = e.signum if isinstance(e, Interrupted) else signal.SIGINT
        sys.stderr.write(f"\ndistill {command}: interrupted by {signal.Signals(signum).name}{how_to_go_on(command)}\n")
        return SIGNALLED + signum
    except BrokenPipeError:
        raise
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
        if (line := stumbled(e, command, sys.argv[1:])) is None:
            traceback.print_exc()
            return BUG
        sys.stderr.write(f"distill {command}: error: {printable(line)}\n")
        return USER_ERROR
    return 0


def how_to_go_on(command: str) -> str:
    """Return the end of the line that a signal's end of a run is told by."""
    if "sweep" in started:
        return f"; {started['sweep']} is unfinished: run the same line again to go on"
    if command not in ("distill", "train-teacher") or "job" not in started:
        return ""
    if (started["job"] / "report.json").is_file():
        return f"; {started['job']} is finished"
    return f"; {started['job']} is unfinished: run the same line with resume=auto to go on"


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
    jobs = sorted(p.parent for p in folder.glob("*/.hydra"))
    if not jobs:  # the line was refused before the first job
        with contextlib.suppress(OSError):
            (folder / "multirun.yaml").unlink()
        remove_empty(folder, folder.parent, folder.parent.parent)
        return code
    from distill_cli.reports.leaderboard import sweep_report

    try:
        sweep_report(folder)
    except UserError as e:
        sys.stderr.write(f"distill report: error: {e}\n")
    if json_to is not None:
        reports = [json.loads(f.read_text(encoding="utf-8")) for job in jobs if (f := job / "report.json").is_file()]
        json_to.write(json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    files = [*folder.glob("*/failed.json"), *folder.glob("*/missed.json")]
    words = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    codes = {w["exit"] for w in words if w["invocation"] == os.environ["DISTILL_INVOCATION"]} | {code}
    return next((c for c in (BUG, USER_ERROR, MISSED) if c in codes), 0)
