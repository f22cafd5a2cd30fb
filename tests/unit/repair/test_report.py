"""The word and the line that repair says of itself, and its progress."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from objstore.model.cluster import ErasureCode
from objstore.model.survey import Episode, Receipt, RepairProgress, Survey
from objstore.repair.report import TAIL_S, Ledger, Situation, judge
from objstore.repair.tally import Left

QUIET = Situation(ErasureCode(4, 2), members=8, live=8)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "idle", ""),
        ({"debt": 9, "in_work": 2}, "running", ""),
        ({"debt": 9, "in_work": 2, "why_slow": "at the budget"}, "throttled", "at the budget"),
        ({"debt": 9, "paused": True, "in_work": 2}, "paused", "9 objects wait"),
        ({"debt": 9, "paused": True, "paused_for_s": 3725.0}, "paused", "for 1 h 2 min more; 9 objects wait"),
        ({"misplaced": 4, "in_work": 2, "only_moves": True}, "running", ""),
        ({"misplaced": 4, "rebalance_paused": True}, "paused", "moves are paused .*; 4 objects are whole, but not"),
        ({"debt": 1, "hopeless": 1, "misplaced": 4, "rebalance_paused": True}, "failed", "too many shards of 1 object"),
        ({"debt": 9, "live": 5, "blocked": 3}, "blocked", r"EC 4\+2 needs 6 nodes, 5 are up"),
        (
            {"debt": 9, "blocked": 2, "no_room": 9, "full": ["n1", "n3"]},
            "blocked",
            r"n1 n3 are full \(NODE_FULL\), and no other node can take its shards: delete objects or add nodes",
        ),
        (
            {"misplaced": 2, "no_room": 2, "full": ["n3"]},
            "waiting",
            r"n3 is full \(NODE_FULL\): 2 objects whole, but not at home until there is room",
        ),
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


def left(segments: int, size: int) -> Left:
    """Of 4+1 bytes of traffic per byte written."""
    return Left(segments, size, 5 * size)


def test_an_episode_counts_the_debt_that_is_left_and_ends_with_a_receipt() -> None:
    ledger = Ledger()
    assert ledger.progress(0.0, 1_000, QUIET) == RepairProgress()
    hurt = replace(QUIET, debt=10, left=left(10, 1000), in_work=2)
    assert ledger.progress(1.0, 2_000, hurt).started_ms == 2_000
    for at in (1.2, 1.4, 1.6, 1.8):
        ledger.moved(at, "repair", 500, 100)
        ledger.finished(at, "repair", 500, 0.1, 100)
    half = ledger.progress(2.0, 3_000, replace(hurt, debt=6, restored=4, left=left(6, 600)))
    assert (half.done, half.total, half.bytes_done, half.bytes_total) == (4, 10, 400, 1000)
    assert half.eta_s is None, "too little has been seen to say"
    ledger.progress(3.5, 4_500, hurt)
    later = ledger.progress(5.0, 6_000, replace(hurt, debt=6, restored=4, left=left(6, 600)))
    assert later.bytes_per_s == 100.0 and later.items_per_s == 1.0 and later.eta_s == 6.0 + TAIL_S
    more = ledger.progress(6.0, 7_000, replace(hurt, debt=8, restored=4, left=left(8, 800), in_flight=left(0, 30)))
    assert (more.done, more.total, more.bytes_done) == (4, 12, 430), "more damage was found"
    ledger.finished(7.0, "repair", 0, 0.1, 800)
    for _ in range(3):
        ledger.failed("repair")
    over = ledger.progress(8.0, 9_000, replace(QUIET, restored=12))
    assert over.state == "idle" and over.started_ms == 0
    assert ledger.receipt == Receipt(2_000, 9_000, 12, 1200, 3, "repair", worked_s=5.0)
    assert [event.text for event in ledger.events] == [
        "repair started: 10 objects",
        "repair finished: 12 objects, 1.2 KiB in 7 s",
    ]


def test_a_rebalance_is_an_episode_of_its_own_and_waits_out_a_repair() -> None:
    ledger = Ledger()
    moving = replace(QUIET, misplaced=8, left_to_move=left(8, 800), in_work=2, only_moves=True)
    assert ledger.progress(1.0, 1_000, moving).kind == "rebalance"
    ledger.finished(2.0, "rebalance", 0, 0.1, 300)
    both = replace(moving, debt=5, left=left(5, 500), misplaced=5, rehomed=3, only_moves=False)
    shown = ledger.progress(3.0, 3_000, both)
    assert (shown.kind, shown.started_ms, shown.total, shown.misplaced, shown.moved_bytes) == (
        "repair",
        3_000,
        5,
        5,
        300,
    )
    assert [one.kind for one in ledger.episodes(both)] == ["repair", "rebalance"]
    ledger.finished(4.0, "repair", 0, 0.1, 500)
    healed = replace(moving, misplaced=5, rehomed=3, restored=5)
    shown = ledger.progress(5.0, 5_000, healed)
    assert (shown.kind, shown.started_ms, shown.done, shown.total) == ("rebalance", 1_000, 3, 8)
    assert ledger.receipt == Receipt(3_000, 5_000, 5, 500, 0, "repair")
    ledger.finished(6.0, "rebalance", 0, 0.1, 500)
    assert ledger.progress(7.0, 7_000, replace(QUIET, rehomed=8, restored=5)).state == "idle"
    assert list(ledger.receipts)[1:] == [Receipt(1_000, 7_000, 8, 800, 0, "rebalance")]


def test_a_receipt_says_how_long_was_worked_and_not_waited() -> None:
    ledger = Ledger()
    hurt = replace(QUIET, debt=2, left=left(2, 200), in_work=1)
    for at in (1.0, 1.5, 2.0):
        ledger.progress(at, round(1000 * at), hurt)
    ledger.progress(3.0, 3_000, replace(hurt, in_work=0, silent=("n3",), waiting=2))
    waited = replace(hurt, debt=1, restored=1)
    ledger.progress(60.0, 60_000, waited)
    going_on = ledger.episodes(waited)
    assert going_on == [Episode("repair", 1_000, 1, 0, 0, worked_s=1.0)]
    following = Ledger()
    following.take_over(Survey(60_000, "r1", 3, "4+2", episodes=going_on))
    for at in (8.0, 8.5):
        following.progress(at, 62_000, replace(hurt, debt=1))
    following.progress(9.0, 63_000, replace(QUIET, restored=1))
    assert following.receipt == Receipt(1_000, 63_000, 2, 0, 0, "repair", worked_s=1.5)


def test_a_rebalance_is_not_over_when_the_node_that_it_fills_is_away() -> None:
    ledger = Ledger()
    moving = replace(QUIET, misplaced=8, left_to_move=left(8, 800), in_work=2, only_moves=True)
    ledger.progress(1.0, 1_000, moving)
    ledger.finished(2.0, "rebalance", 0, 0.1, 300)
    gone = replace(QUIET, live=7, silent=("n9",), rehomed=3)
    assert ledger.progress(3.0, 3_000, gone).state == "idle"
    ledger.progress(4.0, 4_000, replace(QUIET, debt=2, rehomed=3))  # it is back, and its metadata lag
    assert not ledger.receipts
    again = ledger.progress(5.0, 5_000, replace(moving, misplaced=5, left_to_move=left(5, 500), rehomed=3))
    assert (again.kind, again.started_ms, again.done, again.total) == ("rebalance", 1_000, 3, 8)
    ledger.finished(6.0, "rebalance", 0, 0.1, 500)
    ledger.progress(7.0, 7_000, replace(QUIET, rehomed=8, debt=1, hopeless=1))  # nothing can be done about that one
    assert list(ledger.receipts) == [Receipt(1_000, 7_000, 8, 800, 0, "rebalance")]


def test_the_next_leader_goes_on_with_the_episodes() -> None:
    ledger = Ledger()
    going_on = [Episode("repair", 1_000, 40, 4000, 2), Episode("rebalance", 500, 7, 700, 0)]
    ledger.take_over(Survey(5_000, "r1", 3, "4+2", episodes=going_on))
    situation = replace(QUIET, debt=60, in_work=1, left=left(60, 6000), misplaced=3)
    going = ledger.progress(0.0, 6_000, situation)
    assert (going.started_ms, going.done, going.total, going.bytes_done) == (1_000, 40, 100, 4000)
    assert ledger.episodes(situation) == going_on
    ledger.progress(1.0, 8_000, replace(QUIET, restored=60, misplaced=3))
    assert ledger.receipt == Receipt(1_000, 8_000, 100, 4000, 2, "repair")
    ledger.progress(2.0, 9_000, replace(QUIET, restored=60, rehomed=3))
    assert ledger.receipt == Receipt(500, 9_000, 10, 700, 0, "rebalance")


def test_a_rate_from_before_a_pause_says_nothing_after_it() -> None:
    ledger = Ledger()
    hurt = replace(QUIET, debt=10, left=left(10, 1000), in_work=2)
    ledger.progress(0.0, 0, hurt)
    for at in range(1, 6):
        ledger.moved(at, "repair", 500, 100)
        ledger.finished(at, "repair", 500, 0.1, 100)
        ledger.progress(at, 1000 * at, hurt)
    assert ledger.progress(5.0, 5_000, hurt).bytes_per_s == 100.0
    ledger.progress(9.0, 9_000, replace(hurt, paused=True, in_work=0))
    resumed = ledger.progress(12.0, 12_000, hurt)
    assert (resumed.bytes_per_s, resumed.eta_s) == (0.0, None)
