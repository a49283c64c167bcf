"""The progress of a stream: a line now and then off a terminal, a bar on one."""

from __future__ import annotations

import io
from typing import Any

from distill_cli.reports.stream_progress import StreamProgress


def lines(**how: Any) -> list[str]:
    now, out = [0.0], io.StringIO()
    with StreamProgress("predict x.csv", 1000, file=out, clock=lambda: now[0], **how) as progress:
        for done in range(0, 1001, 100):
            progress.move(done, done * 5)
            now[0] += 2
        progress.say("done")
    return out.getvalue().splitlines()


def test_lines_come_now_and_then_with_speed_and_time_left() -> None:
    said = lines()
    assert said[0] == "predict x.csv 30%: 1,500 rows, 250 rows/s, 14 s left" and said[-1] == "done" and len(said) == 4
    assert len(lines(every=100)) == 1 and lines(level="quiet") == []


def test_on_a_terminal_a_bar_moves(terminal: Any) -> None:
    out = terminal(120)
    with StreamProgress("predict [x].csv", 10, file=out) as progress:
        progress.move(5, 50)
        progress.say("note: [a]")
    text = out.getvalue()
    assert "predict [x].csv" in text and "50 rows" in text and "50%" in text and "note: [a]" in text
