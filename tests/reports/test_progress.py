"""Progress lines of a training or an input: first, last, and not too many between; a bar on a terminal."""

from __future__ import annotations

import io
from typing import Any

from distill_cli.reports.progress import Progress
from distill_cli.types import EpochRecord


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(epoch: int, score: float, best: bool) -> EpochRecord:
    return EpochRecord(
        "student",
        "train",
        epoch,
        epoch * 10,
        1e-3,
        0.5,
        {"loss": 0.5},
        {"macro_f1": score, "accuracy": 0.9, "nll": 0.3},
        1.0,
        best,
    )


def run(epochs: int, planned: int, seconds: float, **how: Any) -> list[str]:
    clock, out = Clock(), io.StringIO()
    with Progress(file=out, clock=clock, **how) as progress:
        progress.start("student", planned, 1000)
        for epoch in range(1, epochs + 1):
            progress.step(500)
            clock.now += seconds
            progress.epoch(record(epoch, 0.8 + epoch / 100 if epoch < 4 else 0.7, epoch < 4))
        progress.finish()
    return out.getvalue().splitlines()


def test_lines_say_where_training_is() -> None:
    lines = run(4, 10, 6.0)
    assert lines[0] == "student 1/10: loss 0.5, val macro_f1 0.810, best 0.810 (epoch 1), 167 samples/s, 54 s left"
    assert "val macro_f1 0.700, best 0.830 (epoch 3)" in lines[3]


def test_quick_epochs_print_the_first_the_last_and_one_in_five_seconds() -> None:
    lines = run(100, 100, 0.5)
    assert [line.split()[1] for line in lines] == ["1/100:", *(f"{n}/100:" for n in range(11, 100, 10)), "100/100:"]


def test_early_stopping_still_prints_the_last_epoch_once() -> None:
    assert [line.split()[1] for line in run(7, 100, 0.5)] == ["1/100:", "7/100:"]


def test_quiet_prints_nothing_and_a_failure_ends_it() -> None:
    assert run(3, 3, 1.0, level="quiet") == []


def test_verbose_prints_every_epoch_with_its_terms() -> None:
    lines = run(100, 100, 0.5, level="verbose")
    assert len(lines) == 100 and "loss 0.5 (loss 0.5), val macro_f1" in lines[49]


def test_seconds_between_lines_can_be_chosen() -> None:
    assert len(run(100, 100, 0.5, every=25)) == 3


def test_a_long_epoch_has_lines_of_its_own() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(file=out, clock=clock)
    progress.start("student", 3, 1000, 10)
    for rows in (100, 500, 900):
        clock.now += 4
        progress.step(rows)
    assert out.getvalue() == "student 1/3: step 5/30, 62 samples/s\n"


def test_say_prints_at_once() -> None:
    out = io.StringIO()
    Progress(file=out).say("teacher: found x")
    assert out.getvalue() == "teacher: found x\n"


def test_on_a_terminal_a_bar_moves_and_stops(terminal: Any) -> None:
    out = terminal(120)
    with Progress(file=out) as progress:
        progress.start("stud[ent]", 2, 1000)
        progress.step(300)
        progress.epoch(record(1, 0.81, True))
        progress.say("teacher [found]")
        progress.epoch(record(2, 0.82, True))
    text = out.getvalue()
    assert "stud[ent]" in text and "2/2" in text and "best 0.820 (epoch 2)" in text and "teacher [found]" in text


def read(**how: Any) -> list[str]:
    clock, out = Clock(), io.StringIO()
    with Progress(file=out, clock=clock, **how) as progress:
        progress.read("predict x.csv", 1000)
        for done in range(0, 1001, 100):
            progress.move(done, done * 5)
            clock.now += 2
        progress.say("done")
    return out.getvalue().splitlines()


def test_an_input_has_lines_now_and_then_with_speed_and_time_left() -> None:
    lines = read()
    assert lines[0] == "predict x.csv 30%: 1,500 rows, 250 rows/s, 14 s left" and lines[-1] == "done" and len(lines) == 4
    assert len(read(every=100)) == 1 and read(level="quiet") == []


def test_on_a_terminal_a_bar_follows_an_input(terminal: Any) -> None:
    out = terminal(120)
    with Progress(file=out) as progress:
        progress.read("predict [x].csv", 10)
        progress.move(5, 50)
        progress.say("note: [a]")
    text = out.getvalue()
    assert "predict [x].csv" in text and "50 rows" in text and "50%" in text and "note: [a]" in text
