"""Taking over an object from the service that a bucket is migrated from, as it was there.

INV-21: an object of the origin comes to be here only while nothing is known here of its key: that is decided by the
change that commits it. A write here or a delete here during the migration wins, whichever is first, because the latter
leaves its mark (`KeyState.gone`). A copy that commits after the migration was ended, when deletes leave no mark any
more, is found by the look at the bucket that follows each commit, and taken away again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from objstore.engine.buckets import Buckets
from objstore.engine.keystate import born_of, placed, removed, settled_state, written
from objstore.engine.moving import ObjectKeys
from objstore.engine.objects import Objects
from objstore.engine.sealing import Sealing
from objstore.engine.writing import BlobWriter
from objstore.model.bucketconfig import migration_of
from objstore.model.errors import Conflict, NotFound
from objstore.model.locking import with_default
from objstore.model.records import NO_LOCK, BucketState, RegisterKey, Space
from objstore.ports import Buffer, Clock
from objstore.register.change import Outcome


class AlreadyHere(Conflict):
    """Something is known of the key: nothing is to be copied."""


class MigrationOver(Conflict):
    """The bucket is not migrated any more, or from elsewhere."""


@dataclass(frozen=True, slots=True)
class Original:
    """What is kept of an object besides its bytes."""

    size: int
    etag: str
    modified_ms: int
    headers: dict[str, str]
    parts: tuple[int, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class Adoption:
    def __init__(self, keys: ObjectKeys, buckets: Buckets, objects: Objects, writer: BlobWriter, clock: Clock) -> None:
        self._keys = keys
        self._buckets = buckets
        self._objects = objects
        self._writer = writer
        self._clock = clock

    async def adopt(
        self,
        bucket_name: str,
        key: str,
        body: AsyncIterator[Buffer],
        original: Original,
        migration: bytes,
        *,
        verify: Callable[[bytes], None],
        sealing: Sealing | None = None,
    ) -> None:
        """AlreadyHere, MigrationOver. `verify` is told the MD5 of the bytes and raises if it is not the right one."""
        bucket = await self._still(bucket_name, migration)
        stored = await self._objects.store(
            bucket, bucket_name, key, body, original.size, original.headers, None, sealing=sealing
        )
        try:
            verify(stored.md5)
            latest = await self._still(bucket_name, migration)
            version = self._objects.new_version(
                original.size,
                original.etag,
                original.headers,
                stored.blobs,
                mode=latest.versioning,
                parts=original.parts,
                tags=dict(original.tags),
                lock=with_default(NO_LOCK, latest.config, self._clock.wall_ms()),
            )
        except BaseException:
            self._writer.discard(stored.blobs)
            raise
        now_ms, id = version.modified_ms, version.version_id
        version = msgspec.structs.replace(version, modified_ms=original.modified_ms)
        if sealing is not None:
            version = msgspec.structs.replace(version, inline=len(stored.data), sealed=sealing.record)
        where = RegisterKey(bucket.id, Space.OBJECT, key.encode())

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            if state.versions or state.gone == migration:
                raise AlreadyHere(f"object {key!r} of bucket {bucket_name!r} was written or deleted here")
            return written(state, placed(state, version, now_ms), stored.data)

        try:
            await self._keys.change(where, change, born=born_of(stored.blobs))
        except (NotFound, Conflict):
            self._writer.discard(stored.blobs)
            raise
        confirmed = await self._buckets.confirm(bucket_name, bucket.id)
        if migration_of(confirmed.config) != migration:
            await self._take_back(where, id)
            raise MigrationOver(f"the migration of bucket {bucket_name!r} was ended")

    async def _still(self, bucket_name: str, migration: bytes) -> BucketState:
        bucket = await self._buckets.get(bucket_name, fresh=True)
        if migration_of(bucket.config) != migration:
            raise MigrationOver(f"the migration of bucket {bucket_name!r} was ended")
        return bucket

    async def _take_back(self, where: RegisterKey, id: bytes) -> None:
        now_ms = self._clock.wall_ms()

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            copied = next((one for one in state.versions if one.version_id == id), None)
            return written(state, removed(state, copied, now_ms)) if copied is not None else Outcome()

        await self._keys.change(where, change)

    async def forget(self, bucket_name: str, key: str, migration: bytes) -> None:
        """That the key was deleted during a migration, which is over."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        if migration_of(bucket.config) == migration:
            raise Conflict(f"the migration of bucket {bucket_name!r} is on")

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            if state.gone != migration:
                return Outcome()
            return written(state, msgspec.structs.replace(state, gone=b""))

        await self._keys.change(RegisterKey(bucket.id, Space.OBJECT, key.encode()), change)
