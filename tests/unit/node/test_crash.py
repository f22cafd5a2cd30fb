"""Power cuts: what was acknowledged is there and verifies; what was not is there whole, or not at all."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from objstore.model.clock import ZERO
from objstore.model.errors import NotFound, ObjstoreError, Unavailable
from objstore.model.manifest import FragmentId
from objstore.node import index
from objstore.node.service import NodeService
from objstore.node.volumes import BLOCK, padded
from objstore.wire.messages import (
    FragCommit,
    FragDelete,
    FragOpen,
    FragOpened,
    FragPut,
    FragRead,
    FragVerify,
    FragWrite,
    NodeStats,
    NodeStatsReply,
    Ok,
    RegAccept,
    RegAccepted,
    RegDrop,
    RegFence,
    RegPrepare,
    RegRead,
    RegStale,
    RegState,
)
from tests.unit.node.rig import BITS, Rig, ask, ballot, blob_in, envelope, fetch, run, whole
from tests.unit.node.test_registers import key

FRAGMENTS = [FragmentId(blob_in(salt % (1 << BITS), salt), 0, salt % 3) for salt in range(14)]
NAMES = [b"a", b"b" * 600, b"b" * 600 + b"c", b"d"]
P = 3  # partition of the registers
EIO = OSError(errno.EIO, "bad sector")


class Workload:
    """Random requests in several tasks, and what the node said about them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.put: set[FragmentId] = set()  # Ok was said
        self.touched: set[FragmentId] = set()  # a delete was sent
        self.deleted: set[FragmentId] = set()  # ... and Ok was said after the last put
        self.promised: dict[bytes, int] = {}
        self.accepted: dict[bytes, int] = {}
        self.sent: dict[bytes, set[int]] = {name: set() for name in NAMES}
        self.fence = 0

    def fragments(self, node: NodeService, mine: list[FragmentId]) -> list[Coroutine[Any, Any, None]]:
        ways = [self._put, self._stream]
        return [self._one(node, fragment, self.random.choice(ways)) for fragment in mine]

    async def _one(self, node: NodeService, fragment: FragmentId, way: Any) -> None:
        await way(node, fragment)
        self.put.add(fragment)
        if self.random.random() < 0.3:
            self.touched.add(fragment)
            partition = index.partition_of(fragment.pack(), 1 << BITS)
            await ask(node, FragDelete(partition, fragment.pack()))
            self.deleted.add(fragment)

    async def _put(self, node: NodeService, fragment: FragmentId) -> None:
        partition = index.partition_of(fragment.pack(), 1 << BITS)
        assert await ask(node, FragPut(partition, fragment.pack()), whole(fragment)) == Ok()

    async def _stream(self, node: NodeService, fragment: FragmentId) -> None:
        partition = index.partition_of(fragment.pack(), 1 << BITS)
        header, cells = envelope(fragment)
        opened = await ask(node, FragOpen(partition, fragment.pack(), len(whole(fragment))))
        assert isinstance(opened, FragOpened)
        offset = 0
        for piece in (header, *cells):
            await ask(node, FragWrite(opened.stream, offset), piece)
            offset += len(piece)
        assert await ask(node, FragCommit(opened.stream)) == Ok()

    async def registers(self, node: NodeService, name: bytes, times: range) -> None:
        for time in times:
            prepared = await ask(node, RegPrepare(P, 10, key(name), ballot(time)))
            assert isinstance(prepared, RegState)
            self.promised[name] = time
            if self.random.random() < 0.3:
                continue
            self.sent[name].add(time)
            accept = RegAccept(P, 10, key(name), ballot(time), b"l", b"s" * (time % 5 * 500))
            assert await ask(node, accept, b"%d" % time * 100) == RegAccepted()
            self.accepted[name] = time

    async def fences(self, node: NodeService) -> None:
        for tag in range(1, 10):
            assert await ask(node, RegFence([P], tag)) == Ok()
            self.fence = tag

    async def check(self, rig: Rig, node: NodeService) -> None:
        for fragment in FRAGMENTS:
            try:
                assert await ask(node, FragVerify(fragment.pack())) == Ok()
                body = b"".join(envelope(fragment)[1])
                assert await fetch(node, FragRead(fragment.pack(), 0, len(body))) == body
                held = True
            except NotFound:
                held = False
            if fragment in self.deleted:
                assert not held, "a deleted fragment came back"
            elif fragment in self.put and fragment not in self.touched:
                assert held, "an acknowledged fragment was lost"
        await self._check_registers(node)
        stats = await ask(node, NodeStats())
        assert isinstance(stats, NodeStatsReply)
        assert stats.used_bytes == sum(padded(extent.length) for extent in index.extents(rig.rows))
        names = rig.disk.list_dir("volumes")
        records = sum(padded(len(rig.disk.read_file(f"records/{name}"))) for name in rig.disk.list_dir("records"))
        used = rig.sim_disk.used - records
        assert used <= stats.used_bytes + BLOCK * (1 + len(names)), "space of unfinished writes is back"

    async def _check_registers(self, node: NodeService) -> None:
        for name in NAMES:
            reply, data = await node.handle(RegRead(P, 10, key(name)), b"")
            assert isinstance(reply, RegState)
            if reply.accepted == ZERO.pack():
                assert name not in self.accepted, "an acknowledged accept was lost"
                continue
            time = int.from_bytes(reply.accepted[:8], "big")
            assert time >= self.accepted.get(name, 0) and time in self.sent[name]
            assert (reply.state, bytes(data)) == (b"s" * (time % 5 * 500), b"%d" % time * 100)
        for name, time in self.promised.items():
            reply = await ask(node, RegPrepare(P, 10, key(name), ballot(time)))
            assert not isinstance(reply, RegState), "a promise was forgotten"
        if self.fence > 1:
            assert isinstance(await ask(node, RegRead(P, self.fence - 1, key(b"a"))), RegStale)


async def pass_time(tasks: list[asyncio.Task[None]], steps: int) -> None:
    for _ in range(steps):
        if all(task.done() for task in tasks):
            return
        await asyncio.sleep(0)


async def cut_power(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, (ObjstoreError, asyncio.CancelledError)):
            raise result


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_keeps_every_acknowledged_word(seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        rig, work = Rig(), Workload(seed)
        node = await rig.open(volume_bytes=8 * BLOCK)
        for generation in range(3):
            mine = FRAGMENTS[generation::3]
            jobs = work.fragments(node, mine)
            times = range(1 + generation * 10, 8 + generation * 10)
            jobs += [work.registers(node, name, times) for name in NAMES]
            if generation == 2:
                jobs.append(work.fences(node))
            tasks = [asyncio.create_task(job) for job in jobs]
            fault = random.choice(("none", "sync", "commit"))
            steps = random.randrange(50)
            await pass_time(tasks, steps)
            if fault == "sync":
                rig.sim_disk.fail_sync = EIO
            elif fault == "commit":
                rig.sim_kv.fail_commit = EIO
            await pass_time(tasks, random.randrange(10))
            await cut_power(tasks)
            rig.crash(random)
            await node.close()
            node = await rig.open(volume_bytes=8 * BLOCK)
            await work.check(rig, node)
        await node.close()

    run(main())


def test_a_dropped_partition_stays_empty_after_a_crash() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        for name in NAMES:
            await ask(node, RegAccept(P, 0, key(name), ballot(5), b"l", b"s"), b"data")
        await ask(node, RegDrop([P], 7))
        rig.crash(Random(1))
        again = await rig.open()
        for name in NAMES:
            assert await ask(again, RegRead(P, 7, key(name))) == RegState(ZERO.pack(), b"", b"")
            assert await ask(again, RegRead(P, 6, key(name))) == RegStale(7)
        await node.close()
        await again.close()

    run(main())


def test_after_a_failed_fsync_nothing_more_is_acknowledged_even_if_the_disk_recovers() -> None:
    async def main() -> None:
        rig = Rig()
        node = await rig.open()
        rig.sim_disk.fail_sync = EIO
        one, two = FRAGMENTS[:2]
        for fragment in (one, two):
            with pytest.raises(Unavailable):
                partition = index.partition_of(fragment.pack(), 1 << BITS)
                await ask(node, FragPut(partition, fragment.pack()), whole(fragment))
            rig.sim_disk.fail_sync = None
        rig.crash(Random(3))
        again = await rig.open()
        for fragment in (one, two):
            with pytest.raises(NotFound):
                await ask(again, FragVerify(fragment.pack()))
        await node.close()
        await again.close()

    run(main())
