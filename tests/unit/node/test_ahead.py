"""Rows that wait behind the journal (INV-12): what is answered meanwhile, and what a power cut leaves of them."""

from __future__ import annotations

import asyncio
import errno
from random import Random

import pytest

from objstore.model.errors import InsufficientStorage
from objstore.model.ids import BucketId
from objstore.model.records import Space
from objstore.node import commit
from objstore.node.commit import IndexLost
from objstore.node.journal import files_in, path_of
from objstore.node.register_rows import REG
from objstore.node.service import NodeService
from objstore.wire.messages import (
    PageAsk,
    RegAccept,
    RegAccepted,
    RegFence,
    RegPaged,
    RegPages,
    RegPrepare,
    RegPull,
    RegPulled,
    RegRead,
    RegRefused,
    RegScan,
    RegScanned,
    RegState,
    Reply,
)
from tests.unit.node.rig import BUCKET, Rig, ask, ballot, fetch, level, run, with_node
from tests.unit.node.test_registers import key

P, TAG = 3, 2


async def accept(node: NodeService, name: bytes, time: int, data: bytes = b"data") -> Reply:
    await ask(node, RegPrepare(P, TAG, key(name), ballot(time)))
    return await ask(node, RegAccept(P, TAG, key(name), ballot(time), b"l", b"s"), data)


async def after_power_cut(rig: Rig, seed: int = 1) -> NodeService:
    """The process is gone without a word."""
    rig.crash(Random(seed))
    return await rig.open()


def test_what_registers_promise_and_accept_costs_no_commit_of_the_index_and_is_read_all_the_same() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        await accept(node, b"first", 1)  # begins a file of the journal, which is committed
        await level(node)
        before = rig.sim_kv.commits
        assert await accept(node, b"a", 5) == RegAccepted()
        assert rig.sim_kv.commits == before
        assert await fetch(node, RegRead(P, TAG, key(b"a"), True)) == b"data"
        assert await ask(node, RegPrepare(P, TAG, key(b"a"), ballot(4))) == RegRefused(ballot(5))
        await level(node)
        assert rig.sim_kv.commits == before + 1
        assert await fetch(node, RegRead(P, TAG, key(b"a"), True)) == b"data"

    with_node(test)


@pytest.mark.parametrize("after", [b"new", b""])
def test_a_promise_that_waits_does_not_hide_what_a_running_commit_has_put_into_the_store(after: bytes) -> None:
    """The promise waits as a row of `reg` alone; the commit replaces the inline row that belongs to it."""

    async def test(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 1, b"old")
        await level(node)
        await ask(node, RegPrepare(P, TAG, key(b"a"), ballot(5)))
        before = rig.sim_kv.commits
        accepting = asyncio.ensure_future(ask(node, RegAccept(P, TAG, key(b"a"), ballot(5), b"l", b"s"), after))
        raising = asyncio.ensure_future(ask(node, RegFence([P + 1], TAG)))  # not light: one commit with it
        for _ in range(100):
            if rig.sim_kv.commits > before:
                break
            await asyncio.sleep(0)
        assert rig.sim_kv.commits > before and not accepting.done()
        assert await fetch(node, RegRead(P, TAG, key(b"a"), True)) in (b"old", after)
        await asyncio.gather(accepting, raising)
        assert await fetch(node, RegRead(P, TAG, key(b"a"), True)) == after

    with_node(test)


def test_they_are_committed_soon_and_whoever_walks_over_rows_finds_them_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit, "FLUSH_S", 0.01)

    async def test(rig: Rig, node: NodeService) -> None:
        await accept(node, b"a", 5)
        scanned = await ask(node, RegScan(P, TAG, bytes(BucketId(BUCKET)), Space.OBJECT, b"", b"", 10))
        assert isinstance(scanned, RegScanned)
        assert [bytes(name) for name in scanned.names] == [b"a"]
        await accept(node, b"b", 6)
        pulled = await ask(node, RegPull(P, b"", 10))
        assert isinstance(pulled, RegPulled) and pulled.keys == [key(b"a"), key(b"b")]
        await accept(node, b"c", 7)
        before = rig.sim_kv.commits
        await asyncio.sleep(0.1)
        assert rig.sim_kv.commits == before + 1

    with_node(test)


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_loses_no_promise_and_no_value(seed: int) -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"old", 3)
        await level(node)
        await accept(node, b"old", 6, b"newer")
        await accept(node, b"new", 7, b"x" * 5000)
        await ask(node, RegPrepare(P, TAG, key(b"promised"), ballot(9)))
        await ask(node, RegPrepare(P, TAG, key(b"old"), ballot(11)))
        for _ in range(3):
            node = await after_power_cut(rig, seed)
            assert await fetch(node, RegRead(P, TAG, key(b"old"), True)) == b"newer"
            assert await fetch(node, RegRead(P, TAG, key(b"new"), True)) == b"x" * 5000
            assert await ask(node, RegPrepare(P, TAG, key(b"promised"), ballot(8))) == RegRefused(ballot(9))
            assert await ask(node, RegAccept(P, TAG, key(b"old"), ballot(10), b"l", b"s")) == RegRefused(ballot(11))
        await node.close()

    run(main())


def test_what_was_forgotten_does_not_come_back_from_the_journal() -> None:
    """A batch whose rows cannot wait commits those that waited before it."""

    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 5)
        await ask(node, RegFence([P], 6))
        assert rig.sim_kv.get(REG, b"\x00\x03" + key(b"a")) is not None
        node = await after_power_cut(rig)
        reply = await ask(node, RegRead(P, 6, key(b"a")))
        assert isinstance(reply, RegState) and reply.accepted == ballot(5)
        await node.close()

    run(main())


@pytest.mark.parametrize("which", [0, 1, 2])
def test_rot_in_what_only_the_journal_has_is_the_end_of_the_life(which: int) -> None:
    """But in the last batch it looks like one that was torn, and never answered."""

    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 1)
        await level(node)
        path = path_of(node.id, files_in(rig.disk)[node.id][-1])
        places = []
        for time in (2, 3, 4):
            places.append(len(rig.disk.read_file(path).rstrip(b"\0")))
            await ask(node, RegPrepare(P, TAG, key(b"a"), ballot(time)))
        rig.crash(Random(1))
        rig.sim_disk.flip(path, places[which] + 40)
        if which == 2:
            node = await rig.open()
            assert await ask(node, RegPrepare(P, TAG, key(b"a"), ballot(3))) == RegRefused(ballot(3))
            await node.close()
        else:
            with pytest.raises(IndexLost):
                await rig.open()

    run(main())


@pytest.mark.parametrize("clean", [False, True])
def test_a_newest_file_that_is_gone_is_the_end_of_the_life_unless_the_rows_had_all_of_it(clean: bool) -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 1)
        path = path_of(node.id, files_in(rig.disk)[node.id][-1])
        if clean:
            await node.close()
        rig.crash(Random(1))
        rig.disk.unlink(path)
        if not clean:
            with pytest.raises(IndexLost):
                await rig.open()
            return
        again = await rig.open()
        assert again.id == node.id
        assert await fetch(again, RegRead(P, TAG, key(b"a"), True)) == b"data"
        await again.close()

    run(main())


def test_a_full_index_refuses_what_cannot_wait_and_keeps_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "AHEAD_BYTES_MAX", 3000)

    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"first", 1)
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        assert await accept(node, b"a", 1, bytes(1000)) == RegAccepted()
        assert await accept(node, b"b", 2, bytes(3000)) == RegAccepted()
        with pytest.raises(InsufficientStorage):  # too much waits already
            await accept(node, b"c", 3)
        with pytest.raises(InsufficientStorage):
            await ask(node, RegFence([P], 6))
        for name, length in ((b"a", 1000), (b"b", 3000)):
            assert len(await fetch(node, RegRead(P, TAG, key(name), True))) == length
        rig.sim_kv.fail_commit = None
        assert await accept(node, b"c", 4) == RegAccepted()
        node = await after_power_cut(rig)
        for name, length in ((b"a", 1000), (b"b", 3000), (b"c", 4)):
            assert len(await fetch(node, RegRead(P, TAG, key(name), True))) == length
        await node.close()

    run(main())


def test_lists_go_on_while_the_index_takes_no_rows_and_show_what_waits() -> None:
    async def test(rig: Rig, node: NodeService) -> None:
        async def listed() -> list[tuple[bytes, bytes]]:
            asks = [PageAsk(P, TAG, b"", True, True)]
            paged = await ask(node, RegPages(BUCKET, Space.OBJECT, b"", 10, asks))
            scanned = await ask(node, RegScan(P, TAG, BUCKET, Space.OBJECT, b"", b"", 10))
            assert isinstance(paged, RegPaged) and isinstance(scanned, RegScanned)
            page = paged.pages[0]
            wholes.append(page.whole)
            found = list(zip(scanned.names, scanned.listings, strict=True))
            assert found == list(zip(page.names, page.listings, strict=True))
            return found

        wholes: list[bytes] = []
        for time, name in enumerate((b"a", b"b", b"c"), 1):
            await accept(node, name, time)
        await level(node)
        rig.sim_kv.fail_commit = OSError(errno.ENOSPC, "full")
        await ask(node, RegPrepare(P, TAG, key(b"b"), ballot(7)))
        await ask(node, RegAccept(P, TAG, key(b"b"), ballot(7), b"new", b"s"))
        await accept(node, b"bb", 8)
        await ask(node, RegPrepare(P, TAG, key(b"d"), ballot(9)))
        expected = [(b"a", b"l"), (b"b", b"new"), (b"bb", b"l"), (b"c", b"l")]
        assert await listed() == expected and wholes == [b""], "nobody vouches for rows that wait"
        with pytest.raises(InsufficientStorage):  # repair wants the states, and can wait
            await ask(node, RegScan(P, TAG, BUCKET, Space.OBJECT, b"", b"", 10, with_state=True))
        rig.sim_kv.fail_commit = None
        assert await listed() == expected and wholes[1]

    with_node(test)
