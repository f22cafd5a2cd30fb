"""RenameObject: an object gets another key of its bucket, and none of its bytes is touched.

Four changes of registers, in this order (what they write is said in engine/movestate.py):

    1  source    if the conditions hold: this version is leaving; lent are its blobs that were stored under this key
       homes     likewise those that an earlier rename brought from elsewhere
    2  target    if the conditions hold: the version, and that it has arrived. This is the moment of the rename.
    3  source    lets go of the version
    4  target    forgets the arrival

A refusal before or at 2 undoes what is there. After any other end 2 may have happened: whoever reads or writes the
source next, or collects garbage, finds out and goes on from there (engine/moving.py).
"""

from __future__ import annotations

import asyncio
import hashlib

import msgspec

from objstore.engine.announcing import announcement
from objstore.engine.buckets import Buckets
from objstore.engine.conditions import check
from objstore.engine.keystate import (
    beside,
    check_unlocked,
    current,
    floor_above,
    inline_piece,
    placed,
    settled_state,
    state_of,
    turned,
    written,
)
from objstore.engine.movestate import NotCovered, arrived, borrowed_from, homes_of, leaving, lending
from objstore.engine.moving import ObjectKeys, abandon, finish, object_key
from objstore.engine.objects import Objects
from objstore.engine.registers import Registers
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model import notification
from objstore.model.bucketconfig import migration_of
from objstore.model.context import current_origin
from objstore.model.errors import Conflict, GivenUp, NoSuchKey, NotFound, NotRenamable, Unavailable
from objstore.model.ids import uuid7
from objstore.model.manifest import BlobRef
from objstore.model.records import BucketState, KeyState, Leaving, ObjectVersion
from objstore.ports import Clock, Random
from objstore.register.change import Outcome

ATTEMPTS = 8
PAUSE_S = 0.05
_NOT_YET = b"not yet"


class Renames:
    """`keys`: of objects, counting nothing."""

    def __init__(
        self, registers: Registers, keys: ObjectKeys, buckets: Buckets, objects: Objects, clock: Clock, random: Random
    ) -> None:
        self._registers = registers
        self._keys = keys
        self._buckets = buckets
        self._objects = objects
        self._clock = clock
        self._random = random

    async def rename(
        self,
        bucket_name: str,
        source: str,
        target: str,
        *,
        condition: WriteCondition = ALWAYS,
        source_condition: WriteCondition = ALWAYS,
        token: str = "",
    ) -> None:
        """`condition`: of what the target has now. `token`: the same for all repeats of a request, so that one that
        comes after it was done is told so. NoSuchKey, PreconditionFailed, NotRenamable (versioned), TooManyRenames."""
        assert source != target
        bucket = await self._buckets.get(bucket_name, fresh=True)
        if bucket.versioning:
            raise NotRenamable(_VERSIONED)
        one = _Rename(bucket_name, bucket, source, target, condition, source_condition, token)
        for _ in range(ATTEMPTS):
            try:
                await self._try(one)
            except (GivenUp, NotCovered, _Changed):
                await asyncio.sleep(self._random.uniform(0, 2 * PAUSE_S))
                continue
            except NoSuchKey:
                if not (token and await self._was_made(one)):
                    raise
            await self._buckets.confirm(bucket_name, bucket.id)
            return
        raise Unavailable(f"the object {source!r} is written or renamed again and again; try later")

    async def _was_made(self, one: _Rename) -> bool:
        target = object_key(one.bucket.id, one.target)
        return await self._keys.change(target, lambda _: Outcome(_NOT_YET), op=one.op) != _NOT_YET

    async def _try(self, one: _Rename) -> None:
        key = object_key(one.bucket.id, one.source)
        value, state = await self._keys.look(key)
        version = _wanted(state, one)
        at, length = inline_piece(state, version)
        id = uuid7(self._registers.id_ms(), self._random.bytes(10))
        now = self._clock.wall_ms()
        tell = announcement(one.bucket.config, one.bucket_name, one.source.decode(), current_origin(), "")
        removal = tell.of(KeyState(), notification.REMOVED, version, now).events
        going = Leaving(id, one.target, version.version_id, removal, migration_of(one.bucket.config))
        lent = _by_home(version, one.source)
        own = lent.pop(one.source, [])
        lent.pop(one.target, None)

        def depart(body: bytes) -> Outcome:
            now_there = settled_state(body)
            if _wanted(now_there, one) != version:
                raise _Changed
            check_unlocked(version.lock, now, bypass=False)
            after = lending(now_there, id, one.target, own) if own else now_there
            return beside(leaving(after, going))

        await self._keys.change(key, depart, op=id)
        begun: list[bytes] = []
        try:
            for home, blobs in lent.items():
                begun.append(home)
                await self._lend(one, home, id, blobs)
            made = await self._arrive(one, id, version, value.data[at : at + length], now)
        except (NotFound, Conflict):
            # Only a refusal is a proof that it has not arrived, and will not.
            await abandon(self._registers, key, id, begun, self._clock.wall_ms())
            raise
        if made != id:  # by an earlier request with this token: what is at the source now is none of it
            await abandon(self._registers, key, id, begun, self._clock.wall_ms())
            return
        await finish(self._registers, key, going, self._clock.wall_ms())
        if removal:
            self._objects.on_event(key)

    async def _lend(self, one: _Rename, home: bytes, id: bytes, blobs: list[BlobRef]) -> None:
        def lend(body: bytes) -> Outcome:
            state = state_of(body)
            return turned(state, lending(state, id, one.target, blobs))

        await self._registers.change(object_key(one.bucket.id, home), lend, op=id)

    async def _arrive(self, one: _Rename, id: bytes, version: ObjectVersion, data: bytes, now: int) -> bytes:
        """The id of the rename that this operation has made."""
        key = object_key(one.bucket.id, one.target)
        tell = announcement(one.bucket.config, one.bucket_name, one.target.decode(), current_origin(), "")
        made = msgspec.structs.replace(
            version,
            version_id=uuid7(now, self._random.bytes(10)),
            upload_id=b"",
            borrowed=borrowed_from(homes_of(version, one.source), one.target),
        )

        def arrive(body: bytes) -> Outcome:
            state = settled_state(body)
            _check_never_versioned(state)
            check(one.condition, current(state))
            after = arrived(placed(state, made, now), id, one.source)
            return written(state, tell.of(after, notification.COPY, made, now), data, id)

        done = await self._keys.change(key, arrive, op=one.op or id, born=floor_above(id))
        if tell.may_want(notification.COPY):
            self._objects.on_event(key)
        return done


class _Rename:
    """What is asked for."""

    def __init__(
        self,
        bucket_name: str,
        bucket: BucketState,
        source: str,
        target: str,
        condition: WriteCondition,
        source_condition: WriteCondition,
        token: str,
    ) -> None:
        self.bucket_name = bucket_name
        self.bucket = bucket
        self.source = source.encode()
        self.target = target.encode()
        self.condition = condition
        self.source_condition = source_condition
        asked = b"\0".join((token.encode(), self.source, self.target))
        self.op = hashlib.blake2b(asked, digest_size=16).digest() if token else None


class _Changed(Conflict):
    """The source is another one than a moment ago."""


_VERSIONED = "an object of a bucket that is or was versioned cannot be renamed; copy it, and delete it"


def _check_never_versioned(state: KeyState) -> None:
    if any(not one.null for one in state.versions):
        raise NotRenamable(_VERSIONED)


def _wanted(state: KeyState, one: _Rename) -> ObjectVersion:
    _check_never_versioned(state)
    found = current(state)
    check(one.source_condition, found)
    if found is None:
        raise NoSuchKey(f"there is no object {one.source.decode()!r} in bucket {one.bucket_name!r}")
    return found


def _by_home(version: ObjectVersion, key: bytes) -> dict[bytes, list[BlobRef]]:
    found: dict[bytes, list[BlobRef]] = {}
    for blob, home in zip(version.blobs, homes_of(version, key), strict=True):
        found.setdefault(home, []).append(blob)
    return found
