"""PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiohttp import web

from gateway.handlers.acls import acl_for_write
from gateway.handlers.append import append_object
from gateway.handlers.bodies import read_document, upload
from gateway.handlers.call import Call
from gateway.handlers.encryption import sealing_for_write, sealing_of, shown
from gateway.handlers.lifecycle import expiration_headers
from gateway.handlers.locks import lock_for_write
from gateway.handlers.responses import as_s3_error, empty, stream, xml
from gateway.s3 import actions, answers, locks, tags
from gateway.s3.append import OFFSET_HEADER
from gateway.s3.attributes import part_headers
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
from gateway.s3.metadata import CHECKSUM_PREFIX, checksum_headers, overrides, shown_headers, stored_headers
from gateway.s3.names import check_key
from gateway.s3.payload import Payload
from gateway.s3.ranges import Slice, parse_range, part_slice
from gateway.s3.router import check_version_id
from objstore.engine.tasks import apart
from objstore.engine.types import ObjectInfo
from objstore.model.errors import ObjstoreError


def written_headers(etag: str, stored: Mapping[str, str]) -> dict[str, str]:
    """What a PUT answers: the ETag and the checksum that was verified and stored."""
    return {"ETag": f'"{etag}"', **checksum_headers(stored)}


def version_headers(info: ObjectInfo) -> dict[str, str]:
    """Which version it is, of a bucket that has any."""
    return {"x-amz-version-id": info.version_id} if info.versioned else {}


async def put_object(call: Call) -> web.StreamResponse:
    if OFFSET_HEADER in call.headers:
        return await append_object(call)
    headers = stored_headers(call.headers) | await acl_for_write(call)
    condition = write_condition(call.headers)
    payload = Payload(call.headers, call.auth, default_algorithm=call.settings.default_checksum)
    sealing = await sealing_for_write(call)
    info = await call.engine.put_object(
        call.bucket,
        call.key,
        upload(call, payload),
        payload.length,
        headers,
        condition=condition,
        content_md5=payload.content_md5,
        finish=payload.finish,
        tags=tags.from_header(call.headers),
        lock=await lock_for_write(call),
        sealing=sealing,
    )
    answer = {**written_headers(info.etag, info.headers), **version_headers(info), **shown(call, sealing)}
    answer |= await expiration_headers(call, info)
    return empty(headers=answer)


async def get_object(call: Call) -> web.StreamResponse:
    """GET and HEAD: the same headers; only the body is missing from the latter."""
    if call.access.caller.principal is None and overrides(call.target.query):
        # Else anybody could have a public object shown as a page of this site.
        text = "Request specific response headers cannot be used for anonymous GET requests."
        raise S3Error("InvalidRequest", text)
    info = await call.access.look_up(call.bucket, call.key, call.target.query.get("versionId"))
    sealing = sealing_of(call, info)
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": answers.http_date(info.modified_ms), **version_headers(info)}
    headers |= shown(call, sealing)
    verdict = check_read(call.headers, info.etag, info.modified_ms)
    if verdict is Verdict.NOT_MODIFIED:
        return web.StreamResponse(status=304, headers=headers)
    if verdict is Verdict.PRECONDITION_FAILED:
        raise S3Error("PreconditionFailed")
    headers["Accept-Ranges"] = "bytes"
    headers.update(shown_headers(info.headers, call.headers, call.target.query))
    headers |= tags.count_header(info.tags) | locks.shown_headers(info.lock)
    headers |= await expiration_headers(call, info)
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
    body = call.engine.read(info, wanted.offset, wanted.length, sealing)
    return await stream(call, status, headers, body, wanted.length)


def _wanted_slice(call: Call, info: ObjectInfo, headers: dict[str, str]) -> Slice | None:
    """The part of the object asked for; None for all of it. Adapts `headers` to a partial answer."""
    number = call.target.query.get("partNumber")
    if number is not None:
        if "range" in call.headers:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        wanted: Slice | None = part_slice(number, info.size, info.parts)
        if info.parts:
            headers["x-amz-mp-parts-count"] = str(len(info.parts))
        if info.size == 0:
            return None  # nothing that Content-Range could name
    else:
        applies = range_applies(call.headers, info.etag, info.modified_ms)
        wanted = parse_range(call.headers.get("range"), info.size) if applies else None
    of_whole = [name for name in headers if name.startswith(CHECKSUM_PREFIX)]
    if wanted is not None and wanted.length < info.size:
        for name in of_whole:
            del headers[name]
    if number is not None and of_whole:
        headers |= part_headers(info, int(number))
    return wanted


async def delete_object(call: Call) -> web.StreamResponse:
    version_id = call.target.query.get("versionId")
    did = await call.engine.delete_object(
        call.bucket, call.key, version_id, condition=delete_condition(call.headers), bypass=locks.bypasses(call.headers)
    )
    headers = {}
    if did.marker or version_id is not None:
        headers["x-amz-version-id"] = did.version_id or version_id or ""
    if did.marker or did.was_marker:
        headers["x-amz-delete-marker"] = "true"
    return empty(204, headers)


async def delete_objects(call: Call) -> web.StreamResponse:
    if not _names_a_digest(call.headers):
        text = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        raise S3Error("InvalidRequest", text)
    wanted = parse_delete(await read_document(call))
    await call.engine.get_bucket(call.bucket)
    return xml(answers.delete_result(await apart(_delete_all(call, wanted.entries)), wanted.quiet))


async def _delete_all(call: Call, entries: Sequence[DeleteEntry]) -> list[answers.Deleted | answers.DeleteFailure]:
    gate = asyncio.Semaphore(call.settings.deletes_at_once)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_delete_one(call, entry, gate)) for entry in entries]
    return [task.result() for task in tasks]


def _names_a_digest(headers: Mapping[str, str]) -> bool:
    return "content-md5" in headers or "x-amz-trailer" in headers or declared(headers) is not None


async def _check_delete(call: Call, entry: DeleteEntry) -> None:
    """Each key of a DeleteObjects is decided alone. S3Error AccessDenied."""
    need = actions.of_object("DeleteObject", call.bucket, entry.key, entry.version_id)
    await call.access.check(need)
    if locks.bypasses(call.headers):
        await call.access.check(actions.of_object("BypassGovernanceRetention", call.bucket, entry.key))


async def _delete_one(
    call: Call, entry: DeleteEntry, gate: asyncio.Semaphore
) -> answers.Deleted | answers.DeleteFailure:
    try:
        check_key(entry.key)
        check_version_id(entry.version_id)
        await _check_delete(call, entry)
        condition = entry_condition(entry.etag, entry.size, entry.modified)
        async with gate:
            did = await call.engine.delete_object(
                call.bucket, entry.key, entry.version_id, condition=condition, bypass=locks.bypasses(call.headers)
            )
    except (S3Error, ObjstoreError) as error:
        mapped = as_s3_error(error, call.trace)
        return answers.DeleteFailure(entry.key, mapped.code, mapped.message, entry.version_id)
    marker_id = did.version_id if did.marker or did.was_marker else None
    return answers.Deleted(entry.key, entry.version_id, marker_id)
