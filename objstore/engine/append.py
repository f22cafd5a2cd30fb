"""Appending to an object: its bytes stay where they are, one change of its register puts the new ones behind them.

An append names the size that it expects and the version that it looked at. The change refuses it unless that version is
still the one that is there, so of two at one offset exactly one wins, and whoever loses has changed nothing (INV-22).
The new version names the old blobs and one of this request; only the latter is as young as the request (`born`).

Small appends do not pile up: a blob at the end that is not much larger than what comes behind it is read and written
again together with it, up to MERGED_MAX. So the blobs of an object grow by halves from its end, and their number with
the logarithm of what was appended, not with the number of appends; each byte is written about as often. A small plain
body stays in the register while it fits. An encrypted one leaves it with its first append: its data key sealed one
inline body and can seal no other (INV-19).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import msgspec

from objstore.codec.sealing import plain_size
from objstore.engine.announcing import announcement
from objstore.engine.buckets import Buckets
from objstore.engine.conditions import check
from objstore.engine.keystate import born_of, current, placed, settled_state, written
from objstore.engine.movestate import borrowed_from, homes_of
from objstore.engine.moving import ObjectKeys
from objstore.engine.objects import Objects, Stored, info_of
from objstore.engine.sealing import Sealing
from objstore.engine.types import ALWAYS, ObjectInfo, WriteCondition
from objstore.engine.writing import BlobWriter
from objstore.model import limits, notification
from objstore.model.context import current_origin
from objstore.model.errors import (
    Conflict,
    InvalidWriteOffset,
    NotAppendable,
    NotFound,
    PreconditionFailed,
    TooManyParts,
    WrongMD5,
)
from objstore.model.records import BucketState, ObjectVersion, RegisterKey, Space
from objstore.ports import Buffer
from objstore.register.change import Outcome

MERGED_MAX = 8 * limits.MIB  # no blob larger than this is written again

_VERSIONED = "an object of a bucket that is or was versioned cannot be appended to"
_CHECKSUM = "x-amz-checksum-"


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of an object that is written again with what is appended: the number of blobs that stay before it, and
    its first byte."""

    kept: int
    start: int


def tail_of(sizes: tuple[int, ...], added: int) -> Tail:
    """`sizes`: plain bytes of the blobs, in order."""
    kept, together = len(sizes), added
    while kept and sizes[kept - 1] <= 2 * together and sizes[kept - 1] + together <= MERGED_MAX:
        kept -= 1
        together += sizes[kept]
    return Tail(kept, sum(sizes[:kept]))


def parts_with(size: int, parts: tuple[int, ...], added: int) -> tuple[int, ...]:
    """The sizes of the parts of an object of `size` bytes once more are appended. TooManyParts."""
    before = parts or ((size,) if size else ())
    if len(before) >= limits.PARTS_MAX:
        text = f"the object has {len(before)} parts and can have no more; copy it, and append to the copy"
        raise TooManyParts(text)
    return (*before, added)


def etag_with(etag: str, md5: bytes, parts: int) -> str:
    """Of what was there and what came; like that of a multipart object no digest of the bytes, and it says so."""
    digest = hashlib.md5(etag.encode() + b"\0" + md5, usedforsecurity=False).hexdigest()
    return f"{digest}-{parts}"


def check_base(found: ObjectVersion | None, base: ObjectInfo) -> ObjectVersion:
    """The version that was looked at, if it is still the one that is there. InvalidWriteOffset, Conflict."""
    if found is None or found.size != base.size:
        raise InvalidWriteOffset("the object has changed meanwhile: the write offset is not its size")
    if found.version_id != base.id:
        raise Conflict("the object was written anew while this request ran; look at it, and append again")
    return found


def continued(found: ObjectVersion | ObjectInfo, made: ObjectVersion) -> ObjectVersion:
    """`made` with all that it keeps of the version before: metadata, tags, lock and data key as they are now."""
    kept = {name: value for name, value in found.headers.items() if not name.startswith(_CHECKSUM)}
    return msgspec.structs.replace(
        made, headers={**kept, **made.headers}, tags=dict(found.tags), lock=found.lock, sealed=found.sealed
    )


class Appends:
    def __init__(self, keys: ObjectKeys, buckets: Buckets, objects: Objects, writer: BlobWriter) -> None:
        self._keys = keys
        self._buckets = buckets
        self._objects = objects
        self._writer = writer

    async def append(
        self,
        bucket_name: str,
        key: str,
        base: ObjectInfo | None,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        *,
        condition: WriteCondition = ALWAYS,
        content_md5: bytes | None = None,
        finish: Callable[[], dict[str, str]] | None = None,
        tags: Mapping[str, str] | None = None,
        sealing: Sealing | None = None,
    ) -> ObjectInfo:
        """Put `size` bytes behind those of `base`, which was read before and must still be there; None: there was no
        object, and it is made with these `headers` and `tags`.

        `finish`: checksum headers of the whole object that it becomes. `sealing`: of the object, if it is encrypted.
        InvalidWriteOffset, TooManyParts, NotAppendable, PreconditionFailed, Conflict."""
        assert size > 0
        bucket = await self._buckets.get(bucket_name, fresh=True)
        if bucket.versioning:
            raise NotAppendable(_VERSIONED)
        if base is None:
            return await self._create(
                bucket_name,
                key,
                body,
                size,
                headers,
                condition,
                content_md5=content_md5,
                finish=finish,
                tags=tags,
                sealing=sealing,
            )
        if not base.id:
            raise NotAppendable("the bytes of this object are not in this cluster; copy it here first")
        parts = parts_with(base.size, base.parts, size)
        tail = _tail(base, size)
        stored = await self._stored(bucket, base, tail, body, size, content_md5, sealing)
        try:
            checksums = finish() if finish is not None else {}
        except BaseException:
            self._writer.discard(stored.blobs)
            raise
        blobs = (*base.blobs[: tail.kept], *stored.blobs)
        etag = etag_with(base.etag, stored.md5, len(parts))
        made = self._objects.new_version(base.size + size, etag, checksums, blobs, mode="", parts=parts)
        try:
            await self._commit(bucket, base, made, stored, condition)
        except (NotFound, Conflict):
            self._writer.discard(stored.blobs)  # only a refusal is a proof that nothing names them
            raise
        await self._buckets.confirm(bucket_name, bucket.id)
        return info_of(bucket_name, key, continued(base, made), stored.data)

    async def _create(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        condition: WriteCondition,
        *,
        content_md5: bytes | None,
        finish: Callable[[], dict[str, str]] | None,
        tags: Mapping[str, str] | None,
        sealing: Sealing | None,
    ) -> ObjectInfo:
        """As a PutObject that must find nothing."""
        try:
            return await self._objects.put(
                bucket,
                key,
                body,
                size,
                headers,
                condition=WriteCondition(condition.if_match, "*"),
                content_md5=content_md5,
                finish=finish,
                tags=tags,
                sealing=sealing,
            )
        except PreconditionFailed:
            if condition != ALWAYS:
                raise
            raise InvalidWriteOffset("an object was made meanwhile: the write offset is not its size") from None

    async def _stored(
        self,
        bucket: BucketState,
        base: ObjectInfo,
        tail: Tail,
        body: AsyncIterator[Buffer],
        size: int,
        content_md5: bytes | None,
        sealing: Sealing | None,
    ) -> Stored:
        """The end of the object with what is appended: inline bytes or one blob. BadDigest."""
        again = base.size - tail.start
        hashed = hashlib.md5(usedforsecurity=False) if content_md5 is not None else None

        async def joined() -> AsyncIterator[Buffer]:
            async for piece in self._objects.read(base, tail.start, again, sealing):
                yield piece
            async for piece in body:
                if hashed is not None:
                    hashed.update(piece)
                yield piece

        stored = await self._objects.store(
            bucket,
            base.bucket,
            base.key,
            joined(),
            again + size,
            base.headers,
            None,
            inline=not base.blobs and sealing is None,
            sealing=sealing,
        )
        if hashed is not None and hashed.digest() != content_md5:
            self._writer.discard(stored.blobs)
            raise WrongMD5(expected=content_md5 or b"", calculated=hashed.digest())
        return stored

    async def _commit(
        self,
        bucket: BucketState,
        base: ObjectInfo,
        made: ObjectVersion,
        stored: Stored,
        condition: WriteCondition,
    ) -> None:
        key = RegisterKey(bucket.id, Space.OBJECT, base.key.encode())
        tell = announcement(bucket.config, base.bucket, base.key, current_origin(), bucket.versioning)

        def change(body: bytes) -> Outcome:
            state = settled_state(body)
            if any(not one.null for one in state.versions):
                raise NotAppendable(_VERSIONED)
            check(condition, current(state))
            found = check_base(current(state), base)
            kept = homes_of(found, key.name)[: len(made.blobs) - len(stored.blobs)]
            borrowed = borrowed_from((*kept, *(key.name for _ in stored.blobs)), key.name)
            version = msgspec.structs.replace(continued(found, made), borrowed=borrowed)
            new = tell.of(placed(state, version, made.modified_ms), notification.PUT, version, made.modified_ms)
            return written(state, new, stored.data)

        await self._keys.change(key, change, born=born_of(stored.blobs))
        if tell.may_want(notification.PUT):
            self._objects.on_event(key)


def _tail(base: ObjectInfo, added: int) -> Tail:
    if not base.blobs:
        return Tail(0, 0)  # it leaves the register, or stays there as one
    return tail_of(tuple(plain_size(blob.size) if base.sealed else blob.size for blob in base.blobs), added)
