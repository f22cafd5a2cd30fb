"""PutObject with x-amz-write-offset-bytes: append to an object, or make it."""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.acls import acl_for_write
from gateway.handlers.bodies import upload
from gateway.handlers.call import Call
from gateway.handlers.encryption import opened, sealing_for_write, shown
from gateway.handlers.lifecycle import expiration_headers
from gateway.handlers.locks import lock_for_write
from gateway.handlers.responses import empty
from gateway.s3 import acls, append, checksums, encryption, tags
from gateway.s3.conditions import write_condition
from gateway.s3.errors import S3Error
from gateway.s3.metadata import checksum_headers, stored_headers
from gateway.s3.payload import Payload
from objstore.engine.sealing import Sealing
from objstore.engine.types import ObjectInfo
from objstore.model.errors import NoSuchKey


async def append_object(call: Call) -> web.StreamResponse:
    offset = append.write_offset(call.headers)
    headers = stored_headers(call.headers)
    condition = write_condition(call.headers)
    base = await _base(call, offset)
    algorithm = call.settings.default_checksum
    if base is None:
        await lock_for_write(call)  # refuses what needs a versioned bucket
        headers |= await acl_for_write(call)
    else:
        append.check_headers(call.headers, headers, base.headers)
        if acls.is_asked(call.headers):
            raise S3Error("InvalidRequest", "An append cannot change the ACL of the object.")
        algorithm = checksums.to_continue(base.headers)
    payload = Payload(call.headers, call.auth, default_algorithm=algorithm)
    if not payload.length:
        raise S3Error("InvalidRequest", "Request body cannot be empty when 'write offset' is specified.")

    def finish() -> dict[str, str]:
        added = payload.finish()
        return checksums.appended(base.headers, algorithm, added, payload.length) if base is not None else added

    sealing = await _sealing(call, base)
    info = await call.engine.append_object(
        call.bucket,
        call.key,
        base,
        upload(call, payload),
        payload.length,
        headers,
        condition=condition,
        content_md5=payload.content_md5,
        finish=finish,
        tags=tags.from_header(call.headers),
        sealing=sealing,
    )
    answer = {"ETag": f'"{info.etag}"', append.SIZE_HEADER: str(info.size), **checksum_headers(info.headers)}
    answer |= await expiration_headers(call, info)
    return empty(headers={**answer, **shown(call, sealing)})


async def _base(call: Call, offset: int) -> ObjectInfo | None:
    """What is appended to; None: nothing is there yet. The commit is refused unless that is still so."""
    try:
        base = await call.engine.head_object(call.bucket, call.key)
    except NoSuchKey:
        base = None
    if offset != (base.size if base is not None else 0):
        raise S3Error("InvalidWriteOffset")
    return base


async def _sealing(call: Call, base: ObjectInfo | None) -> Sealing | None:
    if base is None:
        return await sealing_for_write(call)
    wanted = encryption.wanted(call.headers)
    append.check_encryption(base.sealed, wanted)
    return opened(call, base.sealed, wanted.customer, call.bucket)
