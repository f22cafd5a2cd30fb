"""The acceptor of a node: rounds, durability, fences, pages."""

from __future__ import annotations

import asyncio
import errno
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model import limits
from objstore.model.clock import ZERO
from objstore.model.errors import InsufficientStorage, InvalidRequest, Unavailable
from objstore.model.ids import BucketId
from objstore.model.records import RegisterKey, Space
from objstore.node.service import NodeService
from objstore.ports import Later
from objstore.wire.messages import (
    NodeStats,
    NodeStatsReply,
    Ok,
    Page,
    PageAsk,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegInstall,
    RegPaged,
    RegPages,
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
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, level, run, with_node

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


def test_scans_show_tombstones_but_not_mere_promises() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        assert await ask(node, accepting(b"b", 2, listing=b"")) == RegAccepted()
        await ask(node, RegPrepare(P, 0, key(b"c"), ballot(3)))
        page = await scan(node)
        assert page == RegScanned([b"a", b"b"], ballot(1) + ballot(2), [b"l", b""], [], False)
        assert (await scan(node, with_state=True)).states == [b"state1", b"state2"]
        assert (await pull(node))[0].keys == [key(b"a"), key(b"b")]
        page_, _ = await pull(node, ballots_only=True, promises=True)
        assert page_.keys == [key(b"a"), key(b"b"), key(b"c")]
        assert page_.ballots == ballot(1) + ballot(2) + ZERO.pack()
        assert page_.promises == ballot(1) + ballot(2) + ballot(3)

    with_node(check)


async def pages(node: NodeService, limit: int, *asks: PageAsk, end: bytes = b"") -> list[Page]:
    reply = await ask(node, RegPages(BUCKET, Space.OBJECT, end, limit, list(asks)))
    assert isinstance(reply, RegPaged)
    return reply.pages


def test_pages_of_many_partitions_are_told_or_vouched_for() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        assert await ask(node, accepting(b"b", 2, listing=b"")) == RegAccepted()
        await ask(node, RegPrepare(P, 0, key(b"ba"), ballot(3)))  # a mere promise counts nowhere
        await accept(node, b"c", 4, listing=b"other")
        await accept(node, b"z", 5, partition=4)
        await ask(node, RegFence([5], 7))
        first, other, stale, again, empty = await pages(
            node,
            3,
            PageAsk(P, 0, b"", True),
            PageAsk(4, 0, b"", True),
            PageAsk(5, 6, b"", True),
            PageAsk(P, 0, b"", False),
            PageAsk(P, 0, b"d", True),
        )
        whole = first.whole
        assert (first.names, first.listings, first.more) == ([b"a", b"b", b"c"], [b"l", b"", b"other"], False)
        assert (other.names, other.listings, other.more) == ([b"z"], [b"l"], False)
        assert stale == Page(b"")
        assert again == Page(first.digest, whole=whole)
        assert (empty.names, empty.more) == ([], False) and empty.digest
        (short,) = await pages(node, 2, PageAsk(P, 0, b"", True))
        assert (short.names, short.more) == ([b"a", b"b"], True)
        (bounded,) = await pages(node, 2, PageAsk(P, 0, b"", True), end=b"c")
        assert (bounded.names, bounded.more) == ([b"a", b"b"], False)
        assert len({page.digest for page in (first, other, empty, short, bounded)}) == 5

    with_node(check)


async def whole_of(node: NodeService, partition: int, tag: int = 0) -> bytes:
    """What it vouches for without reading a row."""
    (page,) = await pages(node, 1, PageAsk(partition, tag, b"", False, False))
    assert page == Page(b"", whole=page.whole)
    return page.whole


def test_who_holds_the_same_vouches_for_the_whole_partition_in_whatever_order_it_was_written() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        wholes = [await whole_of(node, P)]
        writes = [(b"a", 1, b"l"), (b"b", 2, b""), (b"a", 3, b"l"), (b"c", 4, b"l")]
        for name, time, listing in writes:
            await accept(node, name, time, listing=listing)
            wholes.append(await whole_of(node, P))
            (told,) = await pages(node, 2, PageAsk(P, 0, b"b", True))
            assert told.whole == wholes[-1]
        assert len(set(wholes)) == len(wholes)
        assert await ask(node, RegPrepare(P, 0, key(b"a"), ballot(9)))
        assert await whole_of(node, P) == wholes[-1]
        for name, time, listing in (writes[3], writes[1], writes[2]):  # another one, which never saw the first write
            await accept(node, name, time, listing=listing, partition=4)
        assert await whole_of(node, 4) == wholes[-1]
        await ask(node, RegFence([4], 7))
        (late, now) = await pages(node, 2, PageAsk(4, 6, b"", False, False), PageAsk(4, 7, b"", False, False))
        assert late == Page(b"") and now.whole == wholes[-1]
        await node.close()
        again = await rig.open()
        assert [await whole_of(again, P), await whole_of(again, 4, 7)] == [wholes[-1]] * 2
        await again.close()

    with_node(check)


def test_nobody_vouches_for_the_whole_while_a_read_may_show_more_than_was_settled() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        before = await whole_of(node, P)
        later = node.begin(accepting(b"b", 2), b"")
        assert isinstance(later, Later)
        assert await whole_of(node, P) == b""
        assert await whole_of(node, 4) != b""  # nothing moves there
        (mixed, _) = await pages(node, 9, PageAsk(P, 0, b"", False, False), PageAsk(4, 0, b"", True))
        await later.done
        after = await whole_of(node, P)
        assert mixed.whole in (b"", after) and before != after != b""

    with_node(check)


@pytest.mark.parametrize("when", ["flushed", "before", "while", "after", "dropped"])
def test_the_whole_is_told_beside_a_page_only_if_the_rows_were_just_that(when: str, monkeypatch: Any) -> None:
    """A register that is written meanwhile may be in the page and not in the digest, or the other way round."""

    async def check(rig: Rig, node: NodeService) -> None:
        store = node._registers
        await accept(node, b"a", 1)
        (quiet,) = await pages(node, 9, PageAsk(P, 0, b"", True))
        assert quiet.whole == await whole_of(node, P)
        listed = store._paging.run
        waiting: list[Any] = []

        def done() -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_result(None)
            return future

        async def beside(work: Any, *args: Any) -> Any:
            if when == "before":
                await accept(node, b"b", 2)
                await level(node)
            if when == "while":
                waiting.append(node.begin(accepting(b"b", 2), b""))
            if when == "dropped":
                waiting.append(asyncio.create_task(ask(node, RegDrop([P], 1))))
                await asyncio.sleep(0)
            found = await listed(work, *args)
            if when == "after":
                await accept(node, b"b", 2)
            return found

        monkeypatch.setattr(store._paging, "run", beside)
        if when == "flushed":  # what was submitted after the flush is durable, and not in the rows
            await accept(node, b"b", 2)
            assert node._commits.ahead
            monkeypatch.setattr(node._commits, "flush", done)
        (page,) = await pages(node, 9, PageAsk(P, 0, b"", True))
        assert page.digest and page.whole == b""
        assert page.names == ([b"a", b"b"] if when == "before" else [b"a"])
        monkeypatch.undo()
        for one in waiting:
            await (one if when == "dropped" else one.done)
        (quiet,) = await pages(node, 9, PageAsk(P, 1, b"", True))
        assert quiet.whole == await whole_of(node, P, 1)

    with_node(check)


@pytest.mark.parametrize("tell", [True, False])
def test_digests_tell_apart_what_a_scan_tells_apart_and_nothing_else(tell: bool) -> None:
    """Whatever path a page is read by: with promises among its rows, and with places that are cut in the store."""
    names = [b"a", b"b" * 470, b"c" * 600, b"c" * 600 + b"d", b"d", b"e"]

    async def check(rig: Rig, node: NodeService) -> None:
        for number, name in enumerate(names):
            await accept(node, name, 10 + number)
        for number in range(20):  # of the same names elsewhere, but between them mere promises
            await ask(node, RegPrepare(4, 0, key(b"a%d" % number), ballot(3)))
        for number, name in enumerate(names):
            await accept(node, name, 10 + number, partition=4)
        await accept(node, b"e", 99, partition=6)
        seen: dict[bytes, tuple[int, tuple[bytes, ...], bytes, bool]] = {}
        for partition in (P, 4, 6):
            for start in (b"", *names, b"zz"):
                for end in (b"", b"c" * 600, b"e"):
                    for limit in (1, 2, 3, 5, 6, 7, 100):
                        if end and start >= end:
                            continue
                        scanned = await ask(node, RegScan(partition, 0, BUCKET, Space.OBJECT, start, end, limit))
                        assert isinstance(scanned, RegScanned)
                        (page,) = await pages(node, limit, PageAsk(partition, 0, start, tell), end=end)
                        if tell:
                            assert (page.names, page.listings, page.more) == (
                                scanned.names,
                                scanned.listings,
                                scanned.more,
                            )
                        where = partition if scanned.names else 0
                        content = (where, tuple(scanned.names), scanned.ballots, scanned.more)
                        assert seen.setdefault(page.digest, content) == content, (partition, start, end, limit)
        assert len(seen) == len(set(seen.values())) > 20

    with_node(check)


def test_a_scan_stays_in_its_bucket_space_and_partition() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1)
        await accept(node, b"elsewhere", 1, partition=4)
        for bucket, space in ((bytes(16), Space.OBJECT), (b"\xff" * 16, Space.OBJECT), (BUCKET, Space.PART)):
            packed = RegisterKey(BucketId(bucket), space, b"x").pack()
            await ask(node, RegAccept(P, 0, packed, ballot(1), b"l", b"s"))
        assert (await scan(node)).names == [b"a"]
        reply = await ask(node, RegScan(P, 0, b"\xff" * 16, Space.OBJECT, b"", b"", 10))
        assert isinstance(reply, RegScanned) and reply.names == [b"x"]

    with_node(check)


NAMES = st.sets(
    st.binary(min_size=1, max_size=3)
    | st.builds(lambda tail: b"p" * 461 + tail, st.binary(max_size=3))
    | st.builds(lambda tail: (b"p" * 1024)[: 1024 - len(tail)] + tail, st.binary(max_size=3)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(names=NAMES, start=st.binary(max_size=3), end=st.binary(max_size=3), limit=st.integers(1, 6))
def test_pages_of_long_and_short_names_join_to_the_sorted_list(
    names: set[bytes], start: bytes, end: bytes, limit: int
) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await asyncio.gather(*[accept(node, name, 1) for name in sorted(names)])
        found: list[bytes] = []
        at = start
        while True:
            page = await scan(node, at, end, limit)
            found += page.names
            assert len(page.names) <= limit
            if not page.more:
                break
            at = page.names[-1] + b"\x00"
        assert found == [name for name in sorted(names) if name >= start and (not end or name < end)]
        pulled: list[bytes] = []
        more = True
        while more:
            got, _ = await pull(node, pulled[-1] if pulled else b"", limit)
            pulled += got.keys
            more = got.more
        assert pulled == [key(name) for name in sorted(names)]

    with_node(check)


def test_pages_that_carry_values_are_bounded_in_bytes() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        states = b"s" * limits.MIB
        for i in range(9):
            request = RegAccept(P, 0, key(b"%d" % i), ballot(1), b"l", states)
            await ask(node, request, bytes(limits.MIB // 2))
        sizes = []
        after = b""
        while True:
            page, data = await pull(node, after)
            sizes.append(len(data) + sum(map(len, page.states)))
            after = page.keys[-1]
            if not page.more:
                break
        assert len(sizes) > 3 and max(sizes) <= limits.SCAN_BYTES_MAX
        assert (await scan(node, with_state=True)).more
        assert not (await scan(node)).more
        brief, data = await pull(node, ballots_only=True)
        assert len(brief.keys) == 9 and (brief.states, brief.data_lengths, data) == ([], [], b"")

    with_node(check)


def test_values_beyond_the_bounds_are_refused() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for listing, state in ((b"l" * 5000, b""), (b"", bytes(limits.SCAN_BYTES_MAX + 1))):
            with pytest.raises(InvalidRequest, match="at most"):
                await ask(node, RegAccept(P, 0, key(b"a"), ballot(1), listing, state))
        with pytest.raises(InvalidRequest, match="partition 16 does not exist"):
            await ask(node, RegRead(16, 0, key(b"a")))

    with_node(check)


def test_digests_depend_on_what_is_accepted_and_not_on_the_way_there() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for name, time in ((b"a", 1), (b"b", 2), (b"a", 3)):
            await accept(node, name, time)
        for name, time in ((b"b", 2), (b"a", 3)):
            await accept(node, name, time, partition=4)
        await ask(node, RegPrepare(4, 0, key(b"c"), ballot(9)))
        reply = await ask(node, RegDigests([P, 4, 5]))
        assert isinstance(reply, RegDigested)
        assert reply.counts == [2, 2, 0]
        assert reply.digests[0] == reply.digests[1] != 0 and reply.digests[2] == 0
        await accept(node, b"b", 4, partition=4)
        assert await digest(node, 4) != reply.digests[0]

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
