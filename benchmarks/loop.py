"""The fit loop against a bare hand-written loop, in one process, interleaved.

    python benchmarks/loop.py

Both distil the heartbeat pair (17,221 -> 3,909 parameters, batch 64, one thread, soft targets) on the same random beats
with the same optimizer, the teacher in the loop or its outputs cached. They take turns of 100 steps, 60 each, in alternating
order; ours over bare in neighbouring turns is one ratio, and the median of 60 is printed as `ratio in loop: X` and
`ratio cached: X`. Validation is left out of both; what the tool does besides (choosing weights, checking for NaN, records) is
in. Freed memory is kept for both (docs/decisions/0003). Then what training states cost, and start-up times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from distill_cli.data.loader import EpochBatchSampler, SubsetLoader
from distill_cli.data.stored_views import StoredViews
from distill_cli.losses.objective import Objective
from distill_cli.losses.soft_target import SoftTarget
from distill_cli.models.classifier import Classifier
from distill_cli.models.cnn1d import CNN1d
from distill_cli.rng import seeded
from distill_cli.runs.training_checkpoint import CheckpointManager
from distill_cli.teachers.frozen import FrozenTeacher
from distill_cli.teachers.output_cache import OutputCacheSpec, get_or_compute_outputs
from distill_cli.training.lr_schedules import constant
from distill_cli.training.model_selection import ModelSelection
from distill_cli.training.state import TrainerState, capture_state
from distill_cli.training.trainer import Precision, Trainer
from distill_cli.types import Pool, Stage, Teacher
from distill_cli.utils.allocator import disable_malloc_trim

BATCH, STEPS, TURNS, STARTS, CLASSES, SHAPE = 64, 100, 60, 5, 5, (1, 187)
TEMPERATURE, ALPHA, RATE = 2.0, 0.9, 1e-3


def beats() -> Pool:
    """Return random beats with random classes."""
    draw = np.random.default_rng(0)
    rows = BATCH * STEPS
    x = draw.random((rows, *SHAPE), dtype=np.float32)
    return Pool(x, np.arange(rows), draw.integers(0, CLASSES, rows), np.arange(rows))


def network(filters: int, hidden: int) -> Classifier:
    """Return one of the pair, with the same weights every time."""
    with seeded(0, "init"):
        return Classifier(CNN1d(CLASSES, SHAPE, filters, hidden), "none", SHAPE)


def bare(pool: Pool, in_loop: bool) -> Callable[[], float]:
    """Return the loop one would write by hand: a call makes one epoch and returns its seconds."""
    student, teacher = network(32, 16).network, network(64, 64).network.eval()
    x, y = torch.from_numpy(pool.x), torch.from_numpy(pool.y)
    optimizer = torch.optim.Adam(student.parameters(), RATE, fused=True)
    student.train()
    with torch.no_grad():
        kept = None if in_loop else torch.cat([teacher(part) for part in x.split(256)])

    def epoch() -> float:
        start = time.perf_counter()
        order = torch.randperm(len(x))
        for step in range(STEPS):
            rows = order[step * BATCH : (step + 1) * BATCH]
            inputs = x[rows]
            with torch.no_grad():
                wanted = teacher(inputs) if kept is None else kept[rows]
            logits = student(inputs)
            log_p, log_q = F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(wanted / TEMPERATURE, 1)
            soft = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
            loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return epoch


def ours(pool: Pool, in_loop: bool) -> Callable[[], float]:
    """Return the tool's loop: a call makes one epoch and returns its seconds."""
    trainer, stage = training(pool, in_loop)

    def epoch() -> float:
        start = time.perf_counter()
        trainer.fit([stage], ModelSelection(), lambda record: None)
        return time.perf_counter() - start

    return epoch


def training(pool: Pool, in_loop: bool) -> tuple[Trainer, Stage]:
    """Return the tool's loop and its only stage."""
    student, cpu = network(32, 16), torch.device("cpu")
    rows = SubsetLoader(pool, CLASSES, cpu)
    sampler = EpochBatchSampler(pool.y, BATCH, seed=0)
    model = network(64, 64).eval()
    with tempfile.TemporaryDirectory() as folder:  # a memory-mapped file stays readable when its name is gone
        teacher: Teacher = (
            FrozenTeacher(model)
            if in_loop
            else get_or_compute_outputs(OutputCacheSpec(Path(folder), {}, max_gb=1), model, [], StoredViews(rows))[0]
        )
    objective = Objective({"loss": SoftTarget(TEMPERATURE, ALPHA)}, {"loss": 1.0})
    optimizer = torch.optim.Adam(student.parameters(), RATE, fused=True)
    stage = Stage("train", objective, 1, sampler.steps_per_epoch, optimizer, constant(optimizer, sampler.steps_per_epoch))
    trainer = Trainer(
        "student", student, rows, sampler, [teacher], lambda m: {"macro_f1": 0.0}, seed=0, precision=Precision("32", cpu)
    )
    return trainer, stage


def cost_of_states() -> None:
    """Print what asking after every step whether a state is due costs, and what writing one a minute does."""
    pool = beats()
    trainer, stage = training(pool, in_loop=False)
    selection = ModelSelection()
    seconds: list[float] = []
    writes: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        states = CheckpointManager(Path(folder), "benchmark", every_seconds=3600.0, resume=False)
        for turn in range(TURNS):
            asks = turn % 2 == 1
            course = TrainerState()
            course.begin_epoch(None, 1)
            trainer.checkpoints = states if asks else None
            start = time.perf_counter()
            trainer.train_epoch(stage, 0, course)
            writes[asks].append(time.perf_counter() - start)
        selection.update(0, {"macro_f1": 0.0}, trainer.model)
        for _ in range(20):
            start = time.perf_counter()
            states.save(capture_state(course, trainer.model, [stage], selection, None))
            seconds.append(time.perf_counter() - start)
    asking = statistics.median(writes[True]) / statistics.median(writes[False]) - 1
    write = statistics.median(seconds)
    print(f"states: asking after every step {asking:+.2%} of the loop, a write {1000 * write:.1f} ms")
    print(f"a state every minute costs {max(0.0, asking) + write / 60:.2%}", flush=True)


def compare(title: str, in_loop: bool) -> None:
    """Print both loops' speeds and the median of their ratios."""
    pool = beats()
    loops = {"bare": bare(pool, in_loop), "ours": ours(pool, in_loop)}
    for epoch in loops.values():
        epoch()
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    for turn in range(TURNS):
        for name in ("bare", "ours") if turn % 2 == 0 else ("ours", "bare"):
            seconds[name].append(loops[name]())
    ratios = [bare / ours for bare, ours in zip(seconds["bare"], seconds["ours"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    speeds = {name: len(pool) / statistics.median(spent) for name, spent in seconds.items()}
    print(
        f"{title}: bare {speeds['bare']:,.0f} samples/s, ours {speeds['ours']:,.0f} samples/s, "
        f"middle half of {TURNS} ratios {low:.3f} to {high:.3f}"
    )
    print(f"ratio {'in loop' if in_loop else 'cached'}: {statistics.median(ratios):.3f}", flush=True)


def start_up(*words: str) -> None:
    """Print the median wall time of a command that trains nothing."""
    times = []
    for _ in range(STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "distill_cli", *words], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    print(f"start-up of `distill {' '.join(words)}`: {statistics.median(times):.3f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_malloc_trim()
    compare("teacher in the loop", in_loop=True)
    compare("teacher's outputs cached", in_loop=False)
    cost_of_states()
    for command in (["--help"], ["distill", "--help"], ["distill", "--cfg", "job"], ["report", "--help"]):
        start_up(*command)
