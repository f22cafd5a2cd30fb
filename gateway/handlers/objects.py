"""PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from gateway.handlers.bodies import read_document, upload
from gateway.handlers.call import Call
from gateway.handlers.responses import as_s3_error, empty, stream, xml
from gateway.s3 import answers
from gateway.s3.bodies import DeleteEntry, parse_delete
from gateway.s3.checksums import declared
from gateway.s3.conditions import (
    Verdict,
    check_read,
    delete_condition,
    entry_condition,
    range_applies,
    write_condition,
)
from gateway.s3.errors import S3Error
from gateway.s3.metadata import CHECKSUM_PREFIX, checksum_headers, shown_headers, stored_headers
from gateway.s3.names import check_key
from gateway.s3.payload import Payload
from gateway.s3.ranges import Slice, parse_range, part_slice
from gateway.s3.router import check_version_id
from gateway.s3.sigv4 import PayloadMode
from objstore.engine.types import ObjectInfo
from objstore.model.errors import ObjstoreError


def written_headers(etag: str, stored: Mapping[str, str]) -> dict[str, str]:
    """What a PUT answers: the ETag and the checksum that was verified and stored."""
    return {"ETag": f'"{etag}"', **checksum_headers(stored)}


async def put_object(call: Call) -> web.StreamResponse:
    headers = stored_headers(call.headers)
    condition = write_condition(call.headers)
    payload = Payload(call.headers, call.auth, default_algorithm=call.settings.default_checksum)
    info = await call.engine.put_object(
        call.bucket,
        call.key,
        upload(call, payload),
        payload.length,
        headers,
        condition=condition,
        content_md5=payload.content_md5,
        finish=payload.finish,
    )
    return empty(headers=written_headers(info.etag, info.headers))


async def get_object(call: Call) -> web.StreamResponse:
    """GET and HEAD: the same headers; only the body is missing from the latter."""
    info = await call.engine.head_object(call.bucket, call.key)
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": answers.http_date(info.modified_ms)}
    verdict = check_read(call.headers, info.etag, info.modified_ms)
    if verdict is Verdict.NOT_MODIFIED:
        return web.StreamResponse(status=304, headers=headers)
    if verdict is Verdict.PRECONDITION_FAILED:
        raise S3Error("PreconditionFailed")
    headers["Accept-Ranges"] = "bytes"
    headers.update(shown_headers(info.headers, call.headers, call.target.query))
    wanted = _wanted_slice(call, info, headers)
    status = 200
    if wanted is None:
        wanted = Slice(0, info.size, info.size)
    else:
        status = 206
        headers["Content-Range"] = wanted.content_range
    if call.request.method == "HEAD":
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = wanted.length
        return response
    return await stream(call, status, headers, call.engine.read(info, wanted.offset, wanted.length), wanted.length)


def _wanted_slice(call: Call, info: ObjectInfo, headers: dict[str, str]) -> Slice | None:
    """The part of the object asked for; None for all of it. Adapts `headers` to a partial answer."""
    number = call.target.query.get("partNumber")
    if number is not None:
        if "range" in call.headers:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
        wanted: Slice | None = part_slice(number, info.size, info.parts)
        if info.parts:
            headers["x-amz-mp-parts-count"] = str(len(info.parts))
        if info.size == 0:
            return None  # nothing that Content-Range could name
    else:
        applies = range_applies(call.headers, info.etag, info.modified_ms)
        wanted = parse_range(call.headers.get("range"), info.size) if applies else None
    if wanted is not None and wanted.length < info.size:
        for name in [name for name in headers if name.startswith(CHECKSUM_PREFIX)]:
            del headers[name]  # they are of the whole object
    return wanted


async def delete_object(call: Call) -> web.StreamResponse:
    await call.engine.delete_object(call.bucket, call.key, condition=delete_condition(call.headers))
    return empty(204)


async def delete_objects(call: Call) -> web.StreamResponse:
    unsigned = call.auth.mode in (PayloadMode.UNSIGNED, PayloadMode.UNSIGNED_TRAILER)
    if unsigned and not _names_a_digest(call.headers):
        text = "DeleteObjects needs Content-MD5, an x-amz-checksum-* header or a signed payload hash."
        raise S3Error("InvalidRequest", text)
    wanted = parse_delete(await read_document(call))
    await call.engine.get_bucket(call.bucket)
    gate = asyncio.Semaphore(call.settings.deletes_at_once)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_delete_one(call, entry, gate)) for entry in wanted.entries]
    return xml(answers.delete_result([task.result() for task in tasks], wanted.quiet))


def _names_a_digest(headers: Mapping[str, str]) -> bool:
    return "content-md5" in headers or "x-amz-trailer" in headers or declared(headers) is not None


async def _delete_one(
    call: Call, entry: DeleteEntry, gate: asyncio.Semaphore
) -> answers.Deleted | answers.DeleteFailure:
    try:
        check_key(entry.key)
        check_version_id(entry.version_id)
        condition = entry_condition(entry.etag, entry.size, entry.modified)
        async with gate:
            await call.engine.delete_object(call.bucket, entry.key, condition=condition)
    except (S3Error, ObjstoreError) as error:
        mapped = as_s3_error(error, call.trace)
        return answers.DeleteFailure(entry.key, mapped.code, mapped.message, entry.version_id)
    return answers.Deleted(entry.key, entry.version_id)
