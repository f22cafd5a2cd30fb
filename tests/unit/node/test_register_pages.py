"""What a node tells of many registers at a time: scans, pages that are told or vouched for, pulls, digests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model import limits
from objstore.model.clock import ZERO
from objstore.model.ids import BucketId
from objstore.model.records import RegisterKey, Space
from objstore.node.service import NodeService
from objstore.ports import Later
from objstore.wire.messages import (
    Page,
    PageAsk,
    RegAccept,
    RegAccepted,
    RegDigested,
    RegDigests,
    RegDrop,
    RegFence,
    RegPaged,
    RegPages,
    RegPrepare,
    RegScan,
    RegScanned,
)
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, level, with_node
from tests.unit.node.test_registers import P, accept, accepting, digest, key, pull, scan


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
