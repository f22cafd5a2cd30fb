"""Fragments: verified on arrival, durable before Ok, found again, and gone when they are deleted."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from objstore.model import limits
from objstore.model.errors import Corrupt, InsufficientStorage, InvalidRequest, NotFound, Overloaded, Unavailable
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.budget import PayloadBudget
from objstore.node.service import NodeService
from objstore.node.volumes import BLOCK, padded
from objstore.wire.messages import (
    FragCommit,
    FragDelete,
    FragHead,
    FragList,
    FragListed,
    FragLocate,
    FragLocated,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
    NodeStats,
    NodeStatsReply,
    Ok,
)
from tests.sim.disk import SimDisk, SimFile
from tests.unit.node.rig import BITS, Rig, ask, blob_in, envelope, fetch, whole, with_node

P = 3
BLOB = blob_in(P)
ONE = FragmentId(BLOB, 0, 1)
VOLUME = "volumes/00000001.vol"


async def put(node: NodeService, fragment: FragmentId, raw: bytes) -> None:
    assert await ask(node, FragPut(P, fragment.pack()), raw) == Ok()


async def stats(node: NodeService) -> NodeStatsReply:
    reply = await ask(node, NodeStats(changes=True))
    assert isinstance(reply, NodeStatsReply)
    return reply


def offset_of(rig: Rig, fragment: FragmentId) -> int:
    held = index.find(rig.rows, fragment.pack())
    assert held is not None
    return held.extent.offset


@pytest.mark.parametrize("size", [1, 10_000, 600_000])
def test_what_was_put_is_read_back(size: int) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for shard in range(3):
            fragment = FragmentId(BLOB, 0, shard)
            header, cells = envelope(fragment, size)
            body = b"".join(cells)
            await put(node, fragment, header + body)
            assert await fetch(node, FragHead(fragment.pack())) == header
            assert await fetch(node, FragRead(fragment.pack(), 0, len(body))) == body
            middle = len(body) // 2
            assert await fetch(node, FragRead(fragment.pack(), middle, len(body) - middle)) == body[middle:]
            assert await ask(node, FragVerify(fragment.pack())) == Ok()

    with_node(check)


def test_unknown_fragments_are_not_found() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        for request in (FragHead(ONE.pack()), FragRead(ONE.pack(), 0, 1), FragVerify(ONE.pack())):
            with pytest.raises(NotFound, match="not on this node"):
                await ask(node, request)

    with_node(check)


def test_reads_out_of_bounds_are_refused() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        _, cells = envelope(ONE)
        length = len(b"".join(cells))
        await put(node, ONE, whole(ONE))
        for offset, count in ((0, length + 1), (length, 1), (1 << 62, 1 << 62)):
            with pytest.raises(InvalidRequest, match="do not exist"):
                await ask(node, FragRead(ONE.pack(), offset, count))
        assert await fetch(node, FragRead(ONE.pack(), length, 0)) == b""

    with_node(check)


def damaged() -> dict[str, bytes]:
    header, cells = envelope(ONE)
    good = header + b"".join(cells)
    return {
        "flipped cell": good[:-20] + bytes([good[-20] ^ 1]) + good[-19:],
        "flipped header": good[:30] + bytes([good[30] ^ 1]) + good[31:],
        "cut short": good[:-1],
        "too long": good + b"x",
        "swapped cells": header + b"".join((cells[1], cells[0], *cells[2:])) if len(cells[0]) == len(cells[1]) else b"",
        "other fragment": whole(FragmentId(BLOB, 0, 2)),
        "other cluster": whole(ONE, cluster="d" * 32),
        "no envelope": b"nonsense" * 10,
        "empty": b"",
    }


@pytest.mark.parametrize("kind", sorted(damaged()))
def test_bad_envelopes_are_refused_and_leave_nothing(kind: str) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        with pytest.raises(Corrupt):
            await ask(node, FragPut(P, ONE.pack()), damaged()[kind])
        with pytest.raises(NotFound):
            await ask(node, FragHead(ONE.pack()))
        after = await stats(node)
        assert (after.fragments, after.used_bytes, rig.sim_disk.used // BLOCK) == (0, 0, 1), "only identity.json"

    with_node(check)


def test_the_partition_of_the_request_must_be_that_of_the_fragment() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        with pytest.raises(InvalidRequest, match=f"belongs to partition {P}"):
            await ask(node, FragPut(P + 1, ONE.pack()), whole(ONE))
        with pytest.raises(InvalidRequest, match="does not exist"):
            await ask(node, FragPut(1 << BITS, ONE.pack()), whole(ONE))

    with_node(check)


def test_a_repeated_put_stores_nothing_twice() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        raw = whole(ONE)
        await asyncio.gather(*[put(node, ONE, raw) for _ in range(5)])
        await put(node, ONE, raw)
        after = await stats(node)
        assert (after.fragments, after.used_bytes, after.data_changes[P]) == (1, padded(len(raw)), 1)

    with_node(check)


def test_a_different_envelope_replaces_the_stored_one_and_frees_it() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await put(node, ONE, whole(ONE, 10_000))
        first = offset_of(rig, ONE)
        raw = whole(ONE, 20_000)
        await put(node, ONE, raw)
        after = await stats(node)
        assert (after.fragments, after.used_bytes) == (1, padded(len(raw)))
        assert rig.disk.open(VOLUME).pread(BLOCK, first) == bytes(BLOCK)
        assert await ask(node, FragVerify(ONE.pack())) == Ok()

    with_node(check)


def test_a_put_over_a_rotten_fragment_replaces_it_and_keeps_the_old_one_in_quarantine() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        raw = whole(ONE)
        await put(node, ONE, raw)
        rig.sim_disk.flip(VOLUME, offset_of(rig, ONE) + len(raw) - 30)
        await put(node, ONE, raw)
        assert await ask(node, FragVerify(ONE.pack())) == Ok()
        assert len(index.quarantined(rig.rows, ONE.pack())) == 1
        after = await stats(node)
        assert (after.fragments, after.used_bytes) == (1, 2 * padded(len(raw)))

    with_node(check)


@pytest.mark.parametrize("where", [5, 200, -30, "gone"])
def test_verify_quarantines_what_rotted(where: int | str) -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        raw = whole(ONE)
        other = FragmentId(BLOB, 0, 2)
        await put(node, ONE, raw)
        await put(node, other, whole(other))
        if isinstance(where, int):
            rig.sim_disk.flip(VOLUME, offset_of(rig, ONE) + where % len(raw))
        else:
            rig.disk.open(VOLUME).punch(offset_of(rig, ONE), padded(len(raw)))
        with pytest.raises(Corrupt, match="in quarantine"):
            await ask(node, FragVerify(ONE.pack()))
        with pytest.raises(NotFound):
            await ask(node, FragRead(ONE.pack(), 0, 1))
        assert await ask(node, FragLocate(BLOB, 0)) == FragLocated([2])
        ((_, held, reason),) = index.quarantined(rig.rows, ONE.pack())
        assert held.partition == P and reason
        after = await stats(node)
        assert (after.fragments, after.data_changes[P]) == (1, 3)
        await put(node, ONE, raw)
        assert (await stats(node)).fragments == 2

    with_node(check)


def test_an_envelope_at_the_place_of_another_is_found_out() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        other = FragmentId(blob_in(P, salt=1), 0, 1)
        await put(node, ONE, whole(ONE))
        rig.disk.open(VOLUME).pwrite(whole(other), offset_of(rig, ONE))
        with pytest.raises(Corrupt, match="another envelope"):
            await ask(node, FragVerify(ONE.pack()))

    with_node(check)


def test_locate_and_list_follow_what_is_held() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        fragments = sorted(FragmentId(blob_in(P, salt), 0, shard) for salt in range(3) for shard in (0, 2))
        for fragment in reversed(fragments):
            await put(node, fragment, whole(fragment))
        assert await ask(node, FragLocate(fragments[0].blob, 0)) == FragLocated([0, 2])
        assert await ask(node, FragLocate(fragments[0].blob, 1)) == FragLocated([])
        found = b""
        after = b""
        while True:
            page = await ask(node, FragList(P, after, 4))
            assert isinstance(page, FragListed) and len(page.lengths) * 21 == len(page.fragments)
            found += page.fragments
            after = found[-21:]
            if not page.more:
                break
        assert found == b"".join(fragment.pack() for fragment in fragments)
        assert await ask(node, FragList(P + 1, b"", 4)) == FragListed(b"", [], False)

    with_node(check)


def test_delete_gives_the_space_back_and_ignores_the_unknown() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        fragments = [FragmentId(BLOB, 0, shard) for shard in range(3)]
        for fragment in fragments:
            await put(node, fragment, whole(fragment))
        raw = whole(ONE)
        rig.sim_disk.flip(VOLUME, offset_of(rig, ONE) + len(raw) - 30)
        with pytest.raises(Corrupt):
            await ask(node, FragVerify(ONE.pack()))
        unknown = FragmentId(blob_in(P, salt=9), 0, 0)
        before = rig.sim_disk.used
        request = FragDelete(P, b"".join(f.pack() for f in (*fragments[:2], unknown, fragments[0])))
        assert await ask(node, request) == Ok()
        assert await ask(node, request) == Ok()
        assert await ask(node, FragLocate(BLOB, 0)) == FragLocated([2])
        after = await stats(node)
        assert (after.fragments, after.used_bytes) == (1, padded(len(whole(fragments[2]))))
        assert index.quarantined(rig.rows, ONE.pack()) == [], "a proof that nobody needs it covers quarantined copies"
        assert before - rig.sim_disk.used == padded(len(raw)) + padded(len(whole(fragments[0])))

    with_node(check)


def test_delete_spares_fragments_of_other_partitions() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await put(node, ONE, whole(ONE))
        assert await ask(node, FragDelete(P + 1, ONE.pack())) == Ok()
        assert (await stats(node)).fragments == 1
        with pytest.raises(InvalidRequest, match="21 bytes"):
            await ask(node, FragDelete(P, ONE.pack() + b"x"))

    with_node(check)


def test_puts_and_deletes_of_one_fragment_at_once_end_in_a_whole_state() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        raw = whole(ONE)
        for _ in range(20):
            jobs = [put(node, ONE, raw), ask(node, FragDelete(P, ONE.pack())), put(node, ONE, raw)]
            await asyncio.gather(*jobs)
            assert await ask(node, FragVerify(ONE.pack())) == Ok()
        after = await stats(node)
        assert (after.fragments, after.used_bytes) == (1, padded(len(raw)))

    with_node(check)


def test_cancelled_puts_leak_neither_space_nor_claims() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        raw = whole(ONE)
        for steps in range(12):
            task = asyncio.create_task(put(node, ONE, raw))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await ask(node, FragDelete(P, ONE.pack()))
            after = await stats(node)
            assert (after.fragments, after.used_bytes) == (0, 0)
            assert rig.sim_disk.used == BLOCK, "only identity.json"

    with_node(check)


def test_the_reserve_is_not_for_fragments() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await put(node, ONE, whole(ONE))
        rig.clock.now += 1
        rig.sim_disk.capacity = rig.sim_disk.used + limits.MIB + BLOCK
        other = FragmentId(BLOB, 0, 2)
        with pytest.raises(InsufficientStorage, match="Delete objects or add nodes"):
            await ask(node, FragPut(P, other.pack()), whole(other))
        await put(node, ONE, whole(ONE))
        await ask(node, FragDelete(P, ONE.pack()))
        await put(node, other, whole(other, 1000))

    with_node(check)


def test_the_configured_capacity_counts_like_a_disk_of_that_size() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        assert (await stats(node)).free_bytes == 2 * limits.MIB
        await put(node, ONE, whole(ONE))
        assert (await stats(node)).free_bytes == 2 * limits.MIB - padded(len(whole(ONE)))
        large = FragmentId(BLOB, 0, 2)
        with pytest.raises(InsufficientStorage):
            await ask(node, FragPut(P, large.pack()), whole(large, 3 * limits.MIB, cell_size=limits.CELL_SIZE))

    with_node(check, capacity_bytes=2 * limits.MIB)


def test_a_disk_that_fills_up_in_the_middle_refuses_and_recovers() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_disk.fail_sync = OSError(errno.ENOSPC, "full")
        with pytest.raises(InsufficientStorage):
            await put(node, ONE, whole(ONE))
        rig.sim_disk.fail_sync = None
        capacity, rig.sim_disk.capacity = rig.sim_disk.capacity, rig.sim_disk.used
        with pytest.raises(InsufficientStorage):
            await put(node, ONE, whole(ONE))
        rig.sim_disk.capacity = capacity
        await put(node, ONE, whole(ONE))
        after = await stats(node)
        assert (after.fragments, after.used_bytes) == (1, padded(len(whole(ONE))))
        assert not rig.fatal

    with_node(check)


def test_an_error_of_fsync_ends_the_node() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        rig.sim_disk.fail_sync = OSError(errno.EIO, "bad sector")
        with pytest.raises(Unavailable):
            await put(node, ONE, whole(ONE))
        rig.sim_disk.fail_sync = None
        with pytest.raises(Unavailable, match="stopped serving"):
            await put(node, ONE, whole(ONE))
        assert len(rig.fatal) == 1

    with_node(check)


def cut(rig: Rig, path: str, size: int) -> None:
    """Truncate a volume behind the node's back."""
    content = rig.disk.read_file(path)
    rig.disk.unlink(path)
    file = rig.disk.open(path, create=True)
    file.pwrite(content[:size], 0)
    file.sync()
    rig.disk.sync_dir("volumes")


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("how", ["removed", "cut between", "cut within"])
def test_what_a_volume_lost_is_no_longer_held(how: str, running: bool) -> None:
    """Two volumes with two fragments each; the first one is removed or cut short."""
    fragments = [FragmentId(BLOB, 0, shard) for shard in range(2)] + [
        FragmentId(blob_in(P, salt=1), 0, shard) for shard in range(2)
    ]
    raws = {fragment: whole(fragment) for fragment in fragments}
    settings: dict[str, Any] = {"volume_bytes": 2 * max(padded(len(raw)) for raw in raws.values())}

    async def check(rig: Rig, node: NodeService) -> None:
        for fragment in fragments:
            await put(node, fragment, raws[fragment])
        assert rig.disk.list_dir("volumes") == ["00000001.vol", "00000002.vol"]
        before = await stats(node)
        end = offset_of(rig, fragments[1]) + len(raws[fragments[1]])
        if not running:
            await node.close()
        if how == "removed":
            rig.disk.unlink(VOLUME)
        else:
            cut(rig, VOLUME, offset_of(rig, fragments[1]) if how == "cut between" else end - 1)
        if running:
            await node.check_volumes()
            again = node
        else:
            again = await rig.open(**settings)
        gone = fragments[: 2 if how == "removed" else 0] or fragments[1:2]
        left = [fragment for fragment in fragments if fragment not in gone]
        for fragment in gone:
            with pytest.raises(NotFound):
                await ask(again, FragRead(fragment.pack(), 0, 1))
            ((_, held, reason),) = index.quarantined(rig.rows, fragment.pack())
            assert held.partition == P and VOLUME in reason
        listed = await ask(again, FragList(P, b"", 10))
        assert isinstance(listed, FragListed)
        assert listed.fragments == b"".join(fragment.pack() for fragment in sorted(left))
        for fragment in left:
            assert await ask(again, FragVerify(fragment.pack())) == Ok()
        after = await stats(again)
        changes = before.data_changes[P] if running else 0
        assert (after.fragments, after.data_changes[P]) == (len(left), changes + len(gone))
        assert after.used_bytes == sum(padded(len(raws[fragment])) for fragment in left)
        await again.check_volumes()
        assert await stats(again) == after, "found once"
        for fragment in gone:  # repair brings them back; their old places are not theirs any more
            await put(again, fragment, raws[fragment])
        assert (await stats(again)).used_bytes == before.used_bytes
        assert await ask(again, FragDelete(P, gone[0].pack())) == Ok()
        await again.close()
        third = await rig.open(**settings)
        for fragment in (*left, *gone[1:]):
            assert await ask(third, FragVerify(fragment.pack())) == Ok()
        last = await stats(third)
        assert last.used_bytes == before.used_bytes - padded(len(raws[gone[0]]))
        assert not rig.fatal
        await third.close()

    with_node(check, **settings)


def test_a_quarantined_copy_whose_volume_is_gone_holds_no_space() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        await put(node, ONE, whole(ONE))
        rig.sim_disk.flip(VOLUME, offset_of(rig, ONE) + 200)
        with pytest.raises(Corrupt):
            await ask(node, FragVerify(ONE.pack()))
        ((_, _, reason),) = index.quarantined(rig.rows, ONE.pack())
        rig.disk.unlink(VOLUME)
        await node.check_volumes()
        ((_, held, kept_reason),) = index.quarantined(rig.rows, ONE.pack())
        after = await stats(node)
        assert (held.extent.length, kept_reason) == (0, reason)
        assert (after.fragments, after.used_bytes, list(index.extents(rig.rows))) == (0, 0, [])
        await put(node, ONE, whole(ONE))
        assert await ask(node, FragDelete(P, ONE.pack())) == Ok()
        assert index.quarantined(rig.rows, ONE.pack()) == []

    with_node(check)


def test_more_lost_fragments_than_fit_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objstore.node.fragments.LOST_BATCH", 2)

    async def check(rig: Rig, node: NodeService) -> None:
        for restart in (False, True):
            for salt in range(7):
                fragment = FragmentId(blob_in(P, salt), 0, 1)
                await put(node, fragment, whole(fragment))
            for name in rig.disk.list_dir("volumes"):
                rig.disk.unlink(f"volumes/{name}")
            if restart:
                await node.close()
                node = await rig.open()
            else:
                await node.check_volumes()
            after = await stats(node)
            assert (after.fragments, after.used_bytes) == (0, 0)
        await node.close()

    with_node(check)


def test_what_is_on_its_way_into_a_removed_volume_fails_and_the_node_goes_on() -> None:
    async def check(rig: Rig, node: NodeService) -> None:
        header, cells = envelope(ONE)
        opened = await ask(node, FragOpen(P, ONE.pack(), len(whole(ONE))))
        assert isinstance(opened, FragOpened)
        await ask(node, FragWrite(opened.stream, 0), header)
        rig.disk.unlink(VOLUME)
        await node.check_volumes()
        await ask(node, FragWrite(opened.stream, len(header)), cells[0])
        offset = len(header) + len(cells[0])
        for cell in cells[1:]:
            await ask(node, FragWrite(opened.stream, offset), cell)
            offset += len(cell)
        with pytest.raises(InsufficientStorage):
            await ask(node, FragCommit(opened.stream))
        await put(node, ONE, whole(ONE))
        await node.check_volumes()
        assert await ask(node, FragVerify(ONE.pack())) == Ok()
        assert (await stats(node)).used_bytes == padded(len(whole(ONE))) and not rig.fatal

    with_node(check)


class NoMoreFiles(SimDisk):
    """A disk on which this process may not open anything further."""

    exhausted = False

    def open(self, path: str, *, create: bool = False) -> SimFile:
        if self.exhausted:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().open(path, create=create)


def test_a_shortage_of_open_files_is_neither_rot_nor_the_end() -> None:
    disk = NoMoreFiles()

    async def check(rig: Rig, node: NodeService) -> None:
        await put(node, ONE, whole(ONE))
        await node.close()
        again = await rig.open(volume_bytes=4 * BLOCK)
        disk.exhausted = True
        other = FragmentId(BLOB, 0, 2)
        for request in (FragVerify(ONE.pack()), FragRead(ONE.pack(), 0, 1), FragPut(P, other.pack())):
            with pytest.raises(Overloaded, match="short of open files"):
                await ask(again, request, whole(other))
        disk.exhausted = False
        assert await ask(again, FragVerify(ONE.pack())) == Ok()
        await put(again, other, whole(other))
        assert not rig.fatal
        await again.close()

    with_node(check, Rig(disk))


def test_large_payloads_wait_for_each_other_and_too_many_are_refused() -> None:
    async def main() -> None:
        budget = PayloadBudget(bytes_max=100, waiting_max=2)
        order: list[str] = []

        async def hold(name: str, count: int) -> None:
            async with budget.hold(count):
                order.append(name)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(hold(name, count)) for name, count in (("a", 80), ("b", 80), ("c", 10), ("d", 1))]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert order == ["a", "c"]
        assert isinstance(results[1], asyncio.CancelledError) and isinstance(results[3], Overloaded)
        async with budget.hold(1000):
            order.append("whole")
        assert order[-1] == "whole"

    asyncio.run(main())
