"""Floors and forgetting on a node: absent registers that go on refusing, whatever happens in between (INV-11)."""

from __future__ import annotations

import asyncio
import errno
from random import Random

import pytest

from objstore.model.clock import ZERO
from objstore.model.errors import InsufficientStorage, InvalidRequest
from objstore.model.ids import BucketId
from objstore.model.records import Register, RegisterKey, Space, encode
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
    RegForget,
    RegInstall,
    RegPrepare,
    RegPull,
    RegPulled,
    RegRead,
    RegRefused,
    RegStale,
    RegState,
)
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, run, with_node

P = 3
DEAD = encode(Register(b"", (), 0))


def key(name: bytes) -> bytes:
    return RegisterKey(BucketId(BUCKET), Space.OBJECT, name).pack()


async def delete(node: NodeService, name: bytes, time: int, tag: int = 0) -> None:
    assert await ask(node, RegAccept(P, tag, key(name), ballot(time), b"", DEAD)) == RegAccepted()


def forgetting(floor: int, *registers: tuple[bytes, int], tag: int = 0) -> RegForget:
    ballots = b"".join(ballot(time) if time else ZERO.pack() for _, time in registers)
    return RegForget(P, tag, ballot(floor), [key(name) for name, _ in registers], ballots)


def absent(floor: int) -> RegState:
    return RegState(ZERO.pack(), b"", b"", ballot(floor))


async def pull(node: NodeService) -> RegPulled:
    reply = await ask(node, RegPull(P, b"", 100, ballots_only=True, promises=True))
    assert isinstance(reply, RegPulled)
    return reply


def test_a_forgotten_tombstone_is_gone_and_the_floor_refuses_what_it_would_have() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await delete(node, b"a", 5)
        assert await ask(node, forgetting(8, (b"a", 5))) == Ok()
        assert rig.sim_kv.scan("reg", b"") == []
        assert await ask(node, RegDigests([P])) == RegDigested([0], [0])
        assert await ask(node, RegRead(P, 0, key(b"a"))) == absent(8)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(8))) == RegRefused(ballot(8))
        assert await ask(node, RegAccept(P, 0, key(b"a"), ballot(8), b"l", b"s")) == RegRefused(ballot(8))
        assert await ask(node, RegAccept(P, 0, key(b"a"), ballot(5), b"", DEAD)) == RegRefused(ballot(8))
        request = RegInstall(P, 0, [key(b"a")], ballot(8), [b"l"], [b"s"], [0])
        assert await ask(node, request) == Ok()
        assert (await pull(node)).keys == []
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(9))) == absent(8)
        assert await ask(node, RegRead(P, 0, key(b"a"))) == absent(8)
        assert await ask(node, RegAccept(P, 0, key(b"a"), ballot(9), b"l", b"s")) == RegAccepted()
        assert await ask(node, RegRead(P, 0, key(b"a"))) == RegState(ballot(9), b"l", b"s")

    with_node(check)


def test_only_what_was_named_and_is_empty_and_covered_goes() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for name in (b"newer", b"promised", b"gone"):
            await delete(node, name, 5)
        await delete(node, b"newer", 6)
        await ask(node, RegPrepare(P, 0, key(b"promised"), ballot(9)))
        await ask(node, RegAccept(P, 0, key(b"live"), ballot(5), b"l", encode(Register(b"body"))))
        await ask(node, RegAccept(P, 0, key(b"hidden"), ballot(5), b"", encode(Register(b"body"))))
        await ask(node, RegAccept(P, 0, key(b"odd"), ballot(5), b"", b"\xc1 no record"))
        names = (b"newer", b"promised", b"live", b"hidden", b"odd", b"gone", b"never")
        assert await ask(node, forgetting(8, *((name, 5) for name in names))) == Ok()
        assert set((await pull(node)).keys) == {key(name) for name in names[:5]}

    with_node(check)


def test_registers_that_were_only_promised_are_forgotten_too() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for name, time in ((b"a", 8), (b"b", 9)):
            await ask(node, RegPrepare(P, 0, key(name), ballot(time)))
        assert await ask(node, forgetting(8, (b"a", 0), (b"b", 0))) == Ok()
        page = await pull(node)
        assert (page.keys, page.promises, page.floor) == ([key(b"b")], ballot(9), ballot(8))
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(8))) == RegRefused(ballot(8))
        assert await ask(node, RegPrepare(P, 0, key(b"b"), ballot(9))) == RegRefused(ballot(9))

    with_node(check)


def test_a_floor_only_rises_and_spares_what_is_there() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await delete(node, b"a", 5)
        assert await ask(node, forgetting(8)) == Ok()
        assert await ask(node, forgetting(7)) == Ok()
        assert (await pull(node)).floor == ballot(8)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(6))) == RegState(ballot(5), b"", DEAD)
        assert await ask(node, RegPrepare(P, 0, key(b"b"), ballot(8))) == RegRefused(ballot(8))
        assert await ask(node, RegPrepare(4, 0, key(b"b"), ballot(2))) == RegState(ZERO.pack(), b"", b"")

    with_node(check)


def test_counters_follow_and_come_back_after_a_power_loss_with_the_floor() -> None:
    rig = Rig()

    async def main() -> None:
        node = await rig.open()
        await delete(node, b"a", 5)
        await delete(node, b"k" * 1000, 6)
        before = await ask(node, NodeStats(changes=True))
        await ask(node, forgetting(8, (b"k" * 1000, 6)))
        after = await ask(node, NodeStats(changes=True))
        assert isinstance(before, NodeStatsReply) and isinstance(after, NodeStatsReply)
        assert (after.registers, after.meta_changes[P]) == (1, before.meta_changes[P] + 1)
        digests = await ask(node, RegDigests([P]))
        rig.crash(Random(3))
        again = await rig.open()
        assert await ask(again, RegDigests([P])) == digests
        assert await ask(again, RegRead(P, 0, key(b"k" * 1000))) == absent(8)
        assert await ask(again, RegPrepare(P, 0, key(b"k" * 1000), ballot(8))) == RegRefused(ballot(8))
        await node.close()
        await again.close()

    run(main())


def test_below_the_fence_nothing_is_forgotten() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await delete(node, b"a", 5)
        await ask(node, RegFence([P], 6))
        assert await ask(node, forgetting(8, (b"a", 5), tag=5)) == RegStale(6)
        page = await pull(node)
        assert (page.keys, page.floor) == ([key(b"a")], ZERO.pack())

    with_node(check)


@pytest.mark.parametrize("by", ["prepare", "read"])
def test_who_works_under_a_joint_tag_has_fenced_what_is_older(by: str) -> None:
    """No owner that took part in a joint round may let an old-only collector begin (INV-11)."""
    rig = Rig()

    async def main() -> None:
        node = await rig.open()
        joint = RegPrepare(P, 7, key(b"a"), ballot(3)) if by == "prepare" else RegRead(P, 7, key(b"a"))
        await ask(node, joint)
        assert await ask(node, forgetting(8, tag=6)) == RegStale(7)
        assert await ask(node, RegRead(P, 6, key(b"a"))) == RegStale(7)
        rig.crash(Random(4))
        again = await rig.open()
        assert await ask(again, forgetting(8, tag=6)) == RegStale(7)
        await node.close()
        await again.close()

    run(main())


def test_a_tag_of_one_layout_is_no_fence() -> None:
    """A gateway with a newer map of the same owners must not lock out the others."""

    async def check(rig: Rig, node: NodeService) -> None:
        await ask(node, RegRead(P, 8, key(b"a")))
        await ask(node, RegPrepare(P, 8, key(b"a"), ballot(3)))
        await delete(node, b"a", 5, tag=6)

    with_node(check)


def test_a_joint_read_waits_for_the_fence_that_another_one_began() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        reads = [ask(node, RegRead(P, 7, key(b"a"))) for _ in range(2)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(result, InsufficientStorage) for result in results)
        rig.sim_kv.fail_commit = None
        assert await ask(node, RegRead(P, 6, key(b"a"))) == RegState(ZERO.pack(), b"", b"")

    with_node(check)


def test_a_drop_forgets_the_floor() -> None:
    """What it shut out belongs to a membership that is over; who joins takes all values first."""

    async def check(rig: Rig, node: NodeService) -> None:
        await ask(node, forgetting(8))
        assert await ask(node, RegDrop([P], 6)) == Ok()
        assert (await pull(node)).floor == ZERO.pack()
        await delete(node, b"a", 5, tag=6)
        assert await ask(node, forgetting(7, tag=6)) == Ok()
        requests = [ask(node, RegDrop([P], 8)), ask(node, forgetting(3, tag=8))]
        assert await asyncio.gather(*requests) == [Ok(), Ok()]
        assert (await pull(node)).floor == ballot(3)
        assert rig.sim_kv.scan("floor", b"") != []

    with_node(check)


def test_a_commit_that_fails_leaves_floor_and_registers_as_they_were() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await delete(node, b"a", 5)
        await ask(node, forgetting(6))
        digests = await ask(node, RegDigests([P]))
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        requests = [forgetting(8, (b"a", 5)), forgetting(8, (b"a", 5)), RegDrop([P], 6)]
        results = await asyncio.gather(*(ask(node, request) for request in requests), return_exceptions=True)
        assert all(isinstance(result, InsufficientStorage) for result in results)
        rig.sim_kv.fail_commit = None
        assert await ask(node, RegDigests([P])) == digests
        assert (await pull(node)).floor == ballot(6)
        assert await ask(node, RegPrepare(P, 0, key(b"b"), ballot(7))) == absent(6)
        await delete(node, b"a", 6)

    with_node(check)


def test_decisions_see_a_forgetting_that_is_still_queued() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await delete(node, b"a", 5)
        before = rig.sim_kv.commits
        requests = [
            forgetting(8, (b"a", 5)),
            RegPrepare(P, 0, key(b"a"), ballot(8)),
            RegPrepare(P, 0, key(b"a"), ballot(9)),
            RegAccept(P, 0, key(b"a"), ballot(9), b"", DEAD),
            forgetting(10, (b"a", 9)),
            RegPrepare(P, 0, key(b"a"), ballot(11)),
        ]
        replies = await asyncio.gather(*(ask(node, request) for request in requests))
        assert replies == [Ok(), RegRefused(ballot(8)), absent(8), RegAccepted(), Ok(), absent(10)]
        assert rig.sim_kv.commits == before + 1
        assert await ask(node, RegDigests([P])) == RegDigested([0], [0])

    with_node(check)


def test_malformed_requests_change_nothing() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for request in (
            RegForget(P, 0, ballot(8), [key(b"a")], b""),
            RegForget(P, 0, ZERO.pack()),
            RegForget(99, 0, ballot(8)),
        ):
            with pytest.raises(InvalidRequest):
                await ask(node, request)
        assert (await pull(node)).floor == ZERO.pack()

    with_node(check)
