"""Deleting the fragments of a blob on every node, and no more of them than allowed. Who calls has the proof (INV-7)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from objstore.engine.calls import Calls, ask, in_parallel
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BlobId, NodeId
from objstore.model.manifest import BlobRef
from objstore.ports import Clock
from objstore.repair.inventory import SEGMENT_BYTES, Inventory
from objstore.wire.messages import FragDelete, Ok

log = logging.getLogger(__name__)

DELETE_TIMEOUT_S = 10.0
FRAGMENTS_PER_CALL = 4096
HOUR_S = 3600.0


class Breaker:
    """At most `limit` deletions within an hour. In memory: the next leader begins with an empty hour."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._done: deque[tuple[float, int]] = deque()
        self._sum = 0

    def allows(self, now: float, count: int) -> bool:
        while self._done and self._done[0][0] <= now - HOUR_S:
            self._sum -= self._done.popleft()[1]
        if self._sum + count > self._limit:
            return False
        self._done.append((now, count))
        self._sum += count
        return True


class Deletion:
    def __init__(self, calls: Calls, inventory: Inventory, clock: Clock, per_hour: int) -> None:
        self.deleted = 0  # fragments asked to go, ever
        self.tripped = False
        self._calls = calls
        self._inventory = inventory
        self._clock = clock
        self._breaker = Breaker(per_hour)
        self._gone_from: dict[BlobId, dict[NodeId, None]] = {}  # members that confirmed, of blobs not finished

    def begun(self, blob: BlobId) -> bool:
        """Some node has confirmed."""
        return bool(self._gone_from.get(blob))

    def done(self, blob: BlobId) -> None:
        """Nothing names it any more."""
        self._gone_from.pop(blob, None)

    async def all(self, refs: Iterable[BlobRef]) -> bool:
        """As `blob`, of several."""
        return all([await self.blob(ref) for ref in refs])

    async def blob(self, ref: BlobRef) -> bool:
        """True once every member that is not out has confirmed that it holds nothing of the blob."""
        segments = (ref.id + number.to_bytes(4, "big") for number in range(ref.segments))
        return await self.segments(ref.id, segments, ref.k + ref.m)

    async def segments(self, blob: BlobId, segments: Iterable[bytes], shards: int) -> bool:
        confirmed = self._gone_from.setdefault(blob, {})
        topology = self._inventory.topology
        members = [node for node in topology.node_ids if node not in topology.map.newest.out]
        asked = [node for node in topology.node_ids if node not in confirmed and self._calls.is_up(node)]
        if not asked:
            return all(node in confirmed for node in members)
        by_partition: dict[int, list[bytes]] = {}
        for segment in segments:
            assert len(segment) == SEGMENT_BYTES
            fragments = by_partition.setdefault(self._inventory.partition_of(segment), [])
            fragments.extend(segment + bytes((shard,)) for shard in range(shards))
        count = sum(map(len, by_partition.values()))
        if not confirmed and not self._breaker.allows(self._clock.monotonic(), count):
            self.tripped = True
            return False
        self.deleted += count if not confirmed else 0
        failed: dict[NodeId, None] = {}

        async def one(node: NodeId) -> None:
            try:
                for partition, fragments in by_partition.items():
                    for first in range(0, len(fragments), FRAGMENTS_PER_CALL):
                        some = b"".join(fragments[first : first + FRAGMENTS_PER_CALL])
                        await ask(self._calls, node, FragDelete(partition, some), Ok, timeout_s=DELETE_TIMEOUT_S)
            except ObjstoreError as error:
                log.info("node %s did not delete blob %s: %s", node, blob.hex(), error)
                failed[node] = None

        await in_parallel(len(asked), asked, one)
        confirmed.update((node, None) for node in asked if node not in failed)
        return all(node in confirmed for node in members)
