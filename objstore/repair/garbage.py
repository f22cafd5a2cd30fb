"""Garbage collection: what nothing needs any more goes, and only on proof (INV-7).

    retired   a register says "no longer mine" since longer than the delay. A linearizable read confirms that this
              is chosen; then the fragments go on every node, and last the entry in the register. A node that is out
              is not waited for (the entries would pile up); what it brings back are orphans.
    renamed   what a key has lent to others by renames comes back when they do not name it, and is retired then; renames
              that were cut short are settled: objstore/engine/moving.py.
    over      uploads and buckets that have ended, with their parts, objects and registers: objstore/repair/endings.py.
    orphans   fragments that no register was ever seen to name, old enough that no upload can still be under way:
              first the key's register is made to refuse ids as old as theirs, so that a late commit is refused; then
              they go. The age spares writes that are under way; nothing is lost if a clock is wrong.

"Not found" proves nothing and deletes nothing. Whatever is due, no more than `deletions_per_hour` fragments go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from objstore.codec.envelope import EnvelopeHeader, decode_header, fragment_of
from objstore.engine.calls import Calls, ask, in_parallel
from objstore.engine.keystate import beside, floor_above, state_of, turned, without_attempts
from objstore.engine.movestate import lent_ids
from objstore.engine.moving import forget_arrivals, settle, take_back
from objstore.model import limits
from objstore.model.errors import Corrupt, ObjstoreError
from objstore.model.ids import BlobId, BucketId, uuid7_ms
from objstore.model.manifest import BlobRef
from objstore.model.records import KeyState, Moves, RegisterKey, Space
from objstore.ports import Clock
from objstore.register.change import Change, Outcome, body_of
from objstore.repair.deletion import Deletion
from objstore.repair.endings import Endings, Registers
from objstore.repair.inventory import Inventory
from objstore.repair.record import Record
from objstore.repair.settings import RepairSettings
from objstore.wire.messages import FragHead, Ok

log = logging.getLogger(__name__)

WIDTH = 8
PER_ROUND = 512  # registers or orphans in one round
DRAINED_AGE_S = 600.0  # orphans of which a drained node has a fragment: it is waited for to be empty
RETIRED_MAX = 256  # a register that names more lets go of what is deleted on some nodes; the rest become orphans


class Garbage:
    def __init__(
        self,
        calls: Calls,
        registers: Registers,
        inventory: Inventory,
        clock: Clock,
        settings: RepairSettings,
    ) -> None:
        self._calls = calls
        self._registers = registers
        self._inventory = inventory
        self._clock = clock
        self._settings = settings
        self._deletion = Deletion(calls, inventory, clock, settings.deletions_per_hour)
        self._endings = Endings(registers, inventory, self._deletion, clock, settings)
        self._slow_at: float | None = None
        self._undecided: dict[bytes, float] = {}  # registers whose attempts are looked at again later

    @property
    def tripped(self) -> bool:
        return self._deletion.tripped

    async def collect(self, may_act: Callable[[], bool]) -> None:
        """One round; bounded. Call it only when the inventory is complete."""
        if self._inventory.topology.map.recovering:
            return
        self._deletion.tripped = False
        now = self._clock.monotonic()
        horizon = self._ms_ago(self._settings.garbage_delay_s)
        due = [key for key, record in self._inventory.garbage.items() if self._is_due(key, record, horizon, now)]

        async def one(key: bytes) -> None:
            register = RegisterKey.unpack(key)
            if register.space is Space.PART:
                await self._endings.collect_part(register)
            else:
                await self._collect_object(register, horizon)

        await self._each(due[:PER_ROUND], one, may_act)
        if self._slow_at is None:
            self._slow_at = now  # a new leader has other things to do first
        elif now - self._slow_at >= self._settings.orphan_round_s:
            self._slow_at = now
            await self._collect_slowly(may_act)

    async def _collect_slowly(self, may_act: Callable[[], bool]) -> None:
        """What is seldom, or has time."""
        self._undecided = {key: at for key, at in self._undecided.items() if key in self._inventory.garbage}
        horizon = self._ms_ago(self._settings.orphan_age_s)
        stray = [key for key, part in self._inventory.stray_parts().items() if part.at_ms <= horizon]
        await self._each(stray[:PER_ROUND], lambda key: self._endings.collect_part(RegisterKey.unpack(key)), may_act)
        await self._endings.collect_buckets(may_act)
        await self._collect_orphans(horizon, may_act)
        long_ago = self._ms_ago(self._settings.upload_age_s)
        over = [
            key
            for key, upload in self._inventory.ended_uploads.items()
            if upload.at_ms <= long_ago and not self._inventory.has_parts(upload.upload)
        ]
        await self._each(over[:PER_ROUND], lambda key: self._endings.collect_upload(RegisterKey.unpack(key)), may_act)

    def _ms_ago(self, seconds: float) -> int:
        return self._clock.wall_ms() - int(seconds * 1000)

    def _is_due(self, key: bytes, record: Record, horizon: int, now: float) -> bool:
        if record.ended or any(retired.at_ms <= horizon for retired in record.retired):
            return True
        attempted = any(uuid7_ms(attempt.id) <= horizon for attempt in record.attempts)
        return (attempted or self._is_moved(key, record, horizon)) and self._undecided.get(key, now) <= now

    def _is_moved(self, key: bytes, record: Record, horizon: int) -> bool:
        """Whether a rename from or to it is to be looked at."""
        moves = record.moves
        if moves is None:
            return False
        begun = [*moves.arrived, *((moves.leaving,) if moves.leaving is not None else ())]
        return any(uuid7_ms(one.id) <= horizon for one in begun) or any(
            uuid7_ms(one.id) <= horizon and not self._names_all(key[:17] + one.to, one.blobs) for one in moves.lent
        )

    def _names_all(self, key: bytes, blobs: Iterable[BlobRef]) -> bool:
        record = self._inventory.record(key)
        return record is not None and {blob.id for blob in record.blobs}.issuperset(blob.id for blob in blobs)

    async def _each(
        self, keys: Iterable[bytes], run: Callable[[bytes], Awaitable[None]], may_act: Callable[[], bool]
    ) -> None:
        async def one(key: bytes) -> None:
            if self._deletion.tripped or not may_act():
                return
            try:
                await run(key)
            except ObjstoreError as error:
                log.info("garbage of register %s stays for now: %s", key.hex(), error)

        await in_parallel(WIDTH, keys, one)

    # --- registers of objects ---

    async def _collect_object(self, key: RegisterKey, horizon: int) -> None:
        """Retired blobs, and attempts that are settled."""
        state = state_of(body_of(await self._registers.read(key)))
        if state.moves is not None:
            self._undecided[key.pack()] = self._clock.monotonic() + self._settings.orphan_round_s
            await self._collect_moves(key, state, state.moves, horizon)
        kept = lent_ids(state) | {blob.id for version in state.versions for blob in version.blobs}
        gone: dict[BlobId, None] = {}
        crowded = len(state.retired) > RETIRED_MAX
        for retired in state.retired:
            if retired.at_ms > horizon or retired.blob.id in kept:
                continue
            if await self._deletion.blob(retired.blob) or (crowded and self._deletion.begun(retired.blob.id)):
                gone[retired.blob.id] = None
        settled = await self._endings.settled(key, state.attempts, horizon)
        if len(settled) < len(state.attempts):
            self._undecided[key.pack()] = self._clock.monotonic() + self._settings.orphan_round_s
        if gone or settled:
            await self._registers.change(key, _without(gone, settled))
            for blob in gone:
                self._deletion.done(blob)

    async def _collect_moves(self, key: RegisterKey, state: KeyState, moves: Moves, horizon: int) -> None:
        now_ms = self._clock.wall_ms()
        leaving = moves.leaving
        if leaving is not None and uuid7_ms(leaving.id) <= horizon:
            await settle(self._registers, key, leaving, now_ms)
        await forget_arrivals(self._registers, key, state, horizon, now_ms)
        for lent in moves.lent:
            if uuid7_ms(lent.id) <= horizon and (leaving is None or leaving.id != lent.id):
                await take_back(self._registers, key, lent, now_ms)

    # --- orphans ---

    async def _collect_orphans(self, horizon: int, may_act: Callable[[], bool]) -> None:
        found: dict[BlobId, list[bytes]] = {}
        inventory = self._inventory
        drained = set(inventory.topology.node_ids).difference(inventory.topology.map.newest.layout.nodes)
        younger = max(horizon, self._ms_ago(DRAINED_AGE_S)) if drained else horizon
        for seen, segment in enumerate(list(inventory.listed())):
            if seen % 2000 == 1999:
                await asyncio.sleep(0)
            blob = BlobId(segment[:16])
            made_ms = uuid7_ms(blob)
            if made_ms > younger or inventory.knows(blob):
                continue
            if made_ms <= horizon or any(node in drained for _, node in inventory.shards_listed(segment)):
                found.setdefault(blob, []).append(segment)

        async def one(name: bytes) -> None:
            blob = BlobId(name)
            header = await self._header(found[blob])
            if header is not None and await self._is_dead(blob, header):
                await self._deletion.segments(blob, found[blob], header.k + header.m)
                self._deletion.done(blob)  # a node that was away shows it again

        await self._each(list(found)[:PER_ROUND], one, may_act)

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
        if await self._endings.is_gone(bucket):
            self._endings.found_something_of(bucket)
            return True
        if "upload-id" in header.about:
            upload = bytes.fromhex(header.about["upload-id"])
            chosen = await self._endings.chosen_of(bucket, header.key, upload)
            return chosen is not None and blob not in chosen
        key = RegisterKey(bucket, Space.OBJECT, header.key)
        return await self._registers.change(key, _give_up(blob), above=floor_above(blob)) == b"dead"


def _without(gone: dict[BlobId, None], settled: frozenset[bytes]) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        assert not any(blob.id in gone for version in state.versions for blob in version.blobs), "INV-7"
        assert not any(blob in gone for blob in lent_ids(state)), "INV-24"
        left = tuple(retired for retired in state.retired if retired.blob.id not in gone)
        return turned(state, without_attempts(msgspec.structs.replace(state, retired=left), settled))

    return change


def _give_up(blob: BlobId) -> Change:
    """Commits that name this blob, or one as old, are refused from now on; unless it is named already."""

    def change(body: bytes) -> Outcome:
        state: KeyState = state_of(body)
        named = [ref.id for version in state.versions for ref in version.blobs]
        named += [*lent_ids(state), *(retired.blob.id for retired in state.retired)]
        return Outcome(b"alive") if blob in named else beside(state, b"dead", ids_floor=floor_above(blob))

    return change
