"""The word and the line that repair says of itself, and its progress."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from objstore.model.cluster import ErasureCode
from objstore.model.survey import RepairProgress, Survey
from objstore.repair.progress import RateWindow
from objstore.repair.report import Ledger, Situation, judge

QUIET = Situation(ErasureCode(4, 2), members=8, live=8)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "idle", ""),
        ({"debt": 9, "in_work": 2}, "running", ""),
        ({"debt": 9, "in_work": 2, "throttled": True}, "throttled", "bandwidth"),
        ({"debt": 9, "paused": True, "in_work": 2}, "paused", "9 objects wait"),
        ({"debt": 9, "live": 5, "blocked": 3}, "blocked", r"EC 4\+2 needs 6 nodes, 5 are up"),
        ({"debt": 9, "silent": ["n3"], "rebuild_in_s": 6.0, "waiting": 9}, "waiting", "n3 does not answer; .* in 6 s"),
        ({"debt": 9, "silent": ["n2", "n5"]}, "waiting", "n2 n5 do not answer; their share .* unless they return"),
        ({"debt": 1, "hopeless": 1}, "failed", "too many shards of 1 object are damaged; restore or delete"),
        ({"debt": 3, "hopeless": 3, "silent": ["n2"]}, "failed", "too many shards of 3 objects are damaged"),
        (
            {"debt": 3, "hopeless": 3, "silent": ["n2"], "rescuers": ["n2", "n5"]},
            "blocked",
            "too few shards of 3 objects answer: n2 n5 must return",
        ),
        ({"debt": 3, "retrying": 2, "last_error": "disk full"}, "running", "2 segments failed, .* disk full"),
        ({"debt": 2, "retrying": 2, "failed": 2, "last_error": "disk full"}, "failed", "disk full"),
        ({"debt": 2, "moving": "metadata moves"}, "running", "metadata moves"),
        ({"debt": 2, "moving": "x", "moving_held_up": "majority lost"}, "blocked", "majority lost"),
        ({"breaker_tripped": True}, "idle", "hourly limit"),
    ],
)
def test_one_word_and_one_line(changes: dict[str, object], state: str, words: str) -> None:
    found, reason = judge(replace(QUIET, **changes))  # type: ignore[arg-type]
    assert found == state
    assert re.search(words, reason)


def test_an_episode_counts_the_debt_that_is_left_and_ends_with_a_receipt() -> None:
    ledger = Ledger()
    assert ledger.progress(0.0, 1_000, QUIET) == RepairProgress()
    hurt = replace(QUIET, debt=10, bytes_left=1000, in_work=2)
    assert ledger.progress(1.0, 2_000, hurt).started_ms == 2_000
    ledger.stored(2.0, 400)
    half = ledger.progress(3.0, 4_000, replace(hurt, debt=6, restored=4, bytes_left=600))
    assert (half.done, half.total, half.bytes_done, half.bytes_total) == (4, 10, 400, 1000)
    assert half.eta_s is None, "too little has been seen to say"
    later = ledger.progress(5.0, 6_000, replace(hurt, debt=6, restored=4, bytes_left=600))
    assert later.bytes_per_s == 100.0 and later.eta_s == 6.0
    more = ledger.progress(6.0, 7_000, replace(hurt, debt=8, restored=4, bytes_left=800))
    assert (more.done, more.total) == (4, 12), "more damage was found"
    ledger.stored(7.0, 800)
    over = ledger.progress(8.0, 9_000, replace(QUIET, restored=12, retries=3))
    assert over.state == "idle" and over.started_ms == 0
    receipt = ledger.receipt
    assert receipt is not None
    assert (receipt.started_ms, receipt.finished_ms, receipt.objects, receipt.bytes) == (2_000, 9_000, 12, 1200)
    assert receipt.retries == 3
    assert [event.text for event in ledger.events] == [
        "repair started: 10 objects",
        "repair finished: 12 objects, 1.2 KiB in 7 s",
    ]


def test_the_next_leader_goes_on_with_the_episode() -> None:
    ledger = Ledger()
    last = Survey(5_000, "r1", 3, "4+2", repair=RepairProgress("running", done=40, bytes_done=4000, started_ms=1_000))
    ledger.take_over(last)
    going = ledger.progress(0.0, 6_000, replace(QUIET, debt=60, in_work=1, bytes_left=6000))
    assert (going.started_ms, going.done, going.total, going.bytes_done) == (1_000, 40, 100, 4000)
    ledger.progress(1.0, 8_000, replace(QUIET, restored=60))
    assert ledger.receipt is not None
    assert (ledger.receipt.started_ms, ledger.receipt.objects) == (1_000, 100)


def test_a_rate_forgets_what_is_long_ago() -> None:
    rate = RateWindow()
    rate.begin(0.0)
    rate.add(1.0, 1000)
    assert rate.rates(2.0) is None
    assert rate.rates(10.0) == (100.0, 0.0)
    rate.add(30.0, 200, 4)
    assert rate.rates(40.0) == (10.0, 0.2)
    assert rate.eta_s(40.0, 100, 1) == 10.0
    assert rate.eta_s(40.0, 100, 8) == 40.0, "small objects cost calls, not bytes"
    assert rate.rates(100.0) is None
