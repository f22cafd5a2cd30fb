"""`objstore scrub`: values, what is shown, and waiting for a round."""

from __future__ import annotations

import argparse

import msgspec
import pytest

from objstore.cli.scrub import GONE_S, Waiting, render
from objstore.cli.values import duration, rate
from objstore.model.cluster import NodeLease
from objstore.model.ids import NodeId
from objstore.model.scrubbing import ScrubControl, ScrubFound, ScrubReport, ScrubRound

NOW = 1_700_000_000_000


def lease(number: int, damaged: int = 0, **report: object) -> NodeLease:
    scrub = msgspec.convert({"state": "idle", **report}, ScrubReport)
    one = NodeLease(NodeId(f"{number:016x}"), f"n{number}", "z", "h:1", 1, 0, 1, 1, "1")
    return msgspec.structs.replace(one, damaged=damaged, scrub=scrub)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("4h", 14400), ("1h30m", 5400), ("2d", 172_800), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "4 h", "-1h", "0s", "4x", "1h3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no duration"):
        duration(text)


def test_rates() -> None:
    assert rate("50MiB/s") == 50 << 20 and rate("500kB") == 500_000
    for text in ("", "0", "fast", "-1", "0B"):
        with pytest.raises(argparse.ArgumentTypeError, match="no rate"):
            rate(text)


def test_the_table_has_what_an_operator_asks() -> None:
    day = 86_400_000
    running = lease(10, state="running", done_bytes=25, total_bytes=100, rate=5, started_ms=NOW - 5000)
    done = msgspec.structs.replace(
        lease(2, damaged=1).scrub,
        found_ever=ScrubFound(corrupt=2, missing=1),
        last=ScrubRound(NOW - 2 * day, NOW - day, 1 << 30, ScrubFound(corrupt=2)),
    )
    shown = render(ScrubControl(), [running, msgspec.structs.replace(lease(2, damaged=1), scrub=done)], NOW)
    first, second = shown.splitlines()[-2:]
    assert first.split("  ")[0] == "n2" and "1d 0h ago, 1 GiB, 2 corrupt" in first and "2 corrupt, 1 missing" in first
    assert "running (full)" in second and "25%" in second and "15s" in second and "never" in second


def test_a_pause_and_a_rate_are_in_the_headline() -> None:
    assert "goes on by itself in 1h 0m" in render(ScrubControl(paused=True, until_ms=NOW + 3_600_000), [], NOW)
    assert "until `objstore scrub resume`" in render(ScrubControl(paused=True), [], NOW)
    assert "1 MiB/s per node" in render(ScrubControl(rate=1 << 20), [], NOW)
    assert "paused" not in render(ScrubControl(paused=True, until_ms=NOW - 1), [], NOW), "it has ended"


def test_waiting_ends_when_all_who_scrub_are_through() -> None:
    before = {one.id: one for one in (lease(1), lease(2, found_ever={"corrupt": 4}), lease(3, state="off"))}
    waiting = Waiting(before, 7)
    assert not waiting.look(list(before.values()), 0.0)
    assert not waiting.look(None, 1.0), "the coordinator is away"
    assert not waiting.look([lease(1, obeyed=7), lease(2)], 2.0)
    assert waiting.unfinished == ["n2"]
    assert waiting.look([lease(1, obeyed=7), lease(2, obeyed=7, found_ever={"corrupt": 5})], 3.0)
    assert waiting.found() == {"n1": ScrubFound(), "n2": ScrubFound(corrupt=1)} and not waiting.gone


def test_a_node_that_restarts_is_waited_for_and_one_that_is_gone_is_not() -> None:
    before = {one.id: one for one in (lease(1), lease(2))}
    waiting = Waiting(before, 7)
    assert not waiting.look([lease(1, obeyed=7), lease(2)], 0.0)
    assert not waiting.look([lease(1, obeyed=7)], GONE_S - 1)
    assert not waiting.look([lease(1, obeyed=7), lease(2)], GONE_S), "it is back"
    assert not waiting.look([lease(1, obeyed=7)], 2 * GONE_S - 1)
    assert waiting.look([lease(1, obeyed=7)], 2 * GONE_S + 1)
    assert waiting.gone == ["n2"]
