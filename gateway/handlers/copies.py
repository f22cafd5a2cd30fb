"""CopyObject and UploadPartCopy: the bytes flow from the engine to the engine through bounded buffers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from gateway.handlers.acls import acl_for_write
from gateway.handlers.call import Call
from gateway.handlers.encryption import sealing_for_write, sealing_of_source, shown, unseal_for
from gateway.handlers.lifecycle import expiration_headers
from gateway.handlers.locks import lock_for_write
from gateway.handlers.objects import version_headers
from gateway.handlers.responses import Document, answer_in_time, close_iterator
from gateway.s3 import answers, checksums, tags
from gateway.s3.conditions import check_source, write_condition
from gateway.s3.encryption import wanted as wanted_encryption
from gateway.s3.errors import S3Error
from gateway.s3.listing import part_number
from gateway.s3.metadata import checksum_headers, copied_headers
from gateway.s3.ranges import Slice, parse_copy_range
from gateway.s3.router import copy_source
from objstore.engine.types import ObjectInfo
from objstore.model import limits, notification
from objstore.model.errors import IsDeleteMarker
from objstore.ports import Buffer


class _Transfer:
    """The bytes of a slice on their way, with a checksum of them if one is to be stored with the copy."""

    def __init__(self, call: Call, info: ObjectInfo, wanted: Slice, algorithm: str | None) -> None:
        self._source = call.engine.read(info, wanted.offset, wanted.length, sealing_of_source(call, info))
        self._algorithm = algorithm
        self._hasher = checksums.hasher(algorithm) if algorithm else None

    async def chunks(self) -> AsyncIterator[Buffer]:
        try:
            async for chunk in self._source:
                if self._hasher is not None:
                    self._hasher.update(chunk)
                yield chunk
        finally:
            await close_iterator(self._source)

    def finish(self) -> dict[str, str]:
        if self._hasher is None or self._algorithm is None:
            return {}
        value = checksums.encode(self._hasher.digest())
        return {checksums.header_name(self._algorithm): value, checksums.TYPE_HEADER: checksums.FULL_OBJECT}


async def copy_object(call: Call) -> web.StreamResponse:
    info = await _source(call)
    if info.size > limits.PUT_SIZE_MAX:
        raise S3Error("InvalidRequest", "The source is larger than 5 GiB: copy it in parts with UploadPartCopy.")
    replaced = call.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    changed = replaced or wanted_encryption(call.headers)
    if (info.bucket, info.key) == (call.bucket, call.key) and info.latest and not changed:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )
    headers = copied_headers(call.headers, info.headers) | await acl_for_write(call)
    tagged = tags.of_copy(call.headers, info.tags)
    lock = await lock_for_write(call)
    condition = write_condition(call.headers)
    sealing = await sealing_for_write(call)
    sealing_of_source(call, info)  # refused before a late answer has begun
    algorithm = _named_algorithm(call.headers) or _stored_algorithm(info) or call.settings.default_checksum

    async def work() -> Document:
        transfer = _Transfer(call, info, Slice(0, info.size, info.size), algorithm)
        copy = await call.engine.put_object(
            call.bucket,
            call.key,
            transfer.chunks(),
            info.size,
            headers,
            condition=condition,
            finish=transfer.finish,
            tags=tagged,
            lock=lock,
            sealing=sealing,
            event=notification.COPY,
        )
        body = answers.copy_object(copy.etag, copy.modified_ms, checksum_headers(copy.headers))
        beside = {**version_headers(copy), **_source_headers(info), **shown(call, sealing)}
        return Document(body, beside | await expiration_headers(call, copy))

    return await answer_in_time(call, work())


async def copy_part(call: Call) -> web.StreamResponse:
    number = part_number(call.target.query)
    upload_id = call.target.query.get("uploadId") or ""
    info = await _source(call)
    range_header = call.headers.get("x-amz-copy-source-range")
    wanted = parse_copy_range(range_header, info.size)
    if wanted.length > limits.PUT_SIZE_MAX:
        raise S3Error("InvalidRequest", "One part has at most 5 GiB: copy a range of the source.")
    upload = await call.engine.list_parts(call.bucket, call.key, upload_id, limit=1)
    unseal = unseal_for(call)
    unseal(upload.sealed)  # refused before a late answer has begun
    sealing_of_source(call, info)
    algorithm = _named_algorithm(upload.headers) or call.settings.default_checksum

    async def work() -> Document:
        transfer = _Transfer(call, info, wanted, algorithm)
        part = await call.engine.put_part(
            call.bucket,
            call.key,
            upload_id,
            number,
            transfer.chunks(),
            wanted.length,
            finish=transfer.finish,
            unseal=unseal,
        )
        body = answers.copy_part(part.etag, part.modified_ms, checksum_headers(part.headers))
        return Document(body, {**_source_headers(info), **shown(call, upload.sealed)})

    return await answer_in_time(call, work())


async def _source(call: Call) -> ObjectInfo:
    source = copy_source(call.headers["x-amz-copy-source"])
    try:
        info = await call.access.look_up(source.bucket, source.key, source.version_id)
    except IsDeleteMarker as marker:
        if marker.named:
            raise S3Error("InvalidRequest", "The source of a copy may not be a delete marker.") from None
        raise
    check_source(call.headers, "x-amz-copy-source-if-", info.etag, info.modified_ms)
    return info


def _source_headers(info: ObjectInfo) -> dict[str, str]:
    return {"x-amz-copy-source-version-id": info.version_id} if info.versioned else {}


def _named_algorithm(headers: Mapping[str, str]) -> str | None:
    """What x-amz-checksum-algorithm asks for."""
    name = headers.get(checksums.ALGORITHM_HEADER)
    return checksums.algorithm_named(checksums.ALGORITHM_HEADER, name) if name else None


def _stored_algorithm(info: ObjectInfo) -> str | None:
    """The checksum that the source has, if any: its copy gets the same kind."""
    return next((each for each in checksums.ALGORITHMS if checksums.header_name(each) in info.headers), None)
