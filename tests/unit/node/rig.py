"""A node on a simulated disk, with what its tests need: envelopes, ballots, power cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from typing import Any, TypeVar

from objstore.codec.envelope import EnvelopeHeader, encode_header, seal, shape_of
from objstore.model import limits
from objstore.model.clock import Ballot
from objstore.model.errors import Fatal
from objstore.model.ids import BlobId
from objstore.model.manifest import FragmentId
from objstore.node.index import partition_of
from objstore.node.register_rows import INLINE
from objstore.node.sealed import SealedKV
from objstore.node.service import COUNTED, TABLES, NodeService, open_node
from objstore.ports import KV, Buffer, Disk
from objstore.wire.messages import Reply, Request
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV

CLUSTER = "c" * 32
BUCKET = bytes(range(16))
BITS = 4
T = TypeVar("T")


class InlineExecutor(ThreadPoolExecutor):
    """Runs jobs at once, in the loop: one order of events, and no threads around the simulated stores."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, like a real executor does
            done.set_exception(error)
        return done


def run(main: Coroutine[Any, Any, T]) -> T:
    async def inline() -> T:
        asyncio.get_running_loop().set_default_executor(InlineExecutor(max_workers=1))
        return await main

    return asyncio.run(inline())


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)


class SeededRandom:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class Rig:
    """The parts that outlive a process: disk, store, clock."""

    def __init__(self, disk: Disk | None = None, kv: KV | None = None) -> None:
        self.sim_disk = SimDisk()
        self.sim_kv = SimKV(TABLES)
        self.disk: Disk = disk or self.sim_disk
        self.kv: KV = kv or self.sim_kv
        self.clock = FakeClock()
        self.random = SeededRandom(1)
        self.fatal: list[Fatal] = []

    @property
    def rows(self) -> SealedKV:
        """What is in the store, to look at."""
        return SealedKV(self.kv, COUNTED)

    async def open(self, **changes: Any) -> NodeService:
        self.rows.check(also=[INLINE])
        settings: dict[str, Any] = {
            "cluster_id": CLUSTER,
            "name": "n1",
            "zone": "z1",
            "capacity_bytes": 1 << 40,
            "reserve_bytes": limits.MIB,
            "partition_bits": BITS,
            "volume_bytes": 4 * limits.MIB,
            "on_fatal": self.fatal.append,
        }
        return await open_node(self.disk, self.kv, self.clock, self.random, **(settings | changes))

    def crash(self, random: Random) -> None:
        self.sim_disk.crash(random)
        self.sim_kv.crash(random)


def with_node(test: Callable[[Rig, NodeService], Awaitable[None]], rig: Rig | None = None, **settings: Any) -> None:
    """Run one test on a fresh node, and close it."""
    rig = rig or Rig()

    async def main() -> None:
        node = await rig.open(**settings)
        try:
            await test(rig, node)
        finally:
            await node.close()

    run(main())


async def ask(node: NodeService, request: Request, payload: Buffer = b"") -> Reply:
    reply, _ = await node.handle(request, bytes(payload))
    return reply


async def level(node: NodeService) -> None:
    """All rows are in the store that may wait for it."""
    await node._commits.flush()


async def fetch(node: NodeService, request: Request) -> bytes:
    _, payload = await node.handle(request, b"")
    return bytes(payload)


def ballot(time: int, proposer: int = 7) -> bytes:
    return Ballot(time, proposer).pack()


def blob_in(partition: int, salt: int = 0) -> BlobId:
    """A blob whose segment 0 belongs to that partition."""
    number = salt << 32
    while True:
        blob = BlobId(number.to_bytes(16, "big"))
        if partition_of(FragmentId(blob, 0, 0).pack(), 1 << BITS) == partition:
            return blob
        number += 1


def envelope(
    fragment: FragmentId, size: int = 10_000, *, cluster: str = CLUSTER, fill: int = 1, cell_size: int = 4096
) -> tuple[bytes, list[bytes]]:
    """Header and sealed cells of a shard of a 2+1 segment of `size` bytes, filled from a seed."""
    header = EnvelopeHeader(
        cluster_id=cluster,
        bucket=BUCKET,
        bucket_name="photos",
        key=b"cat.jpg",
        blob=fragment.blob,
        blob_size=size,
        segment=fragment.segment,
        shard=fragment.shard,
        epoch=1,
        codec="zfec",
        k=2,
        m=1,
        cell_size=cell_size,
        segment_length=size,
        created_ms=1_700_000_000_000,
        about={},
    )
    shape = shape_of(header)
    random = Random(fill)
    cells = []
    for stripe in range(shape.stripes):
        cell = random.randbytes(shape.cell_length(fragment.shard, stripe))
        cells.append(cell + seal(fragment, stripe, cell))
    return encode_header(header), cells


def whole(fragment: FragmentId, size: int = 10_000, **how: Any) -> bytes:
    header, cells = envelope(fragment, size, **how)
    return b"".join((header, *cells))
