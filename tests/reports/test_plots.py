"""The pictures for papers: the page's own charts as PNG."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from distill_cli.errors import UserError
from distill_cli.reports.html.components import Chart, quantity, spec
from distill_cli.reports.html.run import confusion, png

ODD = ["$a_b$", "<b>'\"", "x" * 80]


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def line(title: str) -> Chart:
    body = {"mark": "line", "encoding": {"x": quantity("a", "a"), "y": quantity("b", "b")}}
    return Chart(title, spec([{"a": 0, "b": 1}, {"a": 1, "b": 0}], 100, **body), "a note")


def matrix(name: str, classes: list[str]) -> Chart:
    counts = [[2 * (i == j) + 1 for j in range(len(classes))] for i in range(len(classes))]
    return confusion._chart(name, {"per_class": dict.fromkeys(classes), "confusion": counts})


def test_charts_go_beside_each_other_and_odd_names_are_text(tmp_path: Path) -> None:
    one = size_of(png.save(tmp_path, "one", [line("left")]))
    two = size_of(png.save(tmp_path, "two", [line("left"), line("$right$")]))
    assert two[0] > 1.8 * one[0] and two[1] == one[1]
    path = png.save(tmp_path, "odd", [matrix(name, ODD) for name in ODD])
    assert path == tmp_path / "plots" / "odd.png" and size_of(path)[0] > 100


def test_a_matrix_of_many_classes_is_no_larger_than_one_of_some(tmp_path: Path) -> None:
    drawn = png.picture([matrix("student", [str(n) for n in range(60)])])
    assert drawn["concat"][0]["height"] == drawn["concat"][0]["width"] == png.TALLEST_MATRIX


def test_pictures_do_not_leave_their_folder(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "plots").symlink_to("victim")
    with pytest.raises(UserError, match="plots: is a symbolic link"):
        png.save(tmp_path, "one", [line("left")])
    assert not list((tmp_path / "victim").iterdir())
