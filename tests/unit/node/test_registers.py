"""The acceptor of a node: rounds, durability, fences, pages."""

from __future__ import annotations

import asyncio
import errno
from random import Random
from typing import Any

import msgspec
import pytest

from objstore.model import limits
from objstore.model.clock import ZERO
from objstore.model.errors import InsufficientStorage, InvalidRequest, Unavailable
from objstore.model.ids import BucketId
from objstore.model.records import RegisterKey, Space
from objstore.node.service import NodeService
from objstore.wire.messages import (
    NodeStats,
    NodeStatsReply,
    Ok,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegInstall,
    RegPrepare,
    RegPull,
    RegPulled,
    RegRead,
    RegRefused,
    RegScan,
    RegScanned,
    RegStale,
    RegState,
)
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, run, with_node

P = 3  # the partition of most tests
EMPTY = RegState(ZERO.pack(), b"", b"")


def key(name: bytes, bucket: bytes = BUCKET) -> bytes:
    return RegisterKey(BucketId(bucket), Space.OBJECT, name).pack()


def accepting(name: bytes, time: int, *, partition: int = P, tag: int = 0, listing: bytes = b"l") -> RegAccept:
    return RegAccept(partition, tag, key(name), ballot(time), listing, b"state%d" % time)


async def accept(node: NodeService, name: bytes, time: int, data: bytes = b"", **how: Any) -> None:
    assert await ask(node, accepting(name, time, **how), data) == RegAccepted()


async def scan(node: NodeService, start: bytes = b"", end: bytes = b"", limit: int = 100, **how: bool) -> RegScanned:
    reply = await ask(node, RegScan(P, 0, BUCKET, Space.OBJECT, start, end, limit, **how))
    assert isinstance(reply, RegScanned)
    return reply


async def pull(node: NodeService, after: bytes = b"", limit: int = 100, **how: bool) -> tuple[RegPulled, bytes]:
    reply, payload = await node.handle(RegPull(P, after, limit, **how), b"")
    assert isinstance(reply, RegPulled)
    return reply, bytes(payload)


def test_a_register_never_written_is_empty() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        assert await ask(node, RegRead(P, 0, key(b"a"))) == EMPTY
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(1))) == EMPTY
        assert await ask(node, RegRead(P, 0, key(b"a"))) == EMPTY

    with_node(check)


def test_a_round_stores_the_value_and_the_next_prepare_brings_it_back() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await ask(node, RegPrepare(P, 0, key(b"a"), ballot(1)))
        await accept(node, b"a", 1, b"data")
        expected = RegState(ballot(1), b"l", b"state1")
        assert await node.handle(RegRead(P, 0, key(b"a")), b"") == (expected, b"data")
        assert await node.handle(RegRead(P, 0, key(b"a"), with_data=False), b"") == (expected, b"")
        assert await node.handle(RegPrepare(P, 0, key(b"a"), ballot(2)), b"") == (expected, b"")
        assert await node.handle(RegPrepare(P, 0, key(b"a"), ballot(3), with_data=True), b"") == (expected, b"data")

    with_node(check)


def test_lower_ballots_are_refused_with_the_highest_seen() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await ask(node, RegPrepare(P, 0, key(b"a"), ballot(5)))
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(5))) == RegRefused(ballot(5))
        assert await ask(node, accepting(b"a", 4)) == RegRefused(ballot(5))
        await accept(node, b"a", 9)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(8))) == RegRefused(ballot(9))

    with_node(check)


def test_the_zero_ballot_is_no_ballot() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        with pytest.raises(InvalidRequest, match="zero ballot"):
            await ask(node, RegAccept(P, 0, key(b"a"), ZERO.pack(), b"", b"s"))

    with_node(check)


def test_a_repeated_accept_is_granted_and_counts_once() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        both = [ask(node, accepting(b"a", 1), b"data"), ask(node, accepting(b"a", 1), b"data")]
        assert await asyncio.gather(*both) == [RegAccepted(), RegAccepted()]
        await accept(node, b"a", 1, b"data")
        stats = await ask(node, NodeStats(changes=True))
        assert isinstance(stats, NodeStatsReply)
        assert (stats.registers, stats.meta_changes[P]) == (1, 1)

    with_node(check)


def test_decisions_see_what_is_still_in_the_commit_queue() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        requests = [
            ask(node, RegPrepare(P, 0, key(b"a"), ballot(5))),
            ask(node, RegPrepare(P, 0, key(b"a"), ballot(4))),
            ask(node, accepting(b"a", 5)),
            ask(node, RegPrepare(P, 0, key(b"a"), ballot(6))),
        ]
        before = rig.sim_kv.commits
        seen = RegState(ballot(5), b"l", b"state5")
        assert await asyncio.gather(*requests) == [EMPTY, RegRefused(ballot(5)), RegAccepted(), seen]
        assert rig.sim_kv.commits == before + 1

    with_node(check)


def test_registers_come_back_after_a_restart_with_their_promises() -> None:
    rig = Rig()

    async def main() -> None:
        node = await rig.open()
        await accept(node, b"a", 1, b"data")
        await ask(node, RegPrepare(P, 0, key(b"a"), ballot(9)))
        digests = await ask(node, RegDigests([P]))
        await node.close()
        rig.crash(Random(1))
        again = await rig.open()
        assert await ask(again, RegDigests([P])) == digests
        assert await ask(again, accepting(b"a", 8)) == RegRefused(ballot(9))
        assert await again.handle(RegRead(P, 0, key(b"a")), b"") == (RegState(ballot(1), b"l", b"state1"), b"data")
        await again.close()

    run(main())


def test_a_failed_commit_leaves_no_trace() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        digests = await ask(node, RegDigests([P]))
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        waiting = [ask(node, accepting(b"a", 2)), ask(node, RegPrepare(P, 0, key(b"b"), ballot(7)))]
        waiting += [ask(node, RegFence([P], 6)), ask(node, RegDrop([5], 6))]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, InsufficientStorage) for result in results)
        rig.sim_kv.fail_commit = None
        assert await ask(node, RegDigests([P])) == digests
        assert await ask(node, RegPrepare(P, 0, key(b"b"), ballot(3))) == EMPTY
        assert await ask(node, accepting(b"a", 2)) == RegAccepted()
        assert await ask(node, accepting(b"x", 2, partition=5)) == RegAccepted()

    with_node(check)


def test_a_disk_error_at_a_commit_ends_the_node() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_kv.fail_commit = OSError(errno.EIO, "bad")
        with pytest.raises(Unavailable):
            await ask(node, accepting(b"a", 1))
        assert len(rig.fatal) == 1
        with pytest.raises(Unavailable, match="stopped serving"):
            await ask(node, RegRead(P, 0, key(b"a")))

    with_node(check)


# --- fences and drops ----------------------------------------------------------------------------------------------


def test_a_fence_refuses_lower_tags_for_all_but_copying() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        assert await ask(node, RegFence([P, 5], 8)) == Ok()
        assert await ask(node, RegFence([P], 6)) == Ok()
        for request in (
            RegRead(P, 7, key(b"a")),
            RegPrepare(P, 7, key(b"a"), ballot(9)),
            accepting(b"a", 9, tag=7),
            RegScan(P, 7, BUCKET, Space.OBJECT, b"", b"", 10),
        ):
            assert await ask(node, request) == RegStale(8)
        await accept(node, b"a", 2, tag=8)
        await accept(node, b"a", 2, tag=0, partition=4)
        page, _ = await pull(node)
        assert (page.keys, page.fence) == ([key(b"a")], 8)

    with_node(check)


def test_fences_survive_a_crash() -> None:
    rig = Rig()

    async def main() -> None:
        node = await rig.open()
        await ask(node, RegFence([P], 8))
        rig.crash(Random(2))
        again = await rig.open()
        assert await ask(again, RegRead(P, 7, key(b"a"))) == RegStale(8)
        await node.close()
        await again.close()

    run(main())


@pytest.mark.parametrize(
    "request_", [accepting(b"a", 1), RegFence([4], 8), RegDrop([4], 8)], ids=lambda r: type(r).__name__
)
def test_a_repeat_is_answered_only_when_the_first_one_is_durable(request_: RegAccept | RegFence | RegDrop) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        results = await asyncio.gather(ask(node, request_), ask(node, request_), return_exceptions=True)
        assert all(isinstance(result, InsufficientStorage) for result in results)

    with_node(check)


def test_drop_forgets_a_partition_once_and_raises_its_fence() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1, b"data")
        await accept(node, b"k" * 1000, 1, b"data")
        await accept(node, b"other", 1, partition=4)
        await ask(node, RegPrepare(P, 0, key(b"promised"), ballot(50)))
        assert await ask(node, RegDrop([P], 6)) == Ok()
        assert await ask(node, RegRead(P, 5, key(b"a"))) == RegStale(6)
        assert await ask(node, RegRead(P, 6, key(b"a"))) == EMPTY
        assert await ask(node, RegDigests([P, 4])) == RegDigested([0, 1], [0, (await digest(node, 4))])
        assert rig.sim_kv.scan("inline", b"") == []
        await accept(node, b"promised", 2, tag=6)
        assert await ask(node, RegDrop([P], 6)) == Ok()
        assert await ask(node, RegRead(P, 6, key(b"promised"))) == RegState(ballot(2), b"l", b"state2")

    with_node(check)


async def digest(node: NodeService, partition: int) -> int:
    reply = await ask(node, RegDigests([partition]))
    assert isinstance(reply, RegDigested)
    return reply.digests[0]


def test_drop_takes_what_was_queued_before_it_and_spares_what_comes_after() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"durable", 9)
        requests = [
            ask(node, accepting(b"before", 9), b"data"),
            ask(node, RegDrop([P], 6)),
            ask(node, RegPrepare(P, 6, key(b"durable"), ballot(2))),
            ask(node, accepting(b"before", 3, tag=6)),
            ask(node, accepting(b"after", 1, tag=6)),
        ]
        assert await asyncio.gather(*requests) == [RegAccepted(), Ok(), EMPTY, RegAccepted(), RegAccepted()]
        page, data = await pull(node)
        assert page.keys == [key(b"after"), key(b"before")]
        assert page.ballots == ballot(1) + ballot(3) and data == b""
        assert isinstance(reply := await ask(node, RegDigests([P])), RegDigested) and reply.counts == [2]

    with_node(check)


# --- installing ------------------------------------------------------------------------------------------------------


def installing(names: list[bytes], times: list[int], datas: list[bytes], tag: int = 0) -> tuple[RegInstall, bytes]:
    count = len(names)
    request = RegInstall(
        P,
        tag,
        [key(name) for name in names],
        b"".join(ballot(time) for time in times),
        [b"l"] * count,
        [b"s"] * count,
        [len(data) for data in datas],
    )
    return request, b"".join(datas)


def test_install_moves_registers_forward_only() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"b", 5, b"mine")
        await ask(node, RegPrepare(P, 0, key(b"c"), ballot(9)))
        request, payload = installing([b"a", b"b", b"c"], [3, 4, 4], [b"first", b"older", b"promised"])
        assert await ask(node, request, payload) == Ok()
        page, data = await pull(node)
        assert page.keys == [key(b"a"), key(b"b")]
        assert data == b"firstmine" and page.data_lengths == [5, 4]
        assert await ask(node, request, payload) == Ok()

    with_node(check)


def test_an_install_below_the_fence_is_refused() -> None:
    """It may be late, and the node dropped since: what it forgot must not come back (INV-6)."""

    async def check(rig: Rig, node: NodeService) -> None:
        await ask(node, RegDrop([P], 100))
        request, payload = installing([b"a"], [3], [b""], 99)
        assert await ask(node, request, payload) == RegStale(100)
        assert (await pull(node))[0].keys == []
        request, payload = installing([b"a"], [3], [b""], 100)
        assert await ask(node, request, payload) == Ok()
        assert (await pull(node))[0].keys == [key(b"a")]

    with_node(check)


def test_malformed_installs_change_nothing() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        good, payload = installing([b"a", b"b"], [1, 1], [b"12", b"345"])
        broken = [
            (RegInstall(P, 0, good.keys, ballot(1), good.listings, good.states, good.data_lengths), payload),
            (RegInstall(P, 0, good.keys, good.ballots, [b"l"], good.states, good.data_lengths), payload),
            (RegInstall(P, 0, good.keys, good.ballots, good.listings, good.states, [2, 4]), payload),
            (RegInstall(P, 0, good.keys, good.ballots, good.listings, good.states, [-1, 6]), payload),
            (RegInstall(P, 0, [key(b"a")] * 2, good.ballots, good.listings, good.states, good.data_lengths), payload),
            (RegInstall(99, 0, good.keys, good.ballots, good.listings, good.states, good.data_lengths), payload),
        ]
        for request, data in broken:
            with pytest.raises(InvalidRequest):
                await ask(node, request, data)
        assert (await pull(node))[0].keys == []

    with_node(check)


# --- pages -----------------------------------------------------------------------------------------------------------


def test_values_beyond_the_bounds_are_refused() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for listing, state in ((b"l" * 5000, b""), (b"", bytes(limits.SCAN_BYTES_MAX + 1))):
            with pytest.raises(InvalidRequest, match="at most"):
                await ask(node, RegAccept(P, 0, key(b"a"), ballot(1), listing, state))
        with pytest.raises(InvalidRequest, match="partition 16 does not exist"):
            await ask(node, RegRead(16, 0, key(b"a")))

    with_node(check)


def test_a_full_disk_is_told_with_the_promise_whose_value_is_taken_then() -> None:
    """Else a reader could not settle what one replica holds, and what was refused could come to light."""

    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(2))) == RegState(ballot(1), b"l", b"state1")
        rig.sim_disk.used = rig.sim_disk.capacity - limits.MIB // 2 + 1
        rig.clock.now += 1
        told = await ask(node, RegPrepare(P, 0, key(b"a"), ballot(3)))
        assert told == RegState(ballot(1), b"l", b"state1", full=True)
        await accept(node, b"a", 3)
        with pytest.raises(InsufficientStorage):
            await ask(node, accepting(b"a", 4))
        assert await ask(node, RegRead(P, 0, key(b"a"))) == RegState(ballot(3), b"l", b"state3")

    with_node(check)


def test_a_full_disk_refuses_new_entries_and_lets_deletes_through() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_disk.used = rig.sim_disk.capacity - limits.MIB // 2 + 1
        with pytest.raises(InsufficientStorage, match="Delete objects or add nodes"):
            await ask(node, accepting(b"a", 1))
        request, payload = installing([b"a"], [1], [b""])
        with pytest.raises(InsufficientStorage):
            await ask(node, request, payload)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(2))) == msgspec.structs.replace(EMPTY, full=True)
        assert await ask(node, accepting(b"a", 2, listing=b"")) == RegAccepted()

    with_node(check)
