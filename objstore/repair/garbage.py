"""Deleting fragments that nothing needs any more. The only place that deletes data, and only on proof (INV-7).

    retired   a register says "no longer mine" since longer than the delay. A linearizable read confirms that this
              is chosen; then the fragments go on every node, and last the entry in the register. A node that is out
              is not waited for (the entries would pile up); what it brings back are orphans.
    parts     of an upload that was completed without them, or aborted: the upload's register is the proof.
    orphans   fragments that no register was ever seen to name, old enough that no upload can still be under way:
              first the key's register declares the blob dead, so that a late commit is refused; then they go.

"Not found" proves nothing and deletes nothing. Whatever is due, no more than `deletions_per_hour` fragments go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from objstore.codec.envelope import EnvelopeHeader, decode_header, fragment_of
from objstore.engine.calls import Calls, ask, in_parallel
from objstore.engine.keystate import abandon, beside, state_of
from objstore.model import limits
from objstore.model.errors import Corrupt, ObjstoreError
from objstore.model.ids import BlobId, BucketId, NodeId, uuid7_ms
from objstore.model.manifest import BlobRef
from objstore.model.records import (
    KeyState,
    PartState,
    RegisterKey,
    Space,
    UploadState,
    Value,
    decode,
    upload_name,
)
from objstore.ports import Clock
from objstore.register.change import Change, Outcome, body_of
from objstore.repair.inventory import SEGMENT_BYTES, Inventory, Record
from objstore.repair.settings import RepairSettings
from objstore.wire.messages import FragDelete, FragHead, Ok

log = logging.getLogger(__name__)

DELETE_TIMEOUT_S = 10.0
FRAGMENTS_PER_CALL = 4096
WIDTH = 8
PER_ROUND = 512  # registers or orphans in one round
HOUR_S = 3600.0
RETIRED_MAX = 256  # a register that names more lets go of what is deleted on some nodes; the rest become orphans


class Registers(Protocol):
    """Part of `objstore.engine.registers.Registers`."""

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value: ...

    async def change(self, key: RegisterKey, change: Change, *, op: bytes | None = None) -> bytes: ...


class Breaker:
    """At most `limit` deletions within an hour."""

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


class Garbage:
    def __init__(
        self,
        calls: Calls,
        registers: Registers,
        inventory: Inventory,
        clock: Clock,
        settings: RepairSettings,
    ) -> None:
        self.deleted = 0  # fragments asked to go, ever
        self.tripped = False
        self._calls = calls
        self._registers = registers
        self._inventory = inventory
        self._clock = clock
        self._settings = settings
        self._breaker = Breaker(settings.deletions_per_hour)
        self._gone_from: dict[BlobId, dict[NodeId, None]] = {}  # members that confirmed, of blobs not finished
        self._orphans_at: float | None = None

    async def collect(self, may_act: Callable[[], bool]) -> None:
        """One round; bounded. Call it only when the inventory is complete."""
        self.tripped = False
        horizon = self._clock.wall_ms() - int(self._settings.garbage_delay_s * 1000)
        due = [key for key, record in self._inventory.garbage.items() if _is_due(record, horizon)][:PER_ROUND]

        async def one(key: bytes) -> None:
            if self.tripped or not may_act():
                return
            try:
                register = RegisterKey.unpack(key)
                if register.space is Space.PART:
                    await self._collect_part(register)
                else:
                    await self._collect_retired(register, horizon)
            except ObjstoreError as error:
                log.info("garbage of register %s stays for now: %s", key.hex(), error)

        await in_parallel(WIDTH, due, one)
        now = self._clock.monotonic()
        if self._orphans_at is None:
            self._orphans_at = now  # a new leader has other things to do first
        elif now - self._orphans_at >= self._settings.orphan_round_s:
            self._orphans_at = now
            await self._collect_orphans(may_act)

    # --- retired blobs of an object ---

    async def _collect_retired(self, key: RegisterKey, horizon: int) -> None:
        body = body_of(await self._registers.read(key))
        state = state_of(body)
        kept = {blob.id for version in state.versions for blob in version.blobs}
        gone: dict[BlobId, None] = {}
        crowded = len(state.retired) > RETIRED_MAX
        for retired in state.retired:
            if retired.at_ms > horizon or retired.blob.id in kept:
                continue
            if await self._delete(retired.blob) or (crowded and self._gone_from.get(retired.blob.id)):
                gone[retired.blob.id] = None
        if gone:
            await self._registers.change(key, _without_retired(gone))
            for blob in gone:
                self._gone_from.pop(blob, None)

    # --- parts of uploads that are over ---

    async def _collect_part(self, key: RegisterKey) -> None:
        upload = self._upload_of(key)
        body = body_of(await self._registers.read(key))
        if upload is None or not body:
            return
        ended = await self._registers.read(upload)
        if not (raw := body_of(ended)):
            return
        state = decode(raw, UploadState)
        if state.status not in ("completed", "aborted"):
            return
        part = decode(body, PartState)
        chosen = {blob.id for blob in state.blobs}
        unchosen = [ref for ref in (*part.blobs, *(old.blob for old in part.retired)) if ref.id not in chosen]
        if all([await self._delete(ref) for ref in unchosen]):
            await self._registers.change(key, lambda now: Outcome(b"", b"") if now == body else Outcome())
            for ref in unchosen:
                self._gone_from.pop(ref.id, None)

    def _upload_of(self, part: RegisterKey) -> RegisterKey | None:
        """The upload's register lies in the same partition; its name also has the object key."""
        upload = part.name[:16]
        table = self._inventory.records.get(self._inventory.topology.partition_of_register(part), {})
        for raw, record in table.items():
            if record.upload == upload and raw[16] == Space.UPLOAD and raw[:16] == part.bucket:
                return RegisterKey.unpack(raw)
        return None

    # --- orphans ---

    async def _collect_orphans(self, may_act: Callable[[], bool]) -> None:
        horizon = self._clock.wall_ms() - int(self._settings.orphan_age_s * 1000)
        found: dict[BlobId, list[bytes]] = {}
        for seen, segment in enumerate(list(self._inventory.listed())):
            blob = BlobId(segment[:16])
            if uuid7_ms(blob) <= horizon and not self._inventory.knows(blob):
                found.setdefault(blob, []).append(segment)
            if seen % 2000 == 1999:
                await asyncio.sleep(0)

        async def one(blob: BlobId) -> None:
            if self.tripped or not may_act():
                return
            try:
                header = await self._header(found[blob])
                if header is not None and await self._is_dead(blob, header):
                    shards = header.k + header.m
                    await self._delete_fragments(blob, [_fragments(s, range(shards)) for s in found[blob]])
                    self._gone_from.pop(blob, None)  # a node that was away shows it again
            except ObjstoreError as error:
                log.info("orphan %s stays for now: %s", blob.hex(), error)

        await in_parallel(WIDTH, list(found)[:PER_ROUND], one)

    async def _header(self, segments: Sequence[bytes]) -> EnvelopeHeader | None:
        for segment in segments:
            for shard, node in self._inventory.shards_listed(segment):
                try:
                    fragment = segment + bytes((shard,))
                    _, raw = await ask(self._calls, node, FragHead(fragment), Ok, timeout_s=limits.RPC_TIMEOUT_S)
                    header, _ = decode_header(raw)
                except ObjstoreError as error:
                    log.debug("orphan %s: node %s: %s", segment.hex(), node, error)
                    continue
                if fragment_of(header).pack() != fragment:
                    raise Corrupt(f"node {node} has another fragment's header")
                return header
        return None

    async def _is_dead(self, blob: BlobId, header: EnvelopeHeader) -> bool:
        """Positive proof from a full round on the register that could name the blob."""
        bucket = BucketId(header.bucket)
        if "upload-id" in header.about:
            name = upload_name(header.key, bytes.fromhex(header.about["upload-id"]))
            body = body_of(await self._registers.read(RegisterKey(bucket, Space.UPLOAD, name)))
            if not body:
                return False
            state = decode(body, UploadState)
            return state.status == "aborted" or (
                state.status == "completed" and blob not in {ref.id for ref in state.blobs}
            )
        verdict = await self._registers.change(RegisterKey(bucket, Space.OBJECT, header.key), _abandon(blob))
        return verdict == b"dead"

    # --- deleting ---

    async def _delete(self, ref: BlobRef) -> bool:
        """True once every member that is not out has confirmed that it holds nothing of the blob."""
        segments = (ref.id + number.to_bytes(4, "big") for number in range(ref.segments))
        return await self._delete_fragments(ref.id, (_fragments(s, range(ref.k + ref.m)) for s in segments))

    async def _delete_fragments(self, blob: BlobId, segments: Iterable[list[bytes]]) -> bool:
        confirmed = self._gone_from.setdefault(blob, {})
        topology = self._inventory.topology
        members = [node for node in topology.node_ids if node not in topology.map.newest.out]
        asked = [node for node in topology.node_ids if node not in confirmed and self._calls.is_up(node)]
        if not asked:
            return all(node in confirmed for node in members)
        by_partition: dict[int, list[bytes]] = {}
        for fragments in segments:
            partition = self._inventory.partition_of(fragments[0][:SEGMENT_BYTES])
            by_partition.setdefault(partition, []).extend(fragments)
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


def _is_due(record: Record, horizon: int) -> bool:
    return record.ended or any(retired.at_ms <= horizon for retired in record.retired)


def _fragments(segment: bytes, shards: Iterable[int]) -> list[bytes]:
    return [segment + bytes((shard,)) for shard in shards]


def _without_retired(gone: dict[BlobId, None]) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        left = tuple(retired for retired in state.retired if retired.blob.id not in gone)
        if left == state.retired:
            return Outcome()
        return beside(KeyState(state.versions, left, state.abandoned))

    return change


def _abandon(blob: BlobId) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        named = [ref.id for version in state.versions for ref in version.blobs]
        named += [retired.blob.id for retired in state.retired]
        if blob in named:
            return Outcome(b"alive")
        if blob in state.abandoned:
            return Outcome(b"dead")
        return beside(abandon(state, blob), b"dead")

    return change
