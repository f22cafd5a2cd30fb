"""What is said of disks: full ones, room that is left, damage that is not rebuilt, a scrub that is late."""

from __future__ import annotations

import msgspec
import pytest

from objstore.admin.snapshot import Observation, build
from objstore.admin.status import SpaceLeft, Status
from objstore.admin.storage import SCRUB_LATE_MS, space_left, usable
from objstore.admin.text import space_line
from objstore.model.cluster import ErasureCode, Level, NodeLease
from objstore.model.scrubbing import ScrubReport, ScrubRound
from objstore.model.survey import NodeHoldings, ObjectCounts
from tests.unit.admin.test_snapshot import HEALTHY, NOW

GIB = 1 << 30


def with_leases(seen: Observation = HEALTHY, count: int = 1, **fields: object) -> Observation:
    """The first nodes say something else of themselves."""
    nodes = tuple(msgspec.structs.replace(one, **fields) for one in seen.nodes[:count])
    return msgspec.structs.replace(seen, nodes=nodes + seen.nodes[count:])


def codes(status: Status) -> set[str]:
    return {reason.code for reason in status.reasons}


def text_of(status: Status, code: str) -> str:
    return next(reason.text for reason in status.reasons if reason.code == code)


@pytest.mark.parametrize(
    ("level", "code"),
    [("ok", ""), ("near", "NODE_NEARFULL"), ("full", "NODE_FULL"), ("backfill", "NODE_FULL"), ("reserve", "NODE_FULL")],
)
def test_a_node_says_itself_how_full_it_is(level: Level, code: str) -> None:
    status = build(with_leases(level=level))
    assert codes(status) == ({code} if code else set())
    assert status.node("n1") is not None and status.nodes[0].level == level
    assert status.verdict == ("DEGRADED" if code else "HEALTHY")


def test_a_cluster_is_full_when_too_few_nodes_take_new_data() -> None:
    assert "CLUSTER_FULL" not in codes(build(with_leases(count=3, level="full")))
    status = build(with_leases(count=4, level="full"))
    assert "CLUSTER_FULL" in codes(status) and "4 nodes" in text_of(status, "CLUSTER_FULL")


# --- damage ------------------------------------------------------------------------------------------------------


def surveyed(seen: Observation, missing: int, full: int) -> Observation:
    assert seen.survey is not None
    node = seen.nodes[0].id
    survey = msgspec.structs.replace(
        seen.survey,
        objects=ObjectCounts(10, full, 10 - full),
        nodes={**seen.survey.nodes, node: NodeHoldings(5, missing)},
    )
    return msgspec.structs.replace(seen, survey=survey)


def test_damage_is_said_until_it_is_rebuilt() -> None:
    assert HEALTHY.survey is not None
    found = with_leases(damaged=2, damaged_ms=HEALTHY.survey.as_of_ms + 1)
    status = build(found)
    assert codes(status) == {"SHARD_CORRUPT"} and status.verdict == "DEGRADED", "the survey does not know it yet"
    known = with_leases(damaged=2, damaged_ms=HEALTHY.survey.as_of_ms - 1)
    assert codes(build(surveyed(known, missing=2, full=8))) == {"SHARD_CORRUPT", "REDUNDANCY_LOW"}
    assert codes(build(surveyed(known, missing=0, full=10))) == set(), "made anew, on another node"


# --- the scrub ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "late"),
    [
        (ScrubReport(), False),
        (ScrubReport("idle", since_ms=NOW - SCRUB_LATE_MS + 1000), False),
        (ScrubReport("running", since_ms=NOW - SCRUB_LATE_MS - 1000), True),
        (ScrubReport("idle", since_ms=1, last=ScrubRound(1, NOW - SCRUB_LATE_MS + 1000)), False),
        (ScrubReport("idle", since_ms=1, last=ScrubRound(1, NOW - SCRUB_LATE_MS - 1000)), True),
    ],
)
def test_a_round_that_is_due_for_too_long_is_said(report: ScrubReport, late: bool) -> None:
    assert codes(build(with_leases(scrub=report))) == ({"SCRUB_LATE"} if late else set())


def test_a_paused_scrub_is_said_once_and_is_as_the_operator_wanted() -> None:
    status = build(with_leases(count=8, scrub=ScrubReport("paused")))
    assert [reason.code for reason in status.reasons] == ["SCRUB_PAUSED"]
    assert status.verdict == "HEALTHY"


# --- room ----------------------------------------------------------------------------------------------------------


CODE = ErasureCode(4, 2)


@pytest.mark.parametrize(
    ("rooms", "expected"),
    [
        ([6] * 6, 24),
        ([12] * 6, 48),
        ([6] * 5, 0),
        ([6] * 12, 48),
        ([1000, 6, 6, 6, 6, 6], 24),
        ([1000, 1000, 6, 6, 6, 6], 24),
        ([1000, 1000, 6, 6, 6, 6, 6, 6], 36),
        ([12, 6, 6, 6, 6, 6, 6], 28),
    ],
)
def test_room_counts_only_where_each_shard_has_a_node_of_its_own(rooms: list[int], expected: int) -> None:
    assert usable(rooms, CODE) == expected


def test_no_placement_holds_more_than_that_and_one_holds_as_much() -> None:
    """Against filling one stripe after the other into the nodes with the most room, which is optimal."""
    for rooms in ([9, 7, 5, 5, 4, 3, 3], [20, 20, 20, 5, 5, 5, 5, 1], [3, 3, 3, 3, 3, 2], [8] * 7):
        left, stripes = sorted(rooms, reverse=True), 0
        while sorted(left, reverse=True)[5] > 0:
            left.sort(reverse=True)
            left = [one - 1 for one in left[:6]] + left[6:]
            stripes += 1
        assert stripes * CODE.k == usable(rooms, CODE), rooms


def with_room(room: int | None, used: int, count: int = 8) -> Status:
    return build(with_leases(count=count, used_bytes=used, room_bytes=room, capacity_bytes=100 * GIB))


def test_the_space_that_is_left_is_what_clients_can_use_even_when_a_node_is_lost() -> None:
    space = with_room(60 * GIB, 30 * GIB).space
    assert space is not None and space.used == 240 * GIB
    assert space.left is not None and space.left_one_lost is not None
    assert space.left // GIB == 320 and space.left_one_lost // GIB == 260
    assert "320 GiB usable left, 260 GiB with one node lost" in space_line(with_room(60 * GIB, 30 * GIB))
    assert with_room(0, 90 * GIB).space == msgspec.structs.replace(space, used=720 * GIB, left=0, left_one_lost=0)


def test_where_each_shard_needs_every_node_nothing_is_said_of_a_lost_one() -> None:
    nodes = build(HEALTHY).nodes[:6]
    leases = {one.id: msgspec.structs.replace(one, used_bytes=100, room_bytes=60) for one in HEALTHY.nodes}
    assert space_left(nodes, leases, CODE) == SpaceLeft(600, 6000, 240, None)


def test_what_is_used_is_the_index_too_and_takes_nothing_of_what_is_left_for_shards() -> None:
    plain, small = build(with_leases(count=8)), build(with_leases(count=8, index_used_bytes=5 * GIB))
    assert plain.space is not None and small.space is not None
    assert small.nodes[0].used_bytes == (plain.nodes[0].used_bytes or 0) + 5 * GIB
    assert small.space == msgspec.structs.replace(plain.space, used=plain.space.used + 40 * GIB)


def test_nodes_that_do_not_say_leave_it_open() -> None:
    status = with_room(None, 5, count=1)
    assert status.space is not None and status.space.left is None
    assert "usable" not in space_line(status)


def test_an_old_lease_can_still_be_read() -> None:
    """Of a release that said nothing of all this."""
    raw = msgspec.to_builtins(HEALTHY.nodes[0])
    for field in ("level", "room_bytes", "index_used_bytes", "index_size_bytes", "damaged", "damaged_ms", "scrub"):
        del raw[field]
    assert msgspec.convert(raw, NodeLease).scrub.state == "off"
