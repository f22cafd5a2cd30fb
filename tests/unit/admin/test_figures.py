"""Numbers read well, and never claim more than is true."""

from __future__ import annotations

import pytest

from objstore.admin import figures


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (11.4 * (1 << 30), "11.4 GiB"),
     (300 << 20, "300 MiB")],
)  # fmt: skip
def test_sizes(number: float, shown: str) -> None:
    assert figures.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0s"), (0.44, "0.4s"), (24, "24s"), (75, "1m 15s"), (3700, "1h 1m"), (90_000, "1d 1h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert figures.duration(seconds) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 9, "0%"), (1, 10**6, "1%"), (999, 1000, "99%"), (9, 9, "100%"), (0, 0, "100%")],
)
def test_all_is_said_only_when_it_is_all(part: int, whole: int, shown: str) -> None:
    assert figures.percent(part, whole) == shown


def test_plurals_and_thousands() -> None:
    assert figures.plural(1, "node") == "1 node"
    assert figures.plural(30_511, "object") == "30,511 objects"
