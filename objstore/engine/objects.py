"""Operations on object keys: put, head, delete, list. One change on one register each is the only commit point."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from objstore.codec.sealing import INLINE, sealed_size
from objstore.engine.announcing import Announcement, announcement
from objstore.engine.buckets import ENABLED, Buckets
from objstore.engine.conditions import check
from objstore.engine.exact import ExactReader
from objstore.engine.keystate import (
    amended,
    attempt_of,
    born_of,
    buried,
    check_unlocked,
    current,
    find,
    has_inline_room,
    inline_piece,
    made_by,
    newest,
    placed,
    removed,
    settled_state,
    shown_id,
    turned,
    with_attempt,
    written,
)
from objstore.engine.moving import ObjectKeys
from objstore.engine.reading import BlobReader
from objstore.engine.registers import Registers
from objstore.engine.sealing import SealedBody, Sealing, unsealed, unsealed_inline
from objstore.engine.types import ALWAYS, Deleted, ObjectInfo, WriteCondition
from objstore.engine.writing import BlobLabel, BlobWriter
from objstore.model import limits, notification
from objstore.model.bucketconfig import migration_of
from objstore.model.context import current_origin
from objstore.model.errors import (
    Conflict,
    DeletedHere,
    IsDeleteMarker,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    NotFound,
    QuorumLost,
    WrongMD5,
)
from objstore.model.ids import BlobId, BucketId, uuid7
from objstore.model.locking import with_default
from objstore.model.manifest import BlobRef
from objstore.model.records import (
    NO_LOCK,
    Attempt,
    BucketState,
    KeyState,
    Lock,
    ObjectVersion,
    RegisterKey,
    Space,
)
from objstore.model.sealed import BY_CLIENT, Sealed
from objstore.ports import Buffer, Clock, Random
from objstore.register.change import Outcome


class Stored:
    """A body on its way into a register: either inline bytes or a blob. `md5`: of the body, for its ETag."""

    __slots__ = ("blobs", "data", "md5")

    def __init__(self, data: bytes, blobs: tuple[BlobRef, ...], md5: bytes) -> None:
        self.data = data
        self.blobs = blobs
        self.md5 = md5


class Objects:
    def __init__(
        self,
        registers: Registers,
        keys: ObjectKeys,
        buckets: Buckets,
        writer: BlobWriter,
        reader: BlobReader,
        clock: Clock,
        random: Random,
    ) -> None:
        self._registers = registers
        self._keys = keys
        self._buckets = buckets
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._random = random
        self.on_event: Callable[[RegisterKey], None] = lambda key: None  # a change has put an event there

    async def store(
        self,
        bucket: BucketState,
        bucket_name: str,
        key: str,
        body: AsyncIterator[Buffer],
        size: int,
        about: dict[str, str],
        content_md5: bytes | None,
        *,
        inline: bool = True,
        sealing: Sealing | None = None,
    ) -> Stored:
        """Take in a whole body and its checks; nothing is visible yet. Shared by objects and parts.

        With `sealing` its bytes are encrypted. Under a client's key the ETag is of these: it tells nothing of the
        body to who does not have the key."""
        if size:
            self._writer.need_room()
        kept = sealed_size(size) if sealing is not None else size
        inline = size == 0 or (inline and kept <= limits.INLINE_SIZE_MAX)
        unit = INLINE if inline else uuid7(self._registers.id_ms(), self._random.bytes(10))
        by_cluster = sealing is not None and sealing.record.kind != BY_CLIENT
        hashed = by_cluster or content_md5 is not None
        sealed = SealedBody(body, size, sealing, unit, hashed=hashed) if sealing is not None else None
        reader = ExactReader(sealed.chunks() if sealed is not None else body)
        if inline:
            data = bytes(await reader.read(kept))
            await reader.expect_end()
            stored = Stored(data, (), hashlib.md5(data, usedforsecurity=False).digest())
        else:
            label = BlobLabel(
                self._writer.cluster_id, bucket.id, bucket_name, key.encode(), self._clock.wall_ms(), about
            )
            ref, md5 = await self._writer.write(reader, kept, BlobId(unit), label, hashed=not by_cluster)
            stored = Stored(b"", (ref,), md5)
            try:
                await reader.expect_end()
            except BaseException:
                self._writer.discard(stored.blobs)
                raise
        plain_md5 = sealed.md5.digest() if sealed is not None else stored.md5
        if content_md5 is not None and content_md5 != plain_md5:
            self._writer.discard(stored.blobs)
            raise WrongMD5(expected=content_md5, calculated=plain_md5)
        if by_cluster:
            stored.md5 = plain_md5
        return stored

    async def put(
        self,
        bucket_name: str,
        key: str,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        *,
        condition: WriteCondition = ALWAYS,
        content_md5: bytes | None = None,
        finish: Callable[[], dict[str, str]] | None = None,
        tags: Mapping[str, str] | None = None,
        lock: Lock = NO_LOCK,
        sealing: Sealing | None = None,
        event: str = notification.PUT,
    ) -> ObjectInfo:
        bucket = await self._buckets.get(bucket_name)
        async with self._buckets.asking(bucket_name) as latest:
            stored = await self.store(bucket, bucket_name, key, body, size, headers, content_md5, sealing=sealing)
            try:
                added = finish() if finish is not None else {}
                now = await latest
            except BaseException:
                self._writer.discard(stored.blobs)
                raise
            finally:
                del latest  # it holds the error that it raised, and that one this frame
        mode = now.versioning
        lock = with_default(lock, now.config, self._clock.wall_ms())
        version = self.new_version(
            size, stored.md5.hex(), {**headers, **added}, stored.blobs, mode=mode, tags=dict(tags or {}), lock=lock
        )
        if sealing is not None:
            version = msgspec.structs.replace(version, inline=len(stored.data), sealed=sealing.record)
        tell = announcement(now.config, bucket_name, key, current_origin(), mode)
        version = await self._commit_anyhow(
            bucket, bucket_name, key, version, stored.data, condition, mode, sealing, tell, event
        )
        confirmed = await self._buckets.confirm(bucket_name, bucket.id)
        data = b"" if version.blobs else stored.data
        return info_of(bucket_name, key, version, data, versioned=bool(confirmed.versioning))

    async def _commit_anyhow(
        self,
        bucket: BucketState,
        bucket_name: str,
        key: str,
        version: ObjectVersion,
        data: bytes,
        condition: WriteCondition,
        mode: str,
        sealing: Sealing | None,
        tell: Announcement,
        event: str,
    ) -> ObjectVersion:
        """Commit, also when the bucket becomes versioned meanwhile, or the register has no room for the bytes."""
        try:
            while True:
                try:
                    await self.commit(bucket.id, key, version, data, condition, tell, event, mode=mode)
                    return version
                except BecameVersioned:
                    mode = (await self._buckets.get(bucket_name, fresh=True)).versioning
                    version = msgspec.structs.replace(version, null=mode != ENABLED)
                except _NoInlineRoom:
                    plain = unsealed_inline(data, version.size, sealing) if sealing is not None else data
                    stored = await self.store(
                        bucket,
                        bucket_name,
                        key,
                        _whole(plain),
                        len(plain),
                        version.headers,
                        None,
                        inline=False,
                        sealing=sealing,
                    )
                    version, data = msgspec.structs.replace(version, blobs=stored.blobs, inline=0), b""
        except (NotFound, Conflict):
            # Only a refusal is a proof. After any other end, a cancelled request among them, the version may be
            # there or come yet; whoever collects garbage asks the register first (INV-7).
            self._writer.discard(version.blobs)
            raise

    def new_version(
        self,
        size: int,
        etag: str,
        headers: dict[str, str],
        blobs: tuple[BlobRef, ...],
        *,
        mode: str,
        parts: tuple[int, ...] = (),
        upload_id: bytes = b"",
        tags: dict[str, str] | None = None,
        lock: Lock = NO_LOCK,
        sealed: Sealed | None = None,
        part_checksums: bytes = b"",
    ) -> ObjectVersion:
        """`mode`: the bucket's versioning when the write began or later."""
        now = self._clock.wall_ms()
        id = uuid7(now, self._random.bytes(10))
        return ObjectVersion(
            id,
            size,
            etag,
            now,
            headers,
            blobs,
            parts,
            upload_id,
            null=mode != ENABLED,
            tags=tags or {},
            lock=lock,
            sealed=sealed,
            part_checksums=part_checksums,
        )

    async def commit(
        self,
        bucket: BucketId,
        key: str,
        version: ObjectVersion,
        data: bytes,
        condition: WriteCondition,
        tell: Announcement,
        event: str,
        *,
        mode: str,
        op: bytes | None = None,
    ) -> None:
        """Make a stored version the newest one, if the condition holds. The bucket is to be confirmed after.

        `mode`: the bucket's versioning, as `version` was made for; BecameVersioned if there has been another since.
        A version of an upload needs `op`, the attempt that is to make it: NoSuchUpload if it was given up."""
        born = None if version.upload_id else born_of(version.blobs)

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            made = made_by(state, version.upload_id)
            if made is not None and made.etag == version.etag:
                return Outcome()  # this upload has made it already, of these parts; a late repeat is no new write
            check(condition, current(state))
            if not mode and any(not one.null for one in state.versions):
                raise BecameVersioned
            new = state
            if version.upload_id:
                attempt = attempt_of(state, op or b"")
                if attempt is None or attempt.made:
                    raise NoSuchUpload("this attempt to complete the upload was given up, or replaced since it ended")
                new = with_attempt(state, Attempt(attempt.id, attempt.upload, made=True))
            new = tell.of(placed(new, version, version.modified_ms), event, version, version.modified_ms)
            if data and not has_inline_room(new):
                raise _NoInlineRoom
            return written(state, new, data)

        await self._keys.change(_key(bucket, key), change, op=op, born=born)
        self._nudge(bucket, tell, event)

    def _nudge(self, bucket: BucketId, tell: Announcement, *events: str) -> None:
        if any(map(tell.may_want, events)):
            self.on_event(_key(bucket, tell.key))

    async def head(self, bucket_name: str, key: str, version_id: str | None = None) -> ObjectInfo:
        """The newest version, or the one that is named. NoSuchKey, NoSuchVersion, IsDeleteMarker."""
        bucket = await self._buckets.get(bucket_name)
        value, state = await self._keys.look(_key(bucket.id, key))
        if not state.versions:
            fresh = await self._buckets.get(bucket_name, fresh=True)
            if fresh.id != bucket.id:  # deleted and made again since it was cached
                bucket = fresh
                value, state = await self._keys.look(_key(fresh.id, key))
        found = _wanted(state, bucket_name, key, version_id)
        at, length = inline_piece(state, found)
        return info_of(
            bucket_name,
            key,
            found,
            value.data[at : at + length],
            latest=found is state.versions[0],
            versioned=bool(bucket.versioning),
        )

    async def amend(
        self,
        bucket_name: str,
        key: str,
        version_id: str | None,
        edit: Callable[[ObjectVersion], ObjectVersion],
        *,
        event: str = "",
    ) -> str:
        """Change what is known of a version (tags, lock), not its bytes; its id as shown. `edit` is pure, may run
        several times, and may raise what a change function may. `event`: how a notification calls this, if any may."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        tell = announcement(bucket.config, bucket_name, key, current_origin(), bucket.versioning)
        now = self._clock.wall_ms()

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            found = _wanted(state, bucket_name, key, version_id)
            after = edit(found)
            new = tell.of(amended(state, found, after), event, after, now)
            return turned(state, new, shown_id(after).encode())

        shown = await self._keys.change(_key(bucket.id, key), change)
        self._nudge(bucket.id, tell, event)
        await self._buckets.confirm(bucket_name, bucket.id)
        return shown.decode()

    async def read(
        self, info: ObjectInfo, offset: int, length: int, sealing: Sealing | None = None
    ) -> AsyncIterator[Buffer]:
        """Verified bytes of a version; of an encrypted one with its `sealing`. When it was replaced and collected
        meanwhile: QuorumLost."""
        assert 0 <= offset and 0 <= length and offset + length <= info.size
        assert (sealing.record if sealing is not None else None) == info.sealed, "not the key of this object"
        if not info.blobs:
            data = unsealed_inline(info.data, info.size, sealing) if sealing is not None else info.data
            yield memoryview(data)[offset : offset + length]
            return
        sent = 0
        if sealing is not None:
            source = unsealed(self._reader, info.blobs, sealing, offset, length)
        else:
            source = self._reader.read(info.blobs, offset, length)
        async for buffer in source:
            sent += len(buffer)
            yield buffer
        if sent != length:
            raise QuorumLost(f"{sent} of {length} bytes could be read")

    async def delete(
        self,
        bucket_name: str,
        key: str,
        version_id: str | None = None,
        *,
        condition: WriteCondition = ALWAYS,
        bypass: bool = False,
        removed_event: str = notification.REMOVED,
        marked_event: str = notification.MARKED,
    ) -> Deleted:
        """Take away what is there: for good without versioning, under a delete marker with it; a version that is named
        always for good. `bypass`: governance retention does not count. ObjectLocked."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        migration = migration_of(bucket.config)
        marker = self.new_version(0, "", {}, (), mode=bucket.versioning)
        marker = msgspec.structs.replace(marker, marker=True)
        now = marker.modified_ms
        tell = announcement(bucket.config, bucket_name, key, current_origin(), bucket.versioning)

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            if version_id is not None:
                gone = find(state, version_id)
                check(condition, gone)
                if gone is None:
                    return written(state, buried(state, migration)) if migration and not state.versions else Outcome()
                check_unlocked(gone.lock, now, bypass=bypass)
                new = tell.of(removed(state, gone, now, migration), removed_event, gone, now)
                return written(state, new, result=_did(gone, marker=False))
            check(condition, current(state))
            if bucket.versioning or any(not one.null for one in state.versions):
                new = tell.of(placed(state, marker, now), marked_event, marker, now)
                return written(state, new, result=_did(marker, marker=True))
            old = current(state)
            if old is None:
                return written(state, buried(state, migration)) if migration else Outcome()
            check_unlocked(old.lock, now, bypass=bypass)
            new = tell.of(removed(state, old, now, migration), removed_event, old, now)
            return written(state, new, result=_did(old, marker=False))

        did = await self._keys.change(_key(bucket.id, key), change)
        self._nudge(bucket.id, tell, removed_event, marked_event)
        return msgspec.msgpack.decode(did, type=Deleted) if did else Deleted()


def _wanted(state: KeyState, bucket: str, key: str, version_id: str | None) -> ObjectVersion:
    """The newest version, or the one that is named."""
    if version_id is None:
        found = newest(state)
        if found is None:
            text = f"there is no object {key!r} in bucket {bucket!r}"
            raise DeletedHere(text, state.gone) if state.gone else NoSuchKey(text)
        if found.marker:
            raise IsDeleteMarker(f"the object {key!r} in bucket {bucket!r} was deleted", shown_id(found))
        return found
    found = find(state, version_id)
    if found is None:
        raise NoSuchVersion(f"the object {key!r} in bucket {bucket!r} has no version {version_id}")
    if found.marker:
        text = f"version {version_id} of {key!r} is a delete marker; it can only be deleted"
        raise IsDeleteMarker(text, version_id, named=True, modified_ms=found.modified_ms)
    return found


def info_of(
    bucket: str, key: str, version: ObjectVersion, data: bytes, *, latest: bool = True, versioned: bool = False
) -> ObjectInfo:
    return ObjectInfo(
        bucket,
        key,
        shown_id(version),
        version.size,
        version.etag,
        version.modified_ms,
        version.headers,
        version.parts,
        version.blobs,
        data,
        version.tags,
        version.lock,
        latest,
        versioned,
        version.sealed,
        version.part_checksums,
        version.version_id,
    )


class BecameVersioned(Conflict):
    """The write began before its bucket was versioned, others have been there since: it has to look again."""


class _NoInlineRoom(Conflict):
    """The register holds as many bytes of other versions as it may."""


def _did(version: ObjectVersion, *, marker: bool) -> bytes:
    return msgspec.msgpack.encode(Deleted(shown_id(version), marker, version.marker and not marker))


async def _whole(data: bytes) -> AsyncIterator[Buffer]:
    yield data


def _key(bucket: BucketId, key: str) -> RegisterKey:
    return RegisterKey(bucket, Space.OBJECT, key.encode())
