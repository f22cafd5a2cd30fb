"""Multipart uploads: one register per upload, one per part, and one change on the object's key to complete.

Parts never contend with each other. A Complete lists an *attempt* in the object's own register, then fixes its parts
in the upload's register under it; the attempt's id is the operation that commits the object, and whoever finds it can
finish it. Before another attempt or an abort takes its place it is taken off the list, and one that is not listed
cannot commit: so at most one attempt ever makes the object, and an upload that says `aborted` never made one (INV-9).
Blobs of parts are collected only after the upload has ended, so a part that is uploaded again never takes away bytes
that a concurrent Complete has chosen. Long after its end an upload is forgotten: an id that is not there any more
means the same as one that has ended (NoSuchUpload), and comes never back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from objstore.engine.announcing import announcement
from objstore.engine.buckets import Buckets
from objstore.engine.keystate import attempt_of, made_by, state_of, turned, with_attempt, without_attempts
from objstore.engine.lists import after_prefix
from objstore.engine.objects import BecameVersioned, Objects, info_of
from objstore.engine.registers import Registers
from objstore.engine.sealing import Unseal
from objstore.engine.types import (
    ALWAYS,
    ObjectInfo,
    PartInfo,
    PartPage,
    UploadEntry,
    UploadPage,
    WriteCondition,
)
from objstore.engine.uploadstate import ENDED, ended_as, part_key, upload_key
from objstore.engine.writing import BlobWriter
from objstore.model import limits, notification
from objstore.model.context import current_origin
from objstore.model.errors import (
    InvalidPart,
    InvalidPartOrder,
    NoSuchUpload,
    PartTooSmall,
)
from objstore.model.ids import BucketId, uuid7
from objstore.model.locking import with_default
from objstore.model.records import (
    NO_LOCK,
    Attempt,
    BucketState,
    ListEntry,
    Lock,
    ObjectVersion,
    PartState,
    RegisterKey,
    Retired,
    Space,
    UploadState,
    decode,
    encode,
    part_name,
    split_upload_name,
    upload_name,
)
from objstore.model.sealed import Sealed
from objstore.ports import Buffer, Clock, Random
from objstore.register.change import Outcome, body_of

ATTEMPTS_MAX = 16  # of one Complete among rivals


class Multipart:
    def __init__(
        self,
        registers: Registers,
        buckets: Buckets,
        objects: Objects,
        writer: BlobWriter,
        clock: Clock,
        random: Random,
    ) -> None:
        self._registers = registers
        self._buckets = buckets
        self._objects = objects
        self._writer = writer
        self._clock = clock
        self._random = random

    async def create(
        self,
        bucket_name: str,
        key: str,
        headers: dict[str, str],
        *,
        tags: Mapping[str, str] | None = None,
        lock: Lock = NO_LOCK,
        sealed: Sealed | None = None,
    ) -> str:
        bucket = await self._buckets.get(bucket_name, fresh=True)
        now = self._clock.wall_ms()
        upload = uuid7(now, self._random.bytes(10))
        lock = with_default(lock, bucket.config, now)
        state = UploadState(key.encode(), now, headers, tags=dict(tags or {}), lock=lock, sealed=sealed)
        new = Outcome(b"", encode(state), encode(ListEntry(0, "", now)))
        await self._registers.change(upload_key(bucket.id, key.encode(), upload), lambda _: new)
        await self._buckets.still(bucket_name, bucket.id)
        return upload.hex()

    async def put_part(
        self,
        bucket_name: str,
        key: str,
        upload_id: str,
        number: int,
        body: AsyncIterator[Buffer],
        size: int,
        *,
        content_md5: bytes | None = None,
        finish: Callable[[], dict[str, str]] | None = None,
        unseal: Unseal | None = None,
        admit: Callable[[Mapping[str, str]], None] | None = None,
    ) -> PartInfo:
        """Before the first byte is taken, `admit` may refuse the headers of the upload that the part belongs to, and
        `unseal` is asked for its key."""
        bucket = await self._buckets.get(bucket_name)
        upload = _parse_id(upload_id)
        state = await self._open_upload(bucket.id, key, upload)
        if admit is not None:
            admit(state.headers)
        sealing = unseal(state.sealed) if unseal is not None else None
        assert sealing is not None or state.sealed is None, "a part of an encrypted upload needs its key"
        about = {"upload-id": upload_id, "part-number": str(number)}
        stored = await self._objects.store(
            bucket, bucket_name, key, body, size, about, content_md5, inline=False, sealing=sealing
        )
        try:
            headers = finish() if finish is not None else {}
        except BaseException:
            self._writer.discard(stored.blobs)
            raise
        now = self._clock.wall_ms()
        part = PartState(number, size, stored.md5.hex(), now, headers, stored.blobs, key=key.encode())
        await self._registers.change(part_key(bucket.id, upload, number), _replace_part(part))
        await self._open_upload(bucket.id, key, upload)  # ended meanwhile: the part does not count
        await self._buckets.still(bucket_name, bucket.id)
        return PartInfo(number, size, part.etag, now, headers, state.sealed)

    async def list_parts(
        self, bucket_name: str, key: str, upload_id: str, *, after: int = 0, limit: int = limits.LIST_PAGE_MAX
    ) -> PartPage:
        bucket = await self._buckets.get(bucket_name)
        upload = _parse_id(upload_id)
        state = await self._open_upload(bucket.id, key, upload)
        parts = await self._parts(bucket.id, upload, after, limit + 1)
        shown = [PartInfo(p.number, p.size, p.etag, p.modified_ms, p.headers) for p in parts[:limit]]
        truncated = len(parts) > limit and limit > 0
        return PartPage(state.headers, shown, truncated, shown[-1].number if shown else after, state.sealed)

    async def list_uploads(
        self,
        bucket_name: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_upload: str = "",
        limit: int = limits.LIST_PAGE_MAX,
    ) -> UploadPage:
        """Open uploads by key, then creation. after_key alone: keys above it; with after_upload: also later
        uploads of that key. A common prefix counts as a key."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        lead, cut = prefix.encode(), delimiter.encode()
        start = lead
        if after_key:
            name = after_key.encode()
            if after_upload:
                start = max(lead, upload_name(name, _parse_id(after_upload)) + b"\x00")
            elif cut and name.endswith(cut) and name.startswith(lead):
                start = after_prefix(name) or name
            else:
                start = max(lead, name + b"\x01")
        scan = self._registers.scan(bucket.id, Space.UPLOAD, start=start, end=after_prefix(lead), expect=limit + 1)
        page = UploadPage([], [], False, "", "")
        last = ("", "")
        while (pair := await scan.next()) is not None:
            if len(page.uploads) + len(page.prefixes) >= limit:
                return UploadPage(page.uploads, page.prefixes, limit > 0, *last)
            raw_key, upload = split_upload_name(pair[0])
            at = raw_key.find(cut, len(lead)) if cut else -1
            if at >= 0:
                common = raw_key[: at + len(cut)]
                last = (common.decode(), "")
                page.prefixes.append(last[0])
                scan.skip_to(after_prefix(common))
            else:
                last = (raw_key.decode(), upload.hex())
                page.uploads.append(UploadEntry(*last, decode(pair[1], ListEntry).modified_ms))
        return page

    async def complete(
        self,
        bucket_name: str,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        condition: WriteCondition = ALWAYS,
        headers: dict[str, str] | None = None,
        part_checksums: bytes = b"",
    ) -> ObjectInfo:
        """Join the named (part number, ETag) pairs. A repeat after success gives the same answer.

        Several may run at once: those that name the same parts share one attempt, and its operation is applied
        once; others give the attempt before up first. After a condition failed the upload stays as it is."""
        bucket = await self._buckets.get(bucket_name, fresh=True)
        upload = _parse_id(upload_id)
        etag = _joint_etag(parts)
        for _ in range(ATTEMPTS_MAX):
            try:
                state = await self._upload(bucket.id, key, upload)
            except NoSuchUpload:
                made = await self._made(bucket.id, key, upload)
                if made is None or made.etag != etag:
                    raise
                # it was forgotten long after it had made the object
                return info_of(bucket_name, key, made, b"", versioned=bool(bucket.versioning))
            if state.status == "aborted":
                break
            version = self._objects.new_version(
                sum(state.parts),
                state.etag,
                state.headers,
                state.blobs,
                mode=bucket.versioning,
                parts=state.parts,
                upload_id=upload,
                tags=state.tags,
                lock=state.lock,
                sealed=state.sealed,
                part_checksums=state.part_checksums,
            )
            if state.status == "completed":
                if state.etag != etag:
                    raise InvalidPart("this upload was completed already, with other parts")
                return await self._result(bucket_name, bucket, key, upload, version)
            if state.status == "completing" and state.etag == etag:
                try:
                    await self._objects.commit(
                        bucket.id,
                        key,
                        version,
                        b"",
                        condition,
                        announcement(bucket.config, bucket_name, key, current_origin(), bucket.versioning),
                        notification.COMPLETE,
                        mode=bucket.versioning,
                        op=state.attempt,
                    )
                except BecameVersioned:
                    bucket = await self._buckets.get(bucket_name, fresh=True)
                    continue
                except NoSuchUpload:
                    if await self._upload(bucket.id, key, upload) == state:
                        # given up by somebody who has not put another in its place, or made and then replaced
                        await self._choose(bucket.id, key, upload, state, parts, headers or {}, part_checksums)
                    continue
                await self._buckets.confirm(bucket_name, bucket.id)
                await self._end(bucket.id, key, upload, state, "completed")
                return await self._result(bucket_name, bucket, key, upload, version)
            await self._choose(bucket.id, key, upload, state, parts, headers or {}, part_checksums)
        raise _no_upload(upload_id)

    async def _result(
        self, bucket_name: str, bucket: BucketState, key: str, upload: bytes, made: ObjectVersion
    ) -> ObjectInfo:
        """The version that this upload made, as it stands in the register if the key still has it."""
        found = await self._made(bucket.id, key, upload) or made
        return info_of(bucket_name, key, found, b"", versioned=bool(bucket.versioning))

    async def _made(self, bucket: BucketId, key: str, upload: bytes) -> ObjectVersion | None:
        """The version that this upload made, while the key has it."""
        body = body_of(await self._registers.read(RegisterKey(bucket, Space.OBJECT, key.encode())))
        return made_by(state_of(body), upload)

    async def _give_up(
        self, bucket: BucketId, key: str, upload: bytes, state: UploadState, instead: Attempt | None = None
    ) -> bool:
        """Make sure that the attempt of `state`, if there is one, will never make the object (INV-9), and list another.

        False: it has made it already; then the upload is completed here, whoever was about to do so."""
        if state.status != "completing" and instead is None:
            return True

        def change(body: bytes) -> Outcome:
            known = state_of(body)
            old = attempt_of(known, state.attempt)
            if made_by(known, upload) is not None or (old is not None and old.made):
                return Outcome(b"made")
            new = without_attempts(known, frozenset((state.attempt,)))
            new = with_attempt(new, instead) if instead is not None else new
            return turned(known, new)

        if await self._registers.change(RegisterKey(bucket, Space.OBJECT, key.encode()), change) == b"made":
            if state.status == "completing":
                await self._end(bucket, key, upload, state, "completed")
            return False
        return True

    async def _withdraw(self, bucket: BucketId, key: str, attempt: Attempt) -> None:
        """Off the list: no upload names it."""

        def change(body: bytes) -> Outcome:
            known = state_of(body)
            return turned(known, without_attempts(known, frozenset((attempt.id,))))

        await self._registers.change(RegisterKey(bucket, Space.OBJECT, key.encode()), change)

    async def _check_parts(self, bucket: BucketId, upload: bytes, named: Sequence[tuple[int, str]]) -> list[PartState]:
        """The parts that are named, as they are stored. Raises InvalidPart and PartTooSmall."""
        stored = {part.number: part for part in await self._parts(bucket, upload, 0, limits.PARTS_MAX)}
        chosen: list[PartState] = []
        for number, etag in named:
            part = stored.get(number)
            if part is None or part.etag != etag.strip('"'):
                raise InvalidPart(
                    f"part {number} was not uploaded with ETag {etag}; list the parts to see what is there"
                )
            chosen.append(part)
        for part in chosen[:-1]:
            if part.size < limits.PART_SIZE_MIN:
                raise PartTooSmall(f"part {part.number} has {part.size} bytes; all but the last need 5 MiB")
        return chosen

    async def _choose(
        self,
        bucket: BucketId,
        key: str,
        upload: bytes,
        before: UploadState,
        named: Sequence[tuple[int, str]],
        headers: dict[str, str],
        part_checksums: bytes,
    ) -> None:
        """Fix the parts in the upload's register under a new attempt, the one of `before` given up.

        No effect when that one has made the object, or when the upload has changed since `before`."""
        chosen = await self._check_parts(bucket, upload, named)
        attempt = Attempt(uuid7(self._clock.wall_ms(), self._random.bytes(10)), upload)
        if not await self._give_up(bucket, key, upload, before, attempt):
            return

        def change(body: bytes) -> Outcome:
            if not body:
                raise _no_upload(upload.hex())
            state = decode(body, UploadState)
            if (state.status, state.attempt) != (before.status, before.attempt):
                return Outcome(b"other")
            fixed = UploadState(
                state.key,
                state.created_ms,
                {**state.headers, **headers},
                "completing",
                tuple(blob for part in chosen for blob in part.blobs),
                tuple(part.size for part in chosen),
                _joint_etag(named),
                attempt.id,
                tags=state.tags,
                lock=state.lock,
                sealed=state.sealed,
                part_checksums=part_checksums,
            )
            return Outcome(b"", encode(fixed), encode(ListEntry(0, "", state.created_ms)))

        if await self._registers.change(upload_key(bucket, key.encode(), upload), change) == b"other":
            await self._withdraw(bucket, key, attempt)

    async def abort(self, bucket_name: str, key: str, upload_id: str) -> None:
        """NoSuchUpload when it has ended already, also when a Complete wins while this runs."""
        bucket = await self._buckets.get(bucket_name)
        upload = _parse_id(upload_id)
        while True:
            state = await self._upload(bucket.id, key, upload)
            if state.status in ENDED or not await self._give_up(bucket.id, key, upload, state):
                raise _no_upload(upload_id)
            if await self._end(bucket.id, key, upload, state, "aborted"):
                return

    async def _end(self, bucket: BucketId, key: str, upload: bytes, before: UploadState, becomes: str) -> bool:
        """End the upload if it is still as in `before`; it is not listed any more."""
        now = self._clock.wall_ms()

        def change(body: bytes) -> Outcome:
            if not body:
                raise _no_upload(upload.hex())
            state = decode(body, UploadState)
            if (state.status, state.attempt) != (before.status, before.attempt):
                return Outcome(b"other")
            return Outcome(b"done", encode(ended_as(state, becomes, now)))

        return await self._registers.change(upload_key(bucket, key.encode(), upload), change) == b"done"

    async def _upload(self, bucket: BucketId, key: str, upload: bytes) -> UploadState:
        body = body_of(await self._registers.read(upload_key(bucket, key.encode(), upload)))
        if not body:
            raise _no_upload(upload.hex())
        return decode(body, UploadState)

    async def _open_upload(self, bucket: BucketId, key: str, upload: bytes) -> UploadState:
        state = await self._upload(bucket, key, upload)
        if state.status in ENDED:
            raise _no_upload(upload.hex())
        return state

    async def _parts(self, bucket: BucketId, upload: bytes, after: int, limit: int) -> list[PartState]:
        if limit <= 0 or after >= 0xFFFF:
            return []
        found = await self._registers.scan_all(
            bucket, Space.PART, start=part_name(upload, after + 1), end=after_prefix(upload), limit=limit
        )
        parts: list[PartState] = []
        for i in range(0, len(found), 64):
            reads = (self._registers.read(RegisterKey(bucket, Space.PART, name)) for name, _ in found[i : i + 64])
            bodies = [body_of(value) for value in await asyncio.gather(*reads)]
            parts += [decode(body, PartState) for body in bodies if body]
        return parts


def _joint_etag(named: Sequence[tuple[int, str]]) -> str:
    """MD5 of the parts' MD5s, and their number. Raises InvalidPart and InvalidPartOrder."""
    if not named:
        raise InvalidPart("CompleteMultipartUpload names no part")
    numbers = [number for number, _ in named]
    if any(b <= a for a, b in pairwise(numbers)):
        raise InvalidPartOrder("part numbers must rise")
    digest = hashlib.md5(usedforsecurity=False)
    for number, etag in named:
        try:
            digest.update(bytes.fromhex(etag.strip('"')))
        except ValueError:
            raise InvalidPart(f"part {number} cannot have the ETag {etag}") from None
    return f"{digest.hexdigest()}-{len(named)}"


def _replace_part(part: PartState) -> Callable[[bytes], Outcome]:
    def change(body: bytes) -> Outcome:
        old = decode(body, PartState) if body else None
        retired = (*old.retired, *(Retired(blob, part.modified_ms) for blob in old.blobs)) if old else ()
        new = msgspec.structs.replace(part, retired=retired)
        return Outcome(b"", encode(new), encode(ListEntry(part.size, part.etag, part.modified_ms)))

    return change


def _no_upload(upload_id: str) -> NoSuchUpload:
    return NoSuchUpload(f"there is no open multipart upload {upload_id}; it was completed, aborted or never made")


def _parse_id(upload_id: str) -> bytes:
    try:
        raw = bytes.fromhex(upload_id)
    except ValueError:
        raise _no_upload(upload_id) from None
    if len(raw) != 16:
        raise _no_upload(upload_id)
    return raw
