"""Operations on object keys: put, head, delete, list. One change on one register each is the only commit point."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable

from objstore.engine.buckets import Buckets
from objstore.engine.conditions import check
from objstore.engine.keystate import (
    attempt_of,
    body_with,
    born_of,
    current,
    listing_of,
    replace,
    state_of,
    with_attempt,
)
from objstore.engine.listing import BucketScan
from objstore.engine.peers import Peers
from objstore.engine.reading import BlobReader
from objstore.engine.registers import Registers
from objstore.engine.types import ALWAYS, ObjectEntry, ObjectInfo, ObjectPage, WriteCondition
from objstore.engine.writing import BlobLabel, BlobWriter, ExactReader
from objstore.model import limits
from objstore.model.errors import BadDigest, Conflict, NoSuchKey, NoSuchUpload, NotFound, QuorumLost
from objstore.model.ids import BlobId, BucketId, uuid7
from objstore.model.manifest import BlobRef
from objstore.model.records import (
    Attempt,
    BucketState,
    ListEntry,
    ObjectVersion,
    RegisterKey,
    Space,
    decode,
    encode,
)
from objstore.ports import Buffer, Clock, Random
from objstore.register.change import Outcome, body_of


class Stored:
    """A body on its way into a register: either inline bytes or a blob."""

    __slots__ = ("blobs", "data", "md5")

    def __init__(self, data: bytes, blobs: tuple[BlobRef, ...], md5: bytes) -> None:
        self.data = data
        self.blobs = blobs
        self.md5 = md5


class Objects:
    def __init__(
        self,
        peers: Peers,
        registers: Registers,
        buckets: Buckets,
        writer: BlobWriter,
        reader: BlobReader,
        clock: Clock,
        random: Random,
    ) -> None:
        self._peers = peers
        self._registers = registers
        self._buckets = buckets
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._random = random

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
    ) -> Stored:
        """Take in a whole body and its checks; nothing is visible yet. Shared by objects and parts."""
        if size:
            self._peers.need_room()
        reader = ExactReader(body)
        if size == 0 or (inline and size <= limits.INLINE_SIZE_MAX):
            data = bytes(await reader.read(size))
            await reader.expect_end()
            stored = Stored(data, (), hashlib.md5(data, usedforsecurity=False).digest())
        else:
            now = self._clock.wall_ms()
            blob = BlobId(uuid7(self._registers.id_ms(), self._random.bytes(10)))
            label = BlobLabel(self._peers.topology.map.cluster_id, bucket.id, bucket_name, key.encode(), now, about)
            ref, md5 = await self._writer.write(reader, size, blob, label)
            stored = Stored(b"", (ref,), md5)
            try:
                await reader.expect_end()
            except BaseException:
                self._writer.discard(stored.blobs)
                raise
        if content_md5 is not None and content_md5 != stored.md5:
            self._writer.discard(stored.blobs)
            raise BadDigest(f"Content-MD5 does not match the body: its MD5 is {stored.md5.hex()}")
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
    ) -> ObjectInfo:
        bucket = await self._buckets.get(bucket_name)
        stored = await self.store(bucket, bucket_name, key, body, size, headers, content_md5)
        try:
            added = finish() if finish is not None else {}
        except BaseException:
            self._writer.discard(stored.blobs)
            raise
        version = self.new_version(size, stored.md5.hex(), {**headers, **added}, stored.blobs)
        try:
            await self.commit(bucket.id, key, version, stored.data, condition)
        except (NotFound, Conflict):
            # Only a refusal is a proof. After any other end, a cancelled request among them, the version may be
            # there or come yet; whoever collects garbage asks the register first (INV-7).
            self._writer.discard(stored.blobs)
            raise
        await self._buckets.confirm(bucket_name, bucket.id)
        return info_of(bucket_name, key, version, stored.data)

    def new_version(
        self,
        size: int,
        etag: str,
        headers: dict[str, str],
        blobs: tuple[BlobRef, ...],
        *,
        parts: tuple[int, ...] = (),
        upload_id: bytes = b"",
    ) -> ObjectVersion:
        now = self._clock.wall_ms()
        version_id = uuid7(now, self._random.bytes(10))
        return ObjectVersion(version_id, size, etag, now, headers, blobs, parts, upload_id)

    async def commit(
        self,
        bucket: BucketId,
        key: str,
        version: ObjectVersion,
        data: bytes,
        condition: WriteCondition,
        *,
        op: bytes | None = None,
    ) -> None:
        """Make a stored version the current one, if the condition holds. The bucket is to be confirmed after.

        A version of an upload needs `op`, the attempt that is to make it: NoSuchUpload if it was given up."""
        born = None if version.upload_id else born_of(version.blobs)

        def change(body: bytes) -> Outcome:
            state = state_of(body)
            old = current(state)
            if old is not None and old.upload_id and (old.upload_id, old.etag) == (version.upload_id, version.etag):
                return Outcome()  # this upload has made it already, of these parts; a late repeat is no new write
            check(condition, old)
            if version.upload_id:
                attempt = attempt_of(state, op or b"")
                if attempt is None or attempt.made:
                    raise NoSuchUpload("this attempt to complete the upload was given up, or replaced since it ended")
                state = with_attempt(state, Attempt(attempt.id, attempt.upload, made=True))
            new = replace(state, version, version.modified_ms)
            return Outcome(b"", encode(new), listing_of(version), data)

        await self._registers.change(_key(bucket, key), change, op=op, born=born)

    async def head(self, bucket_name: str, key: str) -> ObjectInfo:
        bucket = await self._buckets.get(bucket_name)
        value = await self._registers.read(_key(bucket.id, key), with_data=True)
        found = current(state_of(body_of(value)))
        if found is None:
            fresh = await self._buckets.get(bucket_name, fresh=True)
            if fresh.id != bucket.id:  # deleted and made again since it was cached
                value = await self._registers.read(_key(fresh.id, key), with_data=True)
                found = current(state_of(body_of(value)))
        if found is None:
            raise NoSuchKey(f"there is no object {key!r} in bucket {bucket_name!r}")
        return info_of(bucket_name, key, found, value.data)

    async def read(self, info: ObjectInfo, offset: int, length: int) -> AsyncIterator[Buffer]:
        """Verified bytes of a version. When it was replaced and collected meanwhile: QuorumLost."""
        assert 0 <= offset and 0 <= length and offset + length <= info.size
        if not info.blobs:
            yield memoryview(info.data)[offset : offset + length]
            return
        sent = 0
        async for buffer in self._reader.read(info.blobs, offset, length):
            sent += len(buffer)
            yield buffer
        if sent != length:
            raise QuorumLost(f"{sent} of {length} bytes could be read")

    async def delete(self, bucket_name: str, key: str, *, condition: WriteCondition = ALWAYS) -> bool:
        bucket = await self._buckets.get(bucket_name, fresh=True)
        now = self._clock.wall_ms()

        def change(body: bytes) -> Outcome:
            state = state_of(body)
            old = current(state)
            check(condition, old)
            return Outcome(b"\x01", body_with(replace(state, None, now))) if old else Outcome(b"\x00")

        return await self._registers.change(_key(bucket.id, key), change) == b"\x01"

    async def list(
        self,
        bucket_name: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = limits.LIST_PAGE_MAX,
    ) -> ObjectPage:
        bucket = await self._buckets.get(bucket_name, fresh=True)
        lead, cut, start = prefix.encode(), delimiter.encode(), after.encode()
        first = max(lead, _after_token(start, lead, cut)) if start else lead
        page = ObjectPage([], [], False, "")
        last = ""
        scan = BucketScan(
            self._registers, self._peers, bucket.id, Space.OBJECT, start=first, end=after_prefix(lead), expect=limit + 1
        )
        while (pair := await scan.next()) is not None:
            if len(page.entries) + len(page.prefixes) >= limit:
                return ObjectPage(page.entries, page.prefixes, limit > 0, last)
            name, listing = pair
            at = name.find(cut, len(lead)) if cut else -1
            if at >= 0:
                common = name[: at + len(cut)]
                last = common.decode()
                page.prefixes.append(last)
                beyond = after_prefix(common)
                if not beyond:
                    break
                scan.skip_to(beyond)
            else:
                last = name.decode()
                entry = decode(listing, ListEntry)
                page.entries.append(ObjectEntry(last, entry.size, entry.etag, entry.modified_ms, entry.extra))
        return page


def after_prefix(prefix: bytes) -> bytes:
    """The smallest name above every name with this prefix; b"" if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b""


def _after_token(start: bytes, lead: bytes, cut: bytes) -> bytes:
    """Where a page begins that follows `start`, which may be a key or a common prefix already shown."""
    if cut and start.startswith(lead):
        at = start.find(cut, len(lead))
        if at >= 0 and at + len(cut) == len(start):
            return after_prefix(start) or start + b"\x00"
    return start + b"\x00"


def info_of(bucket: str, key: str, version: ObjectVersion, data: bytes) -> ObjectInfo:
    return ObjectInfo(
        bucket,
        key,
        version.version_id.hex(),
        version.size,
        version.etag,
        version.modified_ms,
        version.headers,
        version.parts,
        version.blobs,
        data,
    )


def _key(bucket: BucketId, key: str) -> RegisterKey:
    return RegisterKey(bucket, Space.OBJECT, key.encode())
