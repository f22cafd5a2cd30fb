"""A node that lost its index: what it still tells of its former lives, and when it stops."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from objstore.model import limits
from objstore.model.clock import ZERO
from objstore.model.errors import Fatal, InvalidRequest
from objstore.model.limits import KIB
from objstore.node.journal import FOLDER, files_in, path_of
from objstore.node.lost import LostRecords
from objstore.node.service import TABLES, NodeService
from objstore.wire.messages import (
    Ok,
    RecDone,
    RecPull,
    RecPulled,
    RegAccept,
    RegAccepted,
    RegDrop,
    RegFence,
    RegForget,
    RegPrepare,
    RegState,
)
from tests.sim.kv import SimKV
from tests.unit.node.rig import BITS, CLUSTER, Rig, ask, ballot, run
from tests.unit.node.test_journal import EMPTY
from tests.unit.node.test_registers import key

P = 3
Told = dict[bytes, tuple[bytes, bytes, bytes, bytes]]


async def pull(node: NodeService, partition: int = P, *, limit: int = 1024, life: int = 0) -> tuple[Told, RecPulled]:
    """All pages of a partition, and the last one."""
    told: Told = {}
    after = b""
    while True:
        page, data = await node.handle(RecPull(partition, after, limit, life), b"")
        assert isinstance(page, RecPulled)
        assert len(page.keys) <= limit and page.keys == sorted(page.keys)
        at = 0
        for i, name in enumerate(page.keys):
            end = at + page.data_lengths[i]
            told[name] = page.ballots[16 * i : 16 * i + 16], page.listings[i], page.states[i], bytes(data[at:end])
            at = end
        assert at == len(data)
        if not page.more:
            return told, page
        after = page.keys[-1]


async def reborn(rig: Rig, node: NodeService, **how: Any) -> NodeService:
    """The same disk without its index."""
    await node.close()
    rig.kv = rig.sim_kv = SimKV(TABLES)
    again = await rig.open(**how)
    assert again.id != node.id
    return again


async def accept(
    node: NodeService, name: bytes, time: int, *, partition: int = P, tag: int = 2, size: int = 10
) -> None:
    request = RegAccept(partition, tag, key(name), ballot(time), b"l%d" % time, b"state")
    assert await ask(node, request, bytes([time % 256]) * size) == RegAccepted()


def test_a_node_that_lost_its_index_tells_what_it_had_accepted() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open(record_file_bytes=4 * KIB)
        names = [b"%03d" % i for i in range(50)]
        for i, name in enumerate(names):
            await accept(node, name, i + 1, tag=4)
            await accept(node, name, i + 100, tag=6)
        await accept(node, b"other", 1, partition=P + 1)
        await ask(node, RegPrepare(P, 6, key(b"promised"), ballot(7)))
        assert not node.has_lost_records
        assert await pull(node) == ({}, RecPulled([], b"", [], [], [], False, 0, ZERO.pack(), 0, 0))

        again = await reborn(rig, node)
        assert again.has_lost_records and again.stats().registers == 0
        told, last = await pull(again)
        assert told == {
            key(name): (ballot(i + 100), b"l%d" % (i + 100), b"state", bytes([i + 100]) * 10)
            for i, name in enumerate(names)
        }
        assert (last.tag, last.floor, last.damaged, last.lives, last.node) == (6, ZERO.pack(), 0, 1, node.id)
        assert (await pull(again, limit=7))[0] == told
        assert list((await pull(again, P + 1))[0]) == [key(b"other")]
        assert (await pull(again, life=1))[0] == {}
        with pytest.raises(InvalidRequest):
            await ask(again, RecPull(1 << BITS, b"", 10))
        await again.close()

    run(main())


def test_what_was_dropped_or_forgotten_is_not_told_and_floor_and_tag_are() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"dropped", 9)
        await ask(node, RegDrop([P], 5))
        await accept(node, b"kept", 3, tag=6)
        await ask(node, RegAccept(P, 6, key(b"forgotten"), ballot(2), b"", EMPTY))
        await ask(node, RegAccept(P, 6, key(b"tombstone"), ballot(8), b"", EMPTY))
        await ask(node, RegForget(P, 6, ballot(5)))
        await ask(node, RegForget(P, 6, ballot(5), [key(b"forgotten"), key(b"tombstone")], ballot(2) + ballot(8)))
        await accept(node, b"fenced", 1, partition=P + 1)
        await ask(node, RegFence([P + 1], 9))
        again = await reborn(rig, node)
        told, last = await pull(again)
        assert list(told) == [key(b"kept"), key(b"tombstone")]
        assert (last.tag, last.floor) == (6, ballot(5))
        told, last = await pull(again, P + 1)
        assert list(told) == [key(b"fenced")] and last.tag == 9
        await again.close()

    run(main())


def test_it_goes_on_as_a_stranger_and_forgets_its_former_life_when_told() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 50)
        again = await reborn(rig, node)
        reply = await ask(again, RegPrepare(P, 2, key(b"a"), ballot(1)))
        assert isinstance(reply, RegState) and reply.accepted == ZERO.pack(), "it must not vote with what it was"
        await accept(again, b"a", 2)
        assert (await pull(again))[0][key(b"a")][0] == ballot(50)

        assert await ask(again, RecDone()) == Ok()
        assert not again.has_lost_records and (await pull(again))[1].lives == 0
        assert await ask(again, RecDone()) == Ok()
        rig.crash(Random(1))
        third = await rig.open()
        assert third.id == again.id and not third.has_lost_records
        assert list(files_in(rig.disk)) == [third.id]
        await again.close()
        await third.close()

    run(main())


def test_each_life_is_told_by_itself() -> None:
    """What a later life dropped says nothing of the earlier one: its drop may be of a layout that never held."""

    async def main() -> None:
        rig = Rig()
        first = await rig.open()
        await accept(first, b"a", 9, tag=4)
        second = await reborn(rig, first)
        await ask(second, RegDrop([P], 7))
        await accept(second, b"b", 10, tag=8)
        third = await reborn(rig, second)
        fourth = await reborn(rig, third)
        lives = [await pull(fourth, life=life) for life in range(3)]
        assert {last.lives for _, last in lives} == {3}
        said = {last.node: (list(told), last.tag) for told, last in lives}
        assert said == {first.id: ([key(b"a")], 4), second.id: ([key(b"b")], 8), third.id: ([], 0)}
        await fourth.close()

    run(main())


def test_a_life_without_a_single_value_is_told_and_one_whose_journal_is_gone_is_not() -> None:
    async def main() -> None:
        rig = Rig()
        first = await rig.open()
        second = await reborn(rig, first)
        told, last = await pull(second)
        assert (told, last.lives, last.node) == ({}, 1, first.id)
        rig.disk.unlink(path_of(first.id, 1))
        rig.disk.unlink(path_of(second.id, 1))
        third = await reborn(rig, second)
        assert (await pull(third))[1].lives == 0
        await third.close()

    run(main())


def test_a_value_that_rots_is_counted_and_never_told() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        for i in range(10):
            await accept(node, b"%d" % i, i + 1, size=1000)
        path = path_of(node.id, 1)
        for offset in (2500, 6000):
            rig.sim_disk.flip(path, offset)
        again = await reborn(rig, node)
        told, last = await pull(again)
        assert len(told) == 8 and last.damaged == 2
        rig.sim_disk.flip(path, 9000)  # after it was looked through
        told, last = await pull(again)
        assert len(told) == 7 and last.damaged == 3
        assert all(data == bytes([ballot[7]]) * 1000 for ballot, _, _, data in told.values())
        await again.close()

    run(main())


def test_a_whole_page_of_rot_does_not_end_the_list() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        for i in range(30):
            await accept(node, b"%02d" % i, i + 1, size=100)
        again = await reborn(rig, node)
        raw = rig.disk.read_file(path_of(node.id, 1))
        for i in range(25):
            rig.sim_disk.flip(path_of(node.id, 1), raw.index(bytes([i + 1]) * 100))
        told, last = await pull(again, limit=3)
        assert list(told) == [key(b"%02d" % i) for i in range(25, 30)] and last.damaged == 25
        await again.close()

    run(main())


def test_pages_are_bounded_by_bytes() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        for i in range(12):
            await accept(node, b"%02d" % i, i + 1, size=limits.MIB)
        again = await reborn(rig, node)
        page, data = await again.handle(RecPull(P, b"", 1024), b"")
        assert isinstance(page, RecPulled) and page.more and len(data) <= limits.SCAN_BYTES_MAX
        assert len((await pull(again))[0]) == 12
        await again.close()

    run(main())


def test_the_records_of_another_cluster_are_refused() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 1)
        await node.close()
        lost = LostRecords(rig.disk, "d" * 32, "another", 1 << BITS)
        with pytest.raises(Fatal, match=CLUSTER):
            lost.recover()

    run(main())


def test_foreign_names_in_the_folder_are_left_alone() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        await accept(node, b"a", 1)
        for name in ("notes.txt", "x.rec", "-00000001.rec", f"{node.id}-1.rec"):
            rig.disk.write_file(f"{FOLDER}/{name}", b"mine")
        again = await reborn(rig, node)
        assert list((await pull(again))[0]) == [key(b"a")] and (await pull(again))[1].lives == 1
        await ask(again, RecDone())
        assert len(rig.disk.list_dir(FOLDER)) == 5 and files_in(rig.disk) == {again.id: [1]}
        await again.close()

    run(main())
