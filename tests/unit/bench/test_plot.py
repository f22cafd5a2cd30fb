"""Curves as text."""

from __future__ import annotations

from objstore.bench.model import Mark
from objstore.bench.plot import HEIGHT, WIDTH, draw


def test_a_curve_has_an_axis_that_fits_and_marks_where_they_belong() -> None:
    values = [(at + 0.5, 1000.0 if at < 10 else 100.0) for at in range(20)]
    lines = draw(values, [Mark(10.0, "n3 killed"), Mark(19.9, "whole again")], unit="op/s", end_s=20.0)
    assert lines[0] == "op/s" and len(lines) == 1 + HEIGHT + 1 + 2
    axis = lines[HEIGHT + 1]
    assert axis.endswith("20 s") and axis.count("▲") == 2
    assert axis.index("▲") == lines[HEIGHT + 2].index("n3 killed")
    assert max(map(len, lines)) <= WIDTH + 12
    top, bottom = lines[1], lines[HEIGHT]
    assert float(top.split()[0].replace(",", "")) >= 1000
    middle = len(axis.partition("└")[0]) + 1 + WIDTH // 2
    assert "".join(line[:middle].split("┤")[1].strip() for line in lines[1:3])  # high before the mark
    assert not top[middle + 2 :].strip() and bottom[middle + 2 :].strip()  # low after it
    assert not bottom[:middle].split("┤")[1].strip()


def test_what_has_no_curve_is_not_drawn() -> None:
    assert draw([], [], unit="op/s", end_s=3.0) == draw([(0.5, 1.0)], [], unit="op/s", end_s=1.0) == []


def test_nothing_done_is_a_line_at_the_bottom() -> None:
    lines = draw([(0.5, 0.0), (1.5, 0.0)], [], unit="op/s", end_s=2.0)
    assert lines[HEIGHT].split("┤")[1].strip() and all(not line.split("┤")[1] for line in lines[1:HEIGHT])
