"""What is left of uploads and buckets that are over, and the proofs that they are (INV-7).

    upload    its register says completed or aborted; or it was written once and is empty now, because it was forgotten
              long after it had ended. Nobody writes a part before having seen the upload open, so of a part that
              exists the upload was open once: empty means ended. Ids are never used again. Whose blobs the object
              took is then seen in the object's own register.
    bucket    the register of its name lists its id among the ended ones, since the change that removed the bucket.
              Everything under that id goes: writes that come late are refused by whoever wrote them (INV-8).
    attempt   to complete an upload, listed in the object's register: goes when the upload has ended, or does not name
              it. One that has made its object, and whose gateway died then, is finished here. One that has not is the
              client's to repeat: what it wanted (a condition) is not known here.

A register that was never written, as far as its replicas know, proves nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from objstore.engine.buckets import ended_in, without_ended
from objstore.engine.keystate import state_of
from objstore.engine.movestate import lent_ids, moves_of
from objstore.engine.uploadstate import ENDED, ended_as, upload_key
from objstore.model.errors import ObjstoreError
from objstore.model.ids import BlobId, BucketId, uuid7_ms
from objstore.model.manifest import BlobRef
from objstore.model.records import Attempt, PartState, RegisterKey, Space, UploadState, Value, decode, encode
from objstore.ports import Clock
from objstore.register.change import Change, Outcome, body_of
from objstore.repair.deletion import Deletion
from objstore.repair.inventory import Inventory
from objstore.repair.record import Record
from objstore.repair.settings import RepairSettings

log = logging.getLogger(__name__)

PER_ROUND = 512  # registers of one ended bucket in one round


class Registers(Protocol):
    """Part of `objstore.engine.registers.Registers`."""

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value: ...

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes: ...


class Endings:
    def __init__(
        self, registers: Registers, inventory: Inventory, deletion: Deletion, clock: Clock, settings: RepairSettings
    ) -> None:
        self._registers = registers
        self._inventory = inventory
        self._deletion = deletion
        self._clock = clock
        self._settings = settings
        self._empty_since: dict[BucketId, float] = {}  # ended buckets of which nothing was found, by our own clock

    # --- uploads ---

    async def collect_part(self, key: RegisterKey) -> None:
        body = body_of(await self._registers.read(key))
        if not body:
            return
        part = decode(body, PartState)
        chosen = await self.chosen_of(key.bucket, part.key, key.name[:16])
        if chosen is None:
            return
        unchosen = [ref for ref in _blobs_of_part(part) if ref.id not in chosen]
        if await self._deletion.all(unchosen):
            await self._bury(key, body)
            self._finish(unchosen)

    async def chosen_of(self, bucket: BucketId, key: bytes, upload: bytes) -> frozenset[BlobId] | None:
        """Blobs that the object may have taken from an upload that has ended; None: it is not proven to have.

        Only for uploads of which a part or a fragment exists."""
        value = await self._registers.read(upload_key(bucket, key, upload))
        if body := body_of(value):
            state = decode(body, UploadState)
            return frozenset(ref.id for ref in state.blobs) if state.status in ENDED else None
        if not value.state:
            return None
        known = state_of(body_of(await self._registers.read(RegisterKey(bucket, Space.OBJECT, key))))
        return frozenset(ref.id for version in known.versions for ref in version.blobs) | lent_ids(known)

    async def collect_upload(self, key: RegisterKey) -> None:
        """Forget an upload that ended long ago, when none of its parts is left."""
        body = body_of(await self._registers.read(key))
        if body and decode(body, UploadState).status in ENDED:
            await self._bury(key, body)

    async def settled(self, key: RegisterKey, attempts: tuple[Attempt, ...], horizon: int) -> frozenset[bytes]:
        """Which of the attempts listed for an object need not be listed any longer."""
        done: set[bytes] = set()
        for attempt in attempts:
            if uuid7_ms(attempt.id) <= horizon and await self._is_settled(key, attempt):
                done.add(attempt.id)
        return frozenset(done)

    async def _is_settled(self, key: RegisterKey, attempt: Attempt) -> bool:
        where = upload_key(key.bucket, key.name, attempt.upload)
        value = await self._registers.read(where)
        body = body_of(value)
        if not body:
            return bool(value.state)  # it was there once: the attempt was listed after a look at it
        upload = decode(body, UploadState)
        if upload.status in ENDED:
            return True
        if upload.attempt != attempt.id:
            return not attempt.made
        if attempt.made:
            ended = encode(ended_as(upload, "completed", self._clock.wall_ms()))
            await self._registers.change(where, lambda now: Outcome(b"", ended) if now == body else Outcome())
        return False

    # --- buckets ---

    async def is_gone(self, bucket: BucketId) -> bool:
        """Whether the register of its name says that this bucket was deleted."""
        name = self._inventory.ended_buckets.get(bucket)
        if name is None:
            return False
        return bucket in ended_in(body_of(await self._registers.read(RegisterKey.unpack(name))))

    def found_something_of(self, bucket: BucketId) -> None:
        self._empty_since.pop(bucket, None)

    async def collect_buckets(self, may_act: Callable[[], bool]) -> None:
        ended = dict.fromkeys([bucket for bucket in self._inventory.ended_buckets if await self.is_gone(bucket)])
        if not ended:
            return
        left: dict[BucketId, list[bytes]] = {bucket: [] for bucket in ended}
        for table in list(self._inventory.records.values()):
            for key, record in table.items():
                if (bucket := BucketId(key[:16])) in left and record != Record(record.ballot, empty=record.empty):
                    left[bucket].append(key)
            await asyncio.sleep(0)
        for bucket, keys in left.items():
            for key in keys[:PER_ROUND]:
                if self._deletion.tripped or not may_act():
                    return
                try:
                    await self._collect_of_bucket(RegisterKey.unpack(key))
                except ObjstoreError as error:
                    log.info("register %s of a deleted bucket stays for now: %s", key.hex(), error)
            await self._forget_bucket(bucket, bool(keys))

    async def _collect_of_bucket(self, key: RegisterKey) -> None:
        body = body_of(await self._registers.read(key))
        if not body or (key.space is Space.OBJECT and state_of(body).events):
            return  # what is still to be told goes first: it does not wait for ever
        refs = _blobs_of(key.space, body)
        if await self._deletion.all(refs):
            await self._bury(key, body)
            self._finish(refs)

    async def _forget_bucket(self, bucket: BucketId, something: bool) -> None:
        """Once nothing of it has shown up for long. Should something come later still, it stays: the safe side."""
        now = self._clock.monotonic()
        if something:
            self.found_something_of(bucket)
        elif now - self._empty_since.setdefault(bucket, now) >= self._settings.upload_age_s:
            name = self._inventory.ended_buckets.get(bucket)
            if name is not None:
                await self._registers.change(RegisterKey.unpack(name), lambda body: without_ended(body, bucket))
            self._empty_since.pop(bucket, None)

    # --- both ---

    async def _bury(self, key: RegisterKey, body: bytes) -> None:
        """Make it a tombstone, unless it has changed since it was read."""
        await self._registers.change(key, lambda now: Outcome(b"", b"") if now == body else Outcome())

    def _finish(self, refs: list[BlobRef]) -> None:
        for ref in refs:
            self._deletion.done(ref.id)


def _blobs_of_part(part: PartState) -> list[BlobRef]:
    return [*part.blobs, *(old.blob for old in part.retired)]


def _blobs_of(space: Space, body: bytes) -> list[BlobRef]:
    """All that a register of this kind keeps alive or has still to be collected."""
    if space is Space.PART:
        return _blobs_of_part(decode(body, PartState))
    if space is Space.OBJECT:
        state = state_of(body)
        lent = (ref for one in moves_of(state).lent for ref in one.blobs)
        named = (ref for version in state.versions for ref in version.blobs)
        return [*named, *lent, *(old.blob for old in state.retired)]
    return []
